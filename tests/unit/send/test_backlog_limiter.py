"""How fast a backlog goes out beside what arrives."""

from __future__ import annotations

import pytest

from otelbridge.send.backlog_limiter import FREE_RECORDS, MIN_RECORDS_PER_SECOND, BacklogLimiter


class Bench:
    """A queue that holds, a clock that is told."""

    def __init__(self, factor: float = 4) -> None:
        self.now = 0.0
        self.held = 1_000_000
        self.replay = BacklogLimiter(factor, held=lambda: self.held, clock=lambda: self.now)

    def live(self, per_second: int, seconds: int) -> None:
        for _ in range(seconds):
            self.replay.observe()
            self.now += 1
            self.held += per_second
        self.replay.observe()

    def drained_in(self, seconds: float) -> int:
        """Records that couriers get out in so many seconds if nothing else holds them."""
        sent, until = 0, self.now + seconds
        while self.now < until:
            pause = self.replay.wait_seconds()
            if pause:
                self.now += pause
                continue
            number = self.replay.max_records(8192)
            self.replay.charge(number, age_seconds=3600)
            sent += number
        return sent


def test_the_backlog_is_sent_at_most_factor_times_as_fast_as_records_arrive() -> None:
    bench = Bench()
    bench.live(2000, 60)
    assert bench.replay.records_per_second() == pytest.approx(8000)
    bench.drained_in(10)
    assert bench.drained_in(10) == pytest.approx(80_000, rel=0.05)


def test_records_that_leave_meanwhile_do_not_slow_the_live_rate() -> None:
    bench = Bench()
    for _ in range(30):
        bench.replay.observe()
        bench.now += 1
        bench.held += 2000 - 5000
        bench.replay.departed(5000)
    bench.replay.observe()
    assert bench.replay.records_per_second() == pytest.approx(8000)


def test_a_quiet_cluster_still_gets_rid_of_its_backlog() -> None:
    bench = Bench()
    bench.live(0, 60)
    bench.drained_in(20)
    assert bench.drained_in(10) == pytest.approx(10 * MIN_RECORDS_PER_SECOND, rel=0.05)


def test_a_short_outage_is_not_paced() -> None:
    bench = Bench()
    bench.replay.charge(FREE_RECORDS, age_seconds=60)
    assert bench.replay.wait_seconds() == 0


def test_fresh_records_are_not_charged_and_wait_at_most_a_slice() -> None:
    bench = Bench()
    bench.replay.charge(10 * FREE_RECORDS, age_seconds=1)
    assert bench.replay.wait_seconds() == 0
    bench.drained_in(60)
    assert bench.replay.max_records(8192) <= MIN_RECORDS_PER_SECOND
    assert bench.replay.wait_seconds() <= 0.3


@pytest.mark.parametrize("how", ["end", "lift"])
def test_when_the_queue_was_empty_or_the_bridge_drains_there_is_no_limit(how: str) -> None:
    bench = Bench()
    bench.drained_in(60)
    getattr(bench.replay, how)()
    assert (bench.replay.max_records(8192), bench.replay.wait_seconds()) == (8192, 0)
    assert bench.replay.records_per_second() is None


def test_after_the_next_outage_it_is_paced_again() -> None:
    bench = Bench()
    bench.replay.end()
    bench.replay.begin()
    assert bench.replay.records_per_second() == MIN_RECORDS_PER_SECOND


def test_factor_zero_sets_no_limit() -> None:
    bench = Bench(factor=0)
    bench.replay.charge(10 * FREE_RECORDS, age_seconds=3600)
    assert (bench.replay.max_records(8192), bench.replay.wait_seconds()) == (8192, 0)
