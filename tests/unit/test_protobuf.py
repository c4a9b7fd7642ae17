from __future__ import annotations

import pytest

from otelbridge.protobuf import DELIMITED, END_GROUP, FIXED32, FIXED64, GROUP, VARINT, fields, read_varint, varint


@pytest.mark.parametrize(
    ("message", "number", "end"),
    [(b"\x00", 0, 1), (b"\x7f", 127, 1), (b"\x80\x01", 128, 2), (b"\xff" * 9 + b"\x01", 2**64 - 1, 10)],
)
def test_a_number_is_read_and_what_follows_it_begins_behind(message: bytes, number: int, end: int) -> None:
    assert read_varint(b"x" + message + b"x", 1) == (number, end + 1)
    assert varint(number) == message


@pytest.mark.parametrize("message", [b"", b"\x80", b"\xff" * 9, b"\xff" * 10 + b"\x01"])
def test_what_is_no_number_is_none(message: bytes) -> None:
    with pytest.raises(ValueError, match="no number ends at byte"):
        read_varint(message, 0)


def test_fields_are_told_apart_by_their_wire_types() -> None:
    message = bytes.fromhex("0805 1101020304050607081a0361626323 08012425 0a0b0c0d")
    found = [(number, kind, message[content:end].hex()) for number, kind, _, content, end in fields(message)]
    assert found == [
        (1, VARINT, "05"),
        (2, FIXED64, "0102030405060708"),
        (3, DELIMITED, "616263"),
        (4, GROUP, ""),
        (1, VARINT, "01"),
        (4, END_GROUP, ""),
        (4, FIXED32, "0a0b0c0d"),
    ]


@pytest.mark.parametrize("text", ["08", "0a0561", "0d010203", "09", "80", "06", "07", "ff"])
def test_what_ends_in_the_middle_or_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="byte"):
        list(fields(bytes.fromhex(text)))
