"""Requests in, raw deflate streams out, by the fastest encoder that is installed.

Intel's ISA-L (the package `isal`) makes the same format a fifth of zlib's time, and a little smaller; it has wheels for
x86-64 and 64-bit ARM. Elsewhere, or where it is missing, zlib does it. Whatever made a stream, zlib inflates it.
"""

from __future__ import annotations

import zlib
from types import ModuleType

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]  # what a missing package is

encoder: ModuleType = zlib if isal_zlib is None else isal_zlib
"""As far as it is used here, the one has the other's interface."""
RAW = -zlib.MAX_WBITS
LEVEL = 2
"""Measured in docs/decisions/compression.md, for both."""


def deflated(content: bytes) -> bytes:
    """A stream that ends at a byte and has no final block, so that another one can follow."""
    stream = encoder.compressobj(LEVEL, zlib.DEFLATED, RAW)
    return b"".join((stream.compress(content), stream.flush(zlib.Z_SYNC_FLUSH)))


def inflated(stream: bytes | memoryview, most_bytes: int) -> bytes:
    """What the stream holds, as far as so many bytes.

    Raises:
        zlib.error: it is not a deflate stream.
    """
    return zlib.decompressobj(RAW).decompress(stream, most_bytes)


def checksum(content: bytes) -> int:
    """CRC-32, as zlib's."""
    return int(encoder.crc32(content))
