from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator
from random import Random

import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.connection import Heartbeat, StreamReader, is_dead
from otelbridge.feed.model import StreamEnd
from otelbridge.feed.read_pause import WAITED_NANOS, ConnectionPause
from otelbridge.net.address import Address
from tests.buffers import OpenBuffer


class Call:
    """A Watch call that brings some events, ends, and notes in which order it was used."""

    def __init__(self, bodies: Iterable[bytes], fault: Exception | None = None) -> None:
        self.used: list[str] = []
        self._bodies = bodies
        self._fault = fault

    def __iter__(self) -> Iterator[bytes]:
        yield from self._bodies
        self.used.append("ended")
        if self._fault is not None:
            raise self._fault

    def cancel(self) -> bool:
        return True

    def initial_metadata(self) -> object:
        self.used.append("released")
        return ()


def test_what_grpc_holds_for_a_call_is_taken_when_it_has_ended() -> None:
    buffer, ends = OpenBuffer(1_000, 1 << 20), queue.SimpleQueue[StreamEnd]()
    call = Call([b"one", b"two"])
    reader = StreamReader(
        call,
        buffer.open_writer(Stream.LOGS, "relay:1"),
        lambda _, end: ends.put(end),
        lambda _: None,
        ConnectionPause(Address(host="relay", port=1)),
    )
    reader.start()
    assert ends.get(timeout=10).events == 2
    assert reader.join(10)
    assert call.used == ["ended", "released"], "20 KiB a call were never freed without this"


def test_an_event_that_is_read_while_another_reader_pauses_waits_for_no_pause() -> None:
    buffer, ends = OpenBuffer(1_000, 1 << 20), queue.SimpleQueue[StreamEnd]()
    pause = ConnectionPause(Address(host="relay", port=1))
    assert pause.begin(Stream.LOGS, 100, 600)
    earlier = buffer.open_writer(Stream.LOGS, "relay:1")
    earlier.offer(RawEvent(Stream.LOGS, b"zero", 1, "relay:1"))
    earlier.hand_over(600)
    assert len(buffer.take(10, 600)) == 1

    def messages() -> Iterator[bytes]:
        waited_until = time.monotonic_ns() + 2 * WAITED_NANOS
        while time.monotonic_ns() < waited_until:
            pass
        yield b"one"

    reader = StreamReader(
        Call(messages()),
        buffer.open_writer(Stream.ALERTS, "relay:1"),
        lambda _, end: ends.put(end),
        lambda _: None,
        pause,
        read_pause_seconds=600,
    )
    reader.start()
    assert ends.get(timeout=10).events == 1
    assert [event.body for event in buffer.take(10, 600)] == [b"one"], "the next turn would be due in ten minutes"
    assert reader.join(10)


@pytest.mark.parametrize(
    ("misses", "silent", "heard", "dead"),
    [
        (1, False, False, False),
        (1, True, False, True),
        (2, False, False, True),
        (2, True, False, True),
        (1, True, True, False),
        (9, False, True, False),
        (9, True, True, False),
    ],
)
def test_one_miss_is_deadly_only_when_nothing_came_at_all_and_none_is_where_events_come(
    misses: int, silent: bool, heard: bool, dead: bool
) -> None:
    assert is_dead(misses, silent=silent, heard=heard) == dead


def test_bridges_do_not_ask_in_step() -> None:
    heartbeat = Heartbeat(interval_seconds=15, timeout_seconds=5, random=Random(1))
    pauses = {heartbeat.pause_seconds() for _ in range(100)}
    assert len(pauses) == 100
    assert all(13.5 <= pause <= 16.5 for pause in pauses)
