from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from otelbridge.feed.unread import Unread

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
EVENT_BYTES = 900


@dataclass
class Line:
    """A connection that is looked at twice a second."""

    unread: Unread = field(default_factory=lambda: Unread(tls=False))
    now: int = SECOND
    arrived: int = 300
    read: int = 0

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> int:
        return self.unread.look(self.now, self.arrived, self.read)

    def go(self, seconds: float, *, per_second: int = 20, reads: bool = True, pings: int = 34) -> None:
        for _ in range(round(2 * seconds)):
            self.now += SECOND // 2
            self.arrived += per_second * EVENT_BYTES // 2 + pings
            self.read += per_second * EVENT_BYTES // 2 * reads
            self.look()

    def seconds_behind(self) -> float:
        assert self.unread.read_until is not None
        return (self.now - self.unread.read_until) / SECOND


def test_before_anything_is_known_nothing_is_said() -> None:
    assert Unread(tls=False).read_until is None


@pytest.mark.parametrize("per_second", [0, 1, 20, 10_000])
def test_who_reads_all_is_not_behind_whatever_else_comes(per_second: int) -> None:
    line = Line()
    for _ in range(100):
        line.go(1, per_second=per_second)
        assert line.seconds_behind() == 0


@pytest.mark.parametrize("per_second", [1, 20, 10_000])
def test_what_waits_has_waited_since_it_came(per_second: int) -> None:
    line = Line()
    line.go(10, per_second=per_second)
    line.go(3, per_second=per_second, reads=False)
    assert 2 <= line.seconds_behind() <= 3
    line.read += 3 * per_second * EVENT_BYTES
    line.look()
    assert line.seconds_behind() == 0


def test_what_a_stream_took_with_it_waits_for_nobody() -> None:
    line = Line()
    line.go(10)
    line.go(3, reads=False)
    line.go(10)
    assert line.seconds_behind() > 10, "it may still be read"
    line.unread.dropped()
    line.go(3)
    assert line.seconds_behind() == 0
