"""Splits an encoded request into its records, by source, and puts any run of them together again.

On the wire format, as a record that does not decode (an endpoint refused it, after all) must be split off as well.
Field numbers: ExportLogsServiceRequest.resource_logs 1; ResourceLogs.scope_logs 2; ScopeLogs.log_records 2. All other
fields of the three are repeated in each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

RESOURCE_LOGS = 1
SCOPE_LOGS = 2
LOG_RECORDS = 2
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10


class Source(NamedTuple):
    """One resource and how many of the records are its."""

    key: bytes
    """The resource as it is encoded."""
    records: int


class _Scope(NamedTuple):
    """One ScopeLogs, taken apart."""

    rest: bytes
    """Everything but its records, encoded."""
    records: list[bytes]
    """Each with its tag and length."""


class Contents:
    """The records of a request, numbered source by source.

    Args:
        request: encoded.
        apart: whether a source's records are numbered after those of all others.

    Raises:
        ValueError: it is not an encoded request.
    """

    def __init__(self, request: bytes, *, apart: Callable[[bytes], bool] = lambda _: False) -> None:
        self._rest, resources = _split_off(request, RESOURCE_LOGS)
        found: dict[bytes, list[_Scope]] = {}
        for _, body in resources:
            rest, scopes = _split_off(body, SCOPE_LOGS)
            found.setdefault(rest, []).extend(_scope(scope) for _, scope in scopes)
        self._resources = dict(sorted(found.items(), key=lambda item: apart(item[0])))
        self.sources = [
            Source(key, sum(len(scope.records) for scope in scopes)) for key, scopes in self._resources.items()
        ]
        self.records = sum(source.records for source in self.sources)

    def part(self, first: int, end: int) -> bytes:
        """The request with only the records numbered from `first` up to `end`."""
        parts = [self._rest]
        position = 0
        for key, scopes in self._resources.items():
            chosen_scopes = []
            for scope in scopes:
                chosen = scope.records[max(0, first - position) : max(0, end - position)]
                position += len(scope.records)
                if chosen:
                    chosen_scopes.append(_field(SCOPE_LOGS, scope.rest + b"".join(chosen)))
            if chosen_scopes:
                parts.append(_field(RESOURCE_LOGS, key + b"".join(chosen_scopes)))
        return b"".join(parts)


def _scope(body: bytes) -> _Scope:
    rest, records = _split_off(body, LOG_RECORDS)
    return _Scope(rest, [field for field, _ in records])


def _split_off(message: bytes, number: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """What is not in field `number`, and that field's occurrences: each with tag and length, and its value alone."""
    rest, found = [], []
    for field_number, start, value, end in _fields(message):
        if field_number == number:
            found.append((message[start:end], message[value:end]))
        else:
            rest.append(message[start:end])
    return b"".join(rest), found


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the value, and end of each field; only length-delimited ones have values worth having."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == LENGTH_DELIMITED:
            length, position = _varint(message, position)
            value, position = position, position + length
        elif wire_type == VARINT:
            value = position
            _, position = _varint(message, position)
        elif wire_type in FIXED_BYTES:
            value, position = position, position + FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} at byte {start}")
        if position > len(message):
            raise ValueError(f"the field at byte {start} is cut off")
        yield number, start, value, position


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(MAX_VARINT_BYTES):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004  # the bit that says there is more
            return value, position
    raise ValueError(f"no number at byte {position}")


def _field(number: int, value: bytes) -> bytes:
    header = bytearray([number << 3 | LENGTH_DELIMITED])
    length = len(value)
    while length > 0x7F:  # noqa: PLR2004  # seven bits a byte
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return bytes(header) + value
