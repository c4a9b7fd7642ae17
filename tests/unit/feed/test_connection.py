from __future__ import annotations

import queue
from collections.abc import Iterator
from random import Random

import pytest

from otelbridge.event import Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.connection import HealthStatus, Heartbeat, ReadPause, StreamReader, judge
from otelbridge.feed.model import StreamEnd


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
    buffer, ends = Buffer(1_000, 1 << 20), queue.SimpleQueue[StreamEnd]()
    call = Call([b"one", b"two"])
    reader = StreamReader(
        call, buffer.open_writer(Stream.LOGS, "relay:1"), lambda _, end: ends.put(end), lambda _: None
    )
    reader.start()
    assert ends.get(timeout=10).events == 2
    assert reader.join(10)
    assert call.used == ["ended", "released"], "20 KiB a call were never freed without this"


@pytest.mark.parametrize(
    ("misses", "received", "health"),
    [
        (0, False, HealthStatus.ALIVE),
        (0, True, HealthStatus.ALIVE),
        (1, True, HealthStatus.SUSPECT),
        (1, False, HealthStatus.DEAD),
        (2, True, HealthStatus.DEAD),
        (2, False, HealthStatus.DEAD),
    ],
)
def test_one_miss_is_deadly_only_when_nothing_else_came_in(misses: int, received: bool, health: HealthStatus) -> None:
    assert judge(misses, received_since_asking=received) is health


def test_bridges_do_not_ask_in_step() -> None:
    heartbeat = Heartbeat(interval_seconds=15, timeout_seconds=5, random=Random(1))
    pauses = {heartbeat.pause_seconds() for _ in range(100)}
    assert len(pauses) == 100
    assert all(13.5 <= pause <= 16.5 for pause in pauses)


SECOND = 1_000_000_000
PAUSE_SECONDS = 0.015
BEGAN = 1_700_000_000 * SECOND


def pauses_at(rate: int, *, seconds: int = 3) -> list[float]:
    """What a reader is told that has read everything after each of evenly spaced events; of the last second."""
    pause = ReadPause(PAUSE_SECONDS)
    said = [pause.seconds(BEGAN + n * SECOND // rate, n + 1) for n in range(rate * seconds)]
    return said[-rate:]


@pytest.mark.parametrize("rate", [100, 500, 2_000])
def test_a_reader_pauses_at_the_rates_of_a_node(rate: int) -> None:
    assert set(pauses_at(rate)) == {PAUSE_SECONDS}


@pytest.mark.parametrize("rate", [1, 20, 10_000, 30_000])
def test_it_reads_on_where_a_pause_gathers_nothing_or_every_moment_counts(rate: int) -> None:
    assert set(pauses_at(rate)) == {0.0}


def test_a_burst_ends_the_pauses_before_it_is_a_second_old() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for n in range(300):
        pause.seconds(BEGAN + n * SECOND // 100, n + 1)
    now = BEGAN + 3 * SECOND
    assert pause.seconds(now, 400) == PAUSE_SECONDS
    assert pause.seconds(now + SECOND // 10, 10_000) == 0.0


def test_a_clock_that_is_set_back_or_forward_does_no_harm() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for now in (BEGAN, BEGAN - 3600 * SECOND, BEGAN + 3600 * SECOND, BEGAN):
        assert pause.seconds(now, 10) in {0.0, PAUSE_SECONDS}
