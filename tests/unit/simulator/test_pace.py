"""Publishing at a rate, on a clock of the test's own."""

from __future__ import annotations

import itertools
import threading

import pytest

from otelbridge.simulator.serve import PublishPace, publish_at_pace


class Clock:
    """Time passes by waiting only, or by `each_event_takes`."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> float:
        return self.seconds

    def wait(self, _until: threading.Event, seconds: float) -> None:
        self.seconds += seconds


def run(pace: PublishPace, *, stop_at: int | None = None, event_takes: float = 0) -> list[float]:
    clock, until = Clock(), threading.Event()
    times: list[float] = []

    def publish(number: int) -> None:
        times.append(round(clock.seconds - 1_000, 6))
        clock.seconds += event_takes
        if number == stop_at:
            until.set()

    published = publish_at_pace(itertools.count(), publish, pace, until=until, now=clock.now, wait=clock.wait)
    assert published == len(times)
    return times


def test_events_go_out_evenly() -> None:
    assert run(PublishPace(per_second=10, count=4)) == [0, 0.1, 0.2, 0.3]


def test_bursts_go_out_together_and_keep_the_rate() -> None:
    assert run(PublishPace(per_second=10, burst=3, count=7)) == [0, 0, 0, 0.3, 0.3, 0.3, 0.6]


def test_a_duration_ends_it() -> None:
    assert run(PublishPace(per_second=10, duration_seconds=0.35)) == [0, 0.1, 0.2, 0.3]


def test_a_duration_ends_a_long_pause_too() -> None:
    assert run(PublishPace(per_second=0.001, duration_seconds=5)) == [0]


def test_without_a_rate_nothing_waits() -> None:
    assert run(PublishPace(count=3)) == [0, 0, 0]


def test_a_count_of_nothing_publishes_nothing() -> None:
    assert run(PublishPace(count=0)) == []


def test_it_stops_when_it_is_told() -> None:
    assert len(run(PublishPace(), stop_at=4)) == 5


def test_a_slow_publisher_is_not_made_slower() -> None:
    assert run(PublishPace(per_second=10, count=4), event_takes=0.15) == [0, 0.15, 0.3, 0.45]


def test_the_events_may_end_first() -> None:
    assert publish_at_pace([1, 2], lambda _event: None, PublishPace(), until=threading.Event()) == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"per_second": 0}, "rate"),
        ({"burst": 0}, "burst"),
        ({"duration_seconds": -1}, "duration"),
        ({"count": -1}, "count"),
    ],
)
def test_an_impossible_pace_is_refused(wrong: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PublishPace(**wrong)
