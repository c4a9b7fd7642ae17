"""Packs requests: once compressed, they are stored, joined end to end and sent as one gzip member as they are.

    packed = mark | length of the request, 4 bytes | its CRC-32, 4 bytes | raw deflate, ending at a byte, not final

A deflate stream is a row of blocks, and one that ends with a flush instead of a final block can be followed by another
(RFC 1951, section 3.2.3): so what was compressed once, before it was stored, goes to the endpoint without being touched
again. The member is one whatever it is made of, as some servers read only the first of several. The mark has the
illegal wire type 7, so no encoded message begins with it.

Small requests are merged before they are compressed, so that each resource appears once: of 400 records of 200 pods, a
third of the bytes is repetition that lies too far back for deflate's window of 32 KiB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from types import ModuleType

from otelbridge.protobuf import read_varint, varint

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]  # what a missing package is

POLYNOMIAL = 0xEDB88320  # of RFC 1952, section 8, without the x**32 that stands beyond the 32 bits
ONE = 1 << 31
BYTE = ONE >> 8  # x**8
MASK = 0xFFFFFFFF
LENGTH_BYTES = 4

encoder: ModuleType = zlib if isal_zlib is None else isal_zlib
"""As far as it is used here, the one has the other's interface."""
RAW = -zlib.MAX_WBITS
LEVEL = 2
"""Measured in docs/decisions/compression.md, for both."""
SENT_LEVEL = LEVEL if isal_zlib is None else 3
"""Of a large request that is compressed when it is sent: 7 % fewer bytes for 4 us a record. The encoder, which packs at
high rates, cannot spare them."""
MARK = 0xB7
HEADER = struct.Struct(">BII")
LEAST_BYTES = 1024
"""A request that is smaller is held as it is: compressing would save a few hundred bytes for 15 to 40 µs."""
LARGE_BYTES = 16 * 1024
"""Smaller parts of one lease are compressed together when they are sent: each alone, they come to twice the bytes. So
what will be sent at once is not packed before; what comes from the disk packed is unpacked."""
PLAIN_BYTES = 256 * 1024
"""Smaller parts stay in memory as they were, too, until they are sent: compressing a whole request takes 1.6 µs a
record, unpacking its parts first would take as much again. A larger batch alone is nearly as small as joined."""
MAX_REQUEST_BYTES = 80 * 1024 * 1024
"""More than any request, of which at most 64 MiB are joined, and any record; so that a damaged length, or one made up,
cannot fill the memory."""
GZIP_HEADER = bytes.fromhex("1f8b08000000000004ff")  # deflate, no name, no time, fastest, unknown system (RFC 1952)
GZIP_TRAILER = struct.Struct("<II")
FINAL_BLOCK = b"\x03\x00"  # empty
RESOURCE = b"\x0a"
"""The tag of ExportLogsServiceRequest.resource_logs and of ResourceLogs.resource: number 1, length-delimited."""


def joined_crc(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of two pieces joined, from that of each and the length of the second."""
    for place, digit in enumerate(second_bytes.to_bytes(LENGTH_BYTES, "little")):
        if digit:
            first = _multiplied(first, _power(digit << 8 * place))
    return first ^ second


@lru_cache(maxsize=256 * LENGTH_BYTES)  # all that are asked for
def _power(exponent: int) -> int:
    """The polynomial x to the power of eight times the exponent."""
    power, square = ONE, BYTE
    while exponent:
        if exponent & 1:
            power = _multiplied(power, square)
        square = _multiplied(square, square)
        exponent >>= 1
    return power


def _multiplied(left: int, right: int) -> int:
    """The product of two polynomials, modulo that of the CRC."""
    product = 0
    while left:
        if left & ONE:
            product ^= right
        left = left << 1 & MASK
        right = right >> 1 ^ POLYNOMIAL if right & 1 else right >> 1
    return product


def deflated(content: bytes, level: int) -> bytes:
    """A stream that ends at a byte and has no final block, so that another one can follow."""
    stream = encoder.compressobj(level, zlib.DEFLATED, RAW)
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


class DamagedRequest(ValueError):  # noqa: N818  # the name says what is the case
    """What is held cannot be unpacked, or is not what was packed."""


def packed(request: bytes, *, least_bytes: int = LEAST_BYTES) -> bytes:
    """The form in which a request is held; the request itself if it is small, or packing would not make it smaller."""
    if len(request) < least_bytes:
        return request
    smaller = _packed(request, LEVEL)
    return smaller if len(smaller) < len(request) else request


def plain_copy(request: bytes, held: bytes) -> bytes:
    """The request, where it is worth keeping beside its packed form; empty where it is not."""
    return request if held is not request and len(request) < PLAIN_BYTES else b""


def is_packed(held: bytes) -> bool:
    """Whether it is a packed request, rather than an encoded one."""
    return len(held) >= HEADER.size and held[0] == MARK


def request_bytes(held: bytes) -> int:
    """The length of the request, however it is held."""
    return int(HEADER.unpack_from(held)[1]) if is_packed(held) else len(held)


def unpacked(held: bytes) -> bytes:
    """The encoded request.

    Raises:
        DamagedRequest: it is not what was packed.
    """
    if not is_packed(held):
        return held
    _, size, expected = HEADER.unpack_from(held)
    if size > MAX_REQUEST_BYTES:
        raise DamagedRequest(f"a request of {size} bytes")
    try:
        # One byte more than there should be: enough to see that there is more, and not enough for a bomb.
        request = inflated(memoryview(held)[HEADER.size :], size + 1)
    except zlib.error as error:
        raise DamagedRequest(str(error)) from error
    if len(request) != size or checksum(request) != expected:
        raise DamagedRequest("its bytes are not those that were packed")
    return request


def is_whole(held: bytes) -> bool:
    """Whether it can be unpacked."""
    try:
        unpacked(held)
    except DamagedRequest:
        return False
    return True


def merged(requests: Sequence[bytes]) -> bytes:
    """The requests as one, a ResourceLogs per resource; joined end to end where one is not laid out as ours.

    Records of one resource stay in their order.
    """
    groups: dict[bytes, list[bytes]] = {}
    try:
        for request in requests:
            _sort_in(request, groups)
    except (IndexError, ValueError):
        return b"".join(requests)
    parts: list[bytes] = []
    for resource, rests in sorted(groups.items()):
        size = len(resource) + sum(map(len, rests))
        parts += (RESOURCE, varint(size), resource, *rests)
    return b"".join(parts)


def _sort_in(request: bytes, groups: dict[bytes, list[bytes]]) -> None:
    """Adds a request's ResourceLogs to those of the same resource; both are what is encoded, without a copy between.

    Raises:
        IndexError, ValueError: it is not a row of ResourceLogs that begin with their resource.
    """
    at, end = 0, len(request)
    while at < end:
        size, start = read_varint(request, at + 1)
        stop = start + size
        resource_size, resource_start = read_varint(request, start + 1)
        rest = resource_start + resource_size
        if request[at] != RESOURCE[0] or request[start] != RESOURCE[0] or not rest <= stop <= end:
            raise ValueError("another layout")
        groups.setdefault(request[start:rest], []).append(request[rest:stop])
        at = stop


def joined(parts: Sequence[bytes]) -> bytes:
    """Several held requests as one, packed where one of them is large; records of one resource stay in order."""
    if len(parts) == 1:
        return parts[0]
    opened = [_opened(held) for held in parts]
    if not any(map(is_packed, opened)):
        return merged(opened)
    size = crc = 0
    streams: list[bytes | memoryview] = [b""]
    for as_it_is, run in groupby(opened, is_packed):
        for held in run if as_it_is else [_packed(merged(list(run)), LEVEL)]:
            _, more, its_crc = HEADER.unpack_from(held)
            crc = joined_crc(crc, its_crc, more)
            size += more
            streams.append(memoryview(held)[HEADER.size :])
    streams[0] = HEADER.pack(MARK, size, crc)
    return b"".join(streams)


def gzip_member(held: bytes) -> bytes:
    """The request compressed, as an endpoint takes it with `gzip`."""
    if not is_packed(held):
        held = _packed(held, SENT_LEVEL if len(held) >= PLAIN_BYTES else LEVEL)
    _, size, crc = HEADER.unpack_from(held)
    stream = memoryview(held)[HEADER.size :]
    return b"".join((GZIP_HEADER, stream, FINAL_BLOCK, GZIP_TRAILER.pack(crc, size)))


def _opened(held: bytes) -> bytes:
    """A small request as it was; a large one, and a damaged one, as it is held."""
    if request_bytes(held) >= LARGE_BYTES:
        return held
    try:
        return unpacked(held)
    except DamagedRequest:
        return held  # the endpoint, or whoever unpacks the whole request, finds the damage


def _packed(request: bytes, level: int) -> bytes:
    return HEADER.pack(MARK, len(request), checksum(request)) + deflated(request, level)
