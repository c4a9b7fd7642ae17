"""Reads and writes protobuf's wire format: numbers in base 128, and the fields of a message that nothing has parsed."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)
"""Wire types."""
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10  # of an int64
LOW_BITS, MORE = 0x7F, 0x80  # of a byte of a number
# The lengths of nearly all that there is, encoded once: an event has ten or so.
TWO_DIGITS_END = 1 << 11
TWO_DIGITS = tuple(bytes((n,)) if n < MORE else bytes((n & LOW_BITS | MORE, n >> 7)) for n in range(TWO_DIGITS_END))
DIGIT_AND_MORE = tuple(bytes((n | MORE,)) for n in range(MORE))


def varint(number: int) -> bytes:
    """A non-negative integer in base 128, low digits first."""
    digits = b""
    while number >= TWO_DIGITS_END:
        digits += DIGIT_AND_MORE[number & LOW_BITS]
        number >>= 7
    return digits + TWO_DIGITS[number] if digits else TWO_DIGITS[number]


def delimited(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: text, bytes or a nested message."""
    return tag + varint(len(content)) + content


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where what follows it begins.

    Raises:
        ValueError: the message ends before the number does, or it is longer than any.
    """
    number = shift = 0
    for byte in message[at : at + MAX_VARINT_BYTES]:
        at += 1
        number |= (byte & LOW_BITS) << shift
        if byte < MORE:
            return number, at
        shift += 7
    raise ValueError(f"no number ends at byte {at}")


def fields(message: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, wire type, start, start of the content, and end of each field; a group's begin and end are fields, too.

    Raises:
        ValueError: it ends in the middle of a field, or is no message.
    """
    at, end = 0, len(message)
    while at < end:
        start = at
        tag, content = read_varint(message, at)
        wire_type = tag & 7
        if wire_type == DELIMITED:
            length, content = read_varint(message, content)
            at = content + length
        elif wire_type == VARINT:
            _, at = read_varint(message, content)
        elif wire_type <= FIXED32:
            at = content + FIXED_BYTES.get(wire_type, 0)
        else:
            raise ValueError(f"wire type {wire_type} at byte {start}")
        if at > end:
            raise ValueError(f"the field at byte {start} is cut off")
        yield tag >> 3, wire_type, start, content, at
