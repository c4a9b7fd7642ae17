from __future__ import annotations

import queue
from collections.abc import Iterator
from random import Random

import pytest

from otelbridge.event import Stream
from otelbridge.feed.connection import HealthStatus, Heartbeat, StreamReader, judge
from otelbridge.feed.model import StreamEnd
from otelbridge.feed.read_pause import ConnectionPause
from otelbridge.net.address import Address
from tests.buffers import OpenBuffer


class Call:
    """A Watch call that brings some events, ends, and notes in which order it was used."""

    def __init__(self, bodies: list[bytes], fault: Exception | None = None) -> None:
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


@pytest.mark.parametrize(
    ("misses", "silent", "heard", "health"),
    [
        (0, True, False, HealthStatus.ALIVE),
        (0, False, False, HealthStatus.ALIVE),
        (1, False, False, HealthStatus.SUSPECT),
        (1, True, False, HealthStatus.DEAD),
        (2, False, False, HealthStatus.DEAD),
        (2, True, False, HealthStatus.DEAD),
        (1, True, True, HealthStatus.SUSPECT),
        (9, False, True, HealthStatus.SUSPECT),
        (9, True, True, HealthStatus.SUSPECT),
    ],
)
def test_one_miss_is_deadly_only_when_nothing_came_at_all_and_none_is_where_events_come(
    misses: int, silent: bool, heard: bool, health: HealthStatus
) -> None:
    assert judge(misses, silent=silent, heard=heard) is health


def test_bridges_do_not_ask_in_step() -> None:
    heartbeat = Heartbeat(interval_seconds=15, timeout_seconds=5, random=Random(1))
    pauses = {heartbeat.pause_seconds() for _ in range(100)}
    assert len(pauses) == 100
    assert all(13.5 <= pause <= 16.5 for pause in pauses)
