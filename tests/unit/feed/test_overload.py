from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from otelbridge.event import Stream
from otelbridge.feed.overload import EDGE_NANOS, LOOK_BYTES, SLOTS, Arrived, Overload, OverloadDetector

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
BEGAN = 1_700_000_000 * SECOND
EVENT_BYTES = 900
WINDOW_BYTES = 32 << 20
UPDATE_BYTES = 3 << 20
"""The window is opened again by so much at a time."""
FRAMED = EVENT_BYTES + 14
ROOM = 6 << 20


@dataclass
class Line:
    """A node with its slots, HTTP/2's window and a reader, in steps of a millisecond."""

    overhead: float = 0.0
    """Bytes of TLS, for each byte."""
    detector: OverloadDetector = field(default_factory=lambda: OverloadDetector(WINDOW_BYTES, tls=True))
    now: int = BEGAN
    slots: int = 0
    sent: int = 0
    read: int = 0
    opened: int = WINDOW_BYTES
    looked_at: int = 0
    dropped: list[int] = field(default_factory=list)
    """When."""
    told: list[Overload] = field(default_factory=list)

    def go(self, seconds: float, *, per_second: int, reads_per_second: int = 100_000) -> None:
        due = readable = 0.0
        for _ in range(round(seconds * 1000)):
            self.now += MILLISECOND
            due, readable = due + per_second / 1000, readable + reads_per_second / 1000
            for _ in range(int(due)):
                self.slots += 1
                if self.slots > SLOTS:
                    self.slots = SLOTS
                    self.dropped.append(self.now)
            due -= int(due)
            sendable = min(self.slots, (self.opened - self.sent * EVENT_BYTES) // EVENT_BYTES)
            self.sent, self.slots = self.sent + sendable, self.slots - sendable
            taken = min(int(readable), self.sent - self.read)
            self.read, readable = self.read + taken, min(readable - taken, 200.0)
            if self.read * EVENT_BYTES + WINDOW_BYTES - self.opened >= UPDATE_BYTES:
                self.opened = self.read * EVENT_BYTES + WINDOW_BYTES
            if self.read * EVENT_BYTES >= self.looked_at + LOOK_BYTES or not self.now % SECOND:
                self.looked_at = self.read * EVENT_BYTES
                arrived = Arrived(round(self.sent * FRAMED * (1 + self.overhead)), ROOM)
                self.told += self.detector.look(
                    self.now, self.now - BEGAN, arrived, self.looked_at, {Stream.LOGS: self.read}
                )

    def silent(self) -> list[int]:
        """When events were dropped that no overload covers."""
        return [at for at in self.dropped if not any(one.started <= at <= one.ended for one in self.told)]


@pytest.mark.parametrize("rate", [5_000, 30_000, 60_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_reader_that_is_slower_than_the_events_is_noticed_to_the_last_event_dropped(rate: int, share: float) -> None:
    line = Line(detector=OverloadDetector(WINDOW_BYTES, tls=False))
    line.go(1, per_second=rate)
    line.go(60_000 / rate / (1 - share), per_second=rate, reads_per_second=round(rate * share))
    line.go(4, per_second=rate)
    line.go(2, per_second=0)
    assert line.dropped
    assert line.told
    assert not line.silent()
    assert all(one.ended - one.started < 12 * SECOND for one in line.told), "one that lasts is told in pieces"


def test_a_connection_that_ends_in_an_overload_tells_of_it() -> None:
    line = Line()
    line.go(1, per_second=30_000)
    line.go(4, per_second=30_000, reads_per_second=3_000)
    assert line.silent()
    line.told += line.detector.end()
    assert not [at for at in line.silent() if at < line.now - 100 * MILLISECOND]
    assert not line.detector.end()


def burst_that_fits(line: Line) -> None:
    line.go(0.3, per_second=100_000, reads_per_second=3_000)
    line.go(2, per_second=0)


def burst_that_fills_the_window(line: Line) -> None:
    line.go(0.36, per_second=100_000, reads_per_second=3_000)
    line.go(3, per_second=0, reads_per_second=20_000)


def burst_out_of_a_steady_stream(line: Line) -> None:
    line.go(1, per_second=500)
    line.go(0.36, per_second=100_000, reads_per_second=3_000)
    line.go(3, per_second=500)


def burst_before_full_speed(line: Line) -> None:
    line.go(0.36, per_second=100_000, reads_per_second=3_000)
    line.go(3, per_second=30_000)


def full_speed(line: Line) -> None:
    line.go(20, per_second=30_000)


def quiet(line: Line) -> None:
    for _ in range(20):
        line.go(1, per_second=0)
        line.go(1, per_second=20)


def slower_for_a_while(line: Line) -> None:
    line.go(2, per_second=20_000)
    line.go(1, per_second=20_000, reads_per_second=2_000)
    line.go(3, per_second=20_000)


@pytest.mark.parametrize("overhead", [0.0, 0.03])
@pytest.mark.parametrize(
    "happens",
    [
        burst_that_fits,
        burst_that_fills_the_window,
        burst_out_of_a_steady_stream,
        burst_before_full_speed,
        full_speed,
        quiet,
        slower_for_a_while,
    ],
)
def test_nothing_is_suspected_where_nothing_was_dropped(happens: Callable[[Line], None], overhead: float) -> None:
    line = Line(overhead=overhead)
    happens(line)
    line.go(3, per_second=1_000)
    assert not line.dropped
    assert not line.told


MIB = 1 << 20


def after_a_pause(*, seconds: float, cpu_seconds: float, came: int, room: int, rate: int) -> list[Overload]:
    """What is told of a pause of the bridge out of, and into, a steady stream."""
    detector, now, cpu, arrived, events = OverloadDetector(WINDOW_BYTES, tls=True), BEGAN, 0, 0, 0
    told: list[Overload] = []

    def look(elapsed: float, cpu_elapsed: float, more: int) -> None:
        nonlocal now, cpu, arrived, events
        now, cpu, arrived = now + round(elapsed * SECOND), cpu + round(cpu_elapsed * SECOND), arrived + more
        events = arrived // FRAMED
        told.extend(detector.look(now, cpu, Arrived(arrived, room), events * EVENT_BYTES, {Stream.LOGS: events}))

    for _ in range(100):
        look(0.01, 0.01, rate * FRAMED // 100)
    look(seconds, cpu_seconds, came)
    for _ in range(200):
        look(0.01, 0.01, rate * FRAMED // 100)
    return told


def test_a_pause_in_which_the_socket_was_full_and_slots_as_well_is_noticed() -> None:
    told = after_a_pause(seconds=0.25, cpu_seconds=0, came=4 * MIB, room=MIB, rate=30_000)
    assert [one.ended - one.started for one in told] == [SECOND // 4 + 2 * EDGE_NANOS]


@pytest.mark.parametrize(
    ("seconds", "cpu_seconds", "came", "room", "rate"),
    [
        pytest.param(0.25, 0.2, 4 * MIB, MIB, 30_000, id="gRPC's threads had the processor"),
        pytest.param(0.25, 0.0, 4 * MIB, 5 * MIB, 30_000, id="the socket had room"),
        pytest.param(0.25, 0.0, 4 * MIB, 0, 30_000, id="an older kernel does not say"),
        pytest.param(0.05, 0.0, 1_500 * FRAMED, MIB, 30_000, id="short"),
        pytest.param(60, 0.0, 2 * MIB, MIB, 0, id="a lump out of silence"),
        pytest.param(1, 0.0, 2 * MIB, MIB, 2_000, id="slots and sockets hold as much"),
    ],
)
def test_other_pauses_are_none(seconds: float, cpu_seconds: float, came: int, room: int, rate: int) -> None:
    assert not after_a_pause(seconds=seconds, cpu_seconds=cpu_seconds, came=came, room=room, rate=rate)
