"""Finds the fields of an encoded event that this bridge's KubeArmor does not have, in one pass over its bytes.

Nothing is built from what is nested in them: a group is kept as its bytes. So neither depth nor width costs more than
the bytes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

MAX_FIELDS = 10_000
"""Fields that are looked at, groups' own included: 5 ms. KubeArmor's events have some 50."""
VARINT, _FIXED64, DELIMITED, _GROUP, _END, _FIXED32 = range(6)
_FIXED = {_FIXED64: Struct("<Q"), _FIXED32: Struct("<I")}
_MORE, _SEVEN_BITS = 0x80, 0x7F


class TooManyFieldsError(Exception):
    """The event has more fields than anybody would send in good faith."""


def unknown_fields(body: bytes, known: Mapping[int, int]) -> list[str]:
    """The unknown fields as `number=value`, in the order of the message.

    A value is a number, a text, or `0x` and hexadecimal digits where it is neither.

    Args:
        body: an encoded message that protobuf could parse.
        known: the wire types of the fields that it has a place for, by number.

    Raises:
        TooManyFieldsError: it is not worth the work.
    """
    found: list[str] = []
    at, end, looked_at = 0, len(body), 0
    depth = group_start = 0
    while at < end:
        looked_at += 1
        if looked_at > MAX_FIELDS:
            raise TooManyFieldsError(f"it has more than {MAX_FIELDS} fields")
        before = at
        tag, at = _varint(body, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _GROUP:
            group_start = at if depth == 0 else group_start
            depth += 1
        elif wire_type == _END:
            depth -= 1
            if depth == 0:
                found.append(f"{number}=0x{body[group_start:before].hex()}")
        else:
            value, start, at = _content(body, at, wire_type)
            if depth == 0 and known.get(number) != wire_type:
                found.append(f"{number}={_shown(wire_type, value, body[start:at])}")
    return found


def _content(body: bytes, at: int, wire_type: int) -> tuple[int, int, int]:
    """The number that it begins with, and where its content starts and ends."""
    if wire_type in _FIXED:
        return 0, at, at + _FIXED[wire_type].size
    value, start = _varint(body, at)
    return value, start, start + (value if wire_type == DELIMITED else 0)


def _shown(wire_type: int, value: int, content: bytes) -> str:
    if wire_type == VARINT:
        return str(value)
    if wire_type in _FIXED:
        return str(_FIXED[wire_type].unpack(content)[0])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"0x{content.hex()}"


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & _SEVEN_BITS) << shift
        if byte < _MORE:
            return value, at
        shift += 7
