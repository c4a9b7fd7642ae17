"""An encoded ExportLogsServiceRequest in, two with half of its records each out; nothing is decoded but the nesting.

On the wire format, as a record that does not decode (an endpoint refused it, after all) must be split off as well.
Field numbers: ExportLogsServiceRequest.resource_logs 1; ResourceLogs.scope_logs 2; ScopeLogs.log_records 2. All other
fields of the three are repeated in each half.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

RESOURCE_LOGS = 1
SCOPE_LOGS = 2
LOG_RECORDS = 2
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10


class _Scope(NamedTuple):
    """One ScopeLogs, taken apart."""

    rest: bytes
    """Everything but its records, encoded."""
    records: list[bytes]
    """Each with its tag and length."""


class _Resource(NamedTuple):
    """One ResourceLogs, taken apart."""

    rest: bytes
    scopes: list[_Scope]


def halves(request: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    """The first and the second half of the records, each an encoded request with its number of records.

    Raises:
        ValueError: there are fewer than two records, or it is not an encoded request.
    """
    rest, resources = _taken_apart(request)
    number = sum(len(scope.records) for resource in resources for scope in resource.scopes)
    if number < 2:  # noqa: PLR2004  # what halving means
        raise ValueError(f"{number} records cannot be halved")
    half = number // 2
    return (_put_together(rest, resources, 0, half), half), (
        _put_together(rest, resources, half, number),
        number - half,
    )


def _taken_apart(request: bytes) -> tuple[bytes, list[_Resource]]:
    rest, resources = _split_off(request, RESOURCE_LOGS)
    return rest, [_resource(body) for _, body in resources]


def _resource(body: bytes) -> _Resource:
    rest, scopes = _split_off(body, SCOPE_LOGS)
    return _Resource(rest, [_scope(scope) for _, scope in scopes])


def _scope(body: bytes) -> _Scope:
    rest, records = _split_off(body, LOG_RECORDS)
    return _Scope(rest, [field for field, _ in records])


def _put_together(rest: bytes, resources: list[_Resource], first: int, end: int) -> bytes:
    """The request with only the records numbered from `first` up to `end`."""
    parts = [rest]
    position = 0
    for resource in resources:
        scopes = []
        for scope in resource.scopes:
            chosen = scope.records[max(0, first - position) : max(0, end - position)]
            position += len(scope.records)
            if chosen:
                scopes.append(_field(SCOPE_LOGS, scope.rest + b"".join(chosen)))
        if scopes:
            parts.append(_field(RESOURCE_LOGS, resource.rest + b"".join(scopes)))
    return b"".join(parts)


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
