"""Merges encoded requests so that each resource appears once, with like resources beside one another.

Joined end to end they are one request too, but each brings its own resources: of 400 records of 200 pods, a third of
the bytes is repetition that lies too far back for deflate's window of 32 KiB.
Field numbers: ExportLogsServiceRequest.resource_logs 1, ResourceLogs.resource 1.
"""

from __future__ import annotations

from collections.abc import Sequence

RESOURCE = b"\x0a"
"""The tag of both fields: number 1, length-delimited."""
LOW_BITS, MORE = 0x7F, 0x80
"""Of a byte of a varint."""


def merged(requests: Sequence[bytes]) -> bytes:
    """The requests as one, a ResourceLogs per resource; joined end to end where one of them is not laid out as ours.

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
        parts += (RESOURCE, _varint(size), resource, *rests)
    return b"".join(parts)


def _sort_in(request: bytes, groups: dict[bytes, list[bytes]]) -> None:
    """Adds a request's ResourceLogs to those of the same resource; both are what is encoded, without a copy between.

    Raises:
        IndexError, ValueError: it is not a row of ResourceLogs that begin with their resource.
    """
    at, end = 0, len(request)
    while at < end:
        size, start = _read_varint(request, at + 1)
        stop = start + size
        resource_size, resource_start = _read_varint(request, start + 1)
        rest = resource_start + resource_size
        if request[at] != RESOURCE[0] or request[start] != RESOURCE[0] or not rest <= stop <= end:
            raise ValueError("another layout")
        groups.setdefault(request[start:rest], []).append(request[rest:stop])
        at = stop


def _read_varint(request: bytes, at: int) -> tuple[int, int]:
    """The number, and where what follows it begins."""
    byte = request[at]
    number, shift = byte & LOW_BITS, 7
    while byte & MORE:
        at += 1
        byte = request[at]
        number |= (byte & LOW_BITS) << shift
        shift += 7
    return number, at + 1


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > LOW_BITS:
        encoded.append(number & LOW_BITS | MORE)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
