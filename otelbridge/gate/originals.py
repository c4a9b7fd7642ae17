"""Originals: the events that floods' records stand for, as the flight recorder keeps them: as they were received.

    block = 0x07 | version | events, 4 bytes | ids, 4 bytes
          | times of receipt, 8 bytes each | lengths, 4 bytes each | bodies | places, 4 bytes each | ids, 36 bytes each

All numbers are little-endian. An event has an id where it was changed since it was received: it is then the one of the
event as it was. No encoded request begins with such a byte (field 0 is illegal). Nothing is worked out before somebody
asks for a replay; so keeping an event costs little, and what it becomes follows the settings of then.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from otelbridge.event import RawEvent

MARK = 0x07
VERSION = 1
HEAD = struct.Struct("<BBII")
UID_BYTES = 36


class UnknownLayout(ValueError):  # noqa: N818 - the name says what is the case
    """A block that another version of the bridge wrote, or that nobody wrote."""


class Original(NamedTuple):
    """One event."""

    received_unix_nano: int
    body: bytes
    uid: bytes
    """Its `log.record.uid`, where it was changed since it was received; else empty."""


def pack_originals(events: Sequence[RawEvent], uids: Mapping[int, bytes]) -> bytes:
    """The events of one stream as a block.

    Args:
        events: some.
        uids: of those that were changed, by their place.
    """
    _, bodies, times, _ = zip(*events, strict=True)
    number = len(bodies)
    return b"".join((
        HEAD.pack(MARK, VERSION, number, len(uids)),
        struct.pack(f"<{number}Q{number}I", *times, *map(len, bodies)),
        *bodies,
        struct.pack(f"<{len(uids)}I", *uids),
        *uids.values(),
    ))  # fmt: skip


def are_originals(content: bytes) -> bool:
    """Whether it is a block of originals, rather than a request."""
    return content[:1] == bytes([MARK])


def read_originals(block: bytes) -> Iterator[Original]:
    """The events of a block.

    Raises:
        UnknownLayout: it is laid out in another way.
    """
    try:
        mark, version, number, changed = HEAD.unpack_from(block)
        if (mark, version) != (MARK, VERSION):
            raise UnknownLayout(f"layout {version}, not {VERSION}")
        if changed > number or number > len(block):
            raise UnknownLayout(f"{number} events in {len(block)} bytes")
        columns = struct.Struct(f"<{number}Q{number}I")
        found = columns.unpack_from(block, HEAD.size)
        places = list(accumulate(found[number:], initial=HEAD.size + columns.size))
        ids = struct.Struct(f"<{changed}I" + f"{UID_BYTES}s" * changed).unpack_from(block, places[-1])
    except struct.error as error:
        raise UnknownLayout(str(error)) from error
    uids = dict(zip(ids[:changed], ids[changed:], strict=True))
    for place, (start, end) in enumerate(pairwise(places)):
        yield Original(found[place], block[start:end], uids.get(place, b""))
