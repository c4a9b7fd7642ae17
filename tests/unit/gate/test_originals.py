"""Originals: what goes into a block comes out of it, and nothing else is taken for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.flood import (
    HEAD,
    MARK,
    UID_BYTES,
    VERSION,
    Original,
    UnknownLayout,
    are_originals,
    pack_originals,
    read_originals,
)

EVENTS = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.binary(max_size=50), st.booleans()), min_size=1, max_size=20)


def uid(place: int) -> bytes:
    return f"{place:0{UID_BYTES}}".encode()


@given(EVENTS)
def test_what_was_packed_is_read_again(events: list[tuple[int, bytes, bool]]) -> None:
    raw = [RawEvent(Stream.ALERTS, body, received, "relay") for received, body, _ in events]
    block = pack_originals(raw, {place: uid(place) for place, (_, _, changed) in enumerate(events) if changed})
    assert are_originals(block)
    assert list(read_originals(block)) == [
        Original(received, body, uid(place) if changed else b"")
        for place, (received, body, changed) in enumerate(events)
    ]


@given(st.binary(max_size=60))
def test_a_block_that_nobody_wrote_is_refused_or_small(content: bytes) -> None:
    with suppress(UnknownLayout):
        assert len(list(read_originals(b"\x07\x01" + content))) <= len(content)


def test_a_block_of_another_version_is_refused() -> None:
    block = bytearray(pack_originals([RawEvent(Stream.LOGS, b"x", 1, "relay")], {}))
    block[1] += 1
    with pytest.raises(UnknownLayout, match="layout 2, not 1"):
        list(read_originals(bytes(block)))


@pytest.mark.parametrize(("events", "changed"), [(0, 1), (1 << 31, 0), (1 << 31, 1 << 31)])
def test_a_block_that_holds_less_than_it_says_is_refused(events: int, changed: int) -> None:
    with pytest.raises(UnknownLayout, match=f"{events} events in"):
        list(read_originals(HEAD.pack(MARK, VERSION, events, changed) + bytes(100)))


def test_a_request_is_no_block() -> None:
    assert not are_originals(b"\x0a\x00")
    assert not are_originals(b"")
