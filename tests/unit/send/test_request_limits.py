"""How large a request may be, found by simulated endpoints; how fast a backlog goes out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from otelbridge.send.request_limits import (
    FIRST_SHARE,
    FREE_RECORDS,
    MIN_RECORDS_PER_SECOND,
    SENT_BEFORE,
    SMALL_REQUESTS,
    BacklogLimiter,
    Limits,
    RequestSize,
)
from otelbridge.send.settings import SendSettings

FULL = Limits(1024 * 1024, 8192)
RECORD_BYTES = 128


@dataclass
class Endpoint:
    """Answers a request of so many records: None for a failure, else the seconds that it took."""

    answer: Callable[[int], float | None]
    deadline: float = 10.0
    requests: int = 0
    stored: int = 0
    """Records that it stored, copies included."""
    too_large: int | None = None


def deliver(endpoint: Endpoint, records: int, size: RequestSize | None = None) -> RequestSize:
    """Sends as the workers do: one request at a time, the oldest records first."""
    size = size or RequestSize(SendSettings())
    while records > 0:
        number = min(records, size.limits().max_records, size.limits().max_bytes // RECORD_BYTES or 1)
        endpoint.requests += 1
        request_bytes = number * RECORD_BYTES
        if endpoint.too_large is not None and number > endpoint.too_large:
            size.too_large(request_bytes, number)
            continue
        seconds = endpoint.answer(number)
        if seconds is None:
            size.failed(request_bytes, number, timed_out=False)
        elif seconds > endpoint.deadline:
            endpoint.stored += number
            size.failed(request_bytes, number, timed_out=True)
        else:
            endpoint.stored += number
            records -= number
            size.accepted(request_bytes, number, seconds)
        assert endpoint.requests < 100_000
    return size


def test_small_requests_prove_nothing_about_larger_ones() -> None:
    size = RequestSize(SendSettings())
    first = size.limits()
    for _ in range(100):
        size.accepted(first.max_bytes // 4, first.max_records // 4, 0.02)
    assert size.limits() == first
    size.accepted(first.max_bytes // 2 + 1, 1, 0.02)
    assert size.limits().max_records > first.max_records


def test_a_well_endpoint_gets_full_requests_after_a_few() -> None:
    endpoint = Endpoint(lambda _: 0.02)
    size = deliver(endpoint, 100_000)
    assert size.limits() == FULL
    assert endpoint.requests <= 100_000 / 8192 + 6


@pytest.mark.parametrize("seconds_per_record", [0.0001, 0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_where_time_grows_with_size_nothing_comes_near_the_deadline(seconds_per_record: float, constant: float) -> None:
    endpoint = Endpoint(lambda number: constant + number * seconds_per_record)
    deliver(endpoint, 4000)
    first_request = FIRST_SHARE * FULL.max_records
    in_doubt = 0 if first_request * seconds_per_record + constant < 10 else first_request * 2
    assert endpoint.stored - 4000 <= max(in_doubt, 0.02 * 4000)


def test_two_requests_of_one_size_under_way_at_once_double_the_limit_once() -> None:
    size = RequestSize(SendSettings())
    first = size.limits().max_records
    for _ in range(2):
        size.accepted(first * RECORD_BYTES, first, 0.02)
    assert size.limits().max_records == 2 * first


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.85])
def test_failures_by_chance_leave_requests_large(share: float) -> None:
    chance = random.Random(7)
    endpoint = Endpoint(lambda _: None if chance.random() < share else 0.02)
    deliver(endpoint, 8192 * 400)
    assert endpoint.requests * (1 - share) <= 400 / 0.8


@pytest.mark.parametrize("share", [0.0, 0.5, 0.85])
def test_a_size_that_fails_is_found_beside_failures_by_chance(share: float) -> None:
    chance = random.Random(8)
    endpoint = Endpoint(lambda number: None if number > 1000 or chance.random() < share else 0.02)
    deliver(endpoint, 200_000)
    assert endpoint.requests * (1 - share) <= 200_000 / 1000 * 3


def test_an_endpoint_that_is_slow_whatever_the_size_still_gets_full_requests() -> None:
    for seconds in (1.0, 4.0, 7.0):
        endpoint = Endpoint(lambda _, seconds=seconds: seconds)  # type: ignore[misc]
        assert deliver(endpoint, 200_000).limits() == FULL


@pytest.mark.parametrize("limit", [4000, 1000, 100, 7, 1])
@pytest.mark.parametrize("says_so", [True, False])
def test_a_limit_is_found_remembered_and_rarely_tried_again(limit: int, says_so: bool) -> None:
    endpoint = (
        Endpoint(lambda _: 0.01, too_large=limit)
        if says_so
        else Endpoint(lambda number: None if number > limit else 0.01)
    )
    size = deliver(endpoint, limit * 50)
    before = endpoint.requests
    deliver(endpoint, limit * 1000, size)
    assert endpoint.requests - before <= 1000 * 2.2
    assert limit / 2 <= size.limits().max_records or limit == 1


def test_a_limit_that_was_lifted_is_found_out() -> None:
    size = deliver(Endpoint(lambda _: 0.01, too_large=1000), 50_000)
    endpoint = Endpoint(lambda _: 0.01)
    assert deliver(endpoint, 2_000_000, size).limits() == FULL


def test_the_second_failure_of_a_large_request_makes_the_next_one_a_small_probe() -> None:
    size = deliver(Endpoint(lambda _: 0.01), 100_000)
    size.failed(*FULL, timed_out=False)
    assert size.limits() == FULL
    size.failed(*FULL, timed_out=False)
    assert size.limits().max_records == FIRST_SHARE * FULL.max_records
    size.accepted(FULL.max_bytes // 32, FULL.max_records // 32, 0.01)
    deliver(Endpoint(lambda _: 0.01), 20_000, size)
    assert FULL.max_records / 2 <= size.limits().max_records < FULL.max_records


def test_a_size_that_failed_and_passes_after_all_is_not_to_blame() -> None:
    size = RequestSize(SendSettings())
    first = size.limits()
    for _ in range(2):
        size.failed(*first, timed_out=False)
    assert size.limits().max_records == first.max_records / 4
    size.accepted(*first, 0.01)  # another worker's
    for _ in range(3):
        size.accepted(*size.limits(), 0.01)
    assert size.limits().max_records == 4 * first.max_records


def test_one_failure_alone_says_nothing_about_size() -> None:
    size = RequestSize(SendSettings())
    first = size.limits()
    size.failed(*first, timed_out=False)
    size.accepted(first.max_bytes // 4, first.max_records // 4, 0.01)
    assert size.limits() == first
    size.accepted(*first, 0.01)
    assert size.limits().max_records == 2 * first.max_records


def test_what_was_under_way_when_the_limit_fell_says_nothing_new_a_few_times() -> None:
    size = RequestSize(SendSettings())
    large = (32 * 1024, 256)
    assert [size.failed(*large, timed_out=False) for _ in range(2)] == [False, True]
    limits = size.limits()
    assert [size.failed(*large, timed_out=False) for _ in range(SENT_BEFORE)] == [True] * SENT_BEFORE
    assert size.limits() == limits
    assert not size.failed(*large, timed_out=False), "it is not cut, then, and has to wait like any other"
    assert not size.failed(32 * 1024, 1, timed_out=False), "no smaller request can tell about one record"


def test_a_size_that_is_known_to_fail_is_given_up_at_its_next_failure() -> None:
    endpoint = Endpoint(lambda number: 0.02 if number <= 1000 else None)
    size, known = deliver(endpoint, 20_000), 0
    for _ in range(50):
        records = size.limits().max_records
        if records <= 1000:
            size.accepted(records * RECORD_BYTES, records, 0.02)
        else:
            known += 1
            assert size.failed(records * RECORD_BYTES, records, timed_out=False)
    assert known


def test_one_record_can_be_no_smaller() -> None:
    size = RequestSize(SendSettings())
    before = size.limits()
    assert not any(size.failed(100_000, 1, timed_out=False) for _ in range(20))
    assert size.limits() == before


@pytest.mark.parametrize(
    ("requests", "failures", "expected"),
    [(SMALL_REQUESTS, 0, 0), (SMALL_REQUESTS, 1, 0), (SMALL_REQUESTS - 1, 1, 3), (SMALL_REQUESTS - 1, 30, 64)],
)
def test_the_more_small_requests_fail_the_more_failures_in_a_row_are_chance(
    requests: int, failures: int, expected: int
) -> None:
    size = RequestSize(SendSettings())
    for number in range(requests):
        size._count_small(0, failed=number < failures)
    assert size._failures_by_chance() == expected


def test_an_outage_says_nothing_about_size() -> None:
    size = deliver(Endpoint(lambda _: 0.01), 100_000)
    for _ in range(20):
        size.failed(size.limits().max_bytes, size.limits().max_records, timed_out=False)
    deliver(Endpoint(lambda _: 0.01), 100_000, size)
    assert size.limits() == FULL


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_random_failures_leave_requests_large_enough(share: float) -> None:
    chance = random.Random(7)
    endpoint = Endpoint(lambda _: None if chance.random() < share else 0.02)
    size = deliver(endpoint, 100_000)
    endpoint.requests = 0
    deliver(endpoint, 2_000_000, size)
    per_request = 2_000_000 / (endpoint.requests * (1 - share))
    assert per_request > 250


class Bench:
    """A queue that holds, a clock that is told."""

    def __init__(self, factor: float = 4) -> None:
        self.now = 0.0
        self.held = 1_000_000
        self.replay = BacklogLimiter(
            factor, held=lambda: self.held, clock=lambda: self.now, wall_clock_nano=lambda: int(self.now * 1e9)
        )

    def charge(self, records: int, *, age_seconds: float) -> None:
        self.replay.charge(records, int((self.now - age_seconds) * 1e9))

    def live(self, per_second: int, seconds: int) -> None:
        for _ in range(seconds):
            self.replay.observe()
            self.now += 1
            self.held += per_second
        self.replay.observe()

    def drained_in(self, seconds: float) -> int:
        """Records that workers get out in so many seconds if nothing else holds them."""
        sent, until = 0, self.now + seconds
        while self.now < until:
            pause = self.replay.wait_seconds()
            if pause:
                self.now += pause
                continue
            number = self.replay.max_records(8192)
            self.charge(number, age_seconds=3600)
            sent += number
        return sent


def test_the_backlog_is_sent_at_most_factor_times_as_fast_as_records_arrive() -> None:
    bench = Bench()
    bench.live(2000, 60)
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
    bench.drained_in(10)
    assert bench.drained_in(10) == pytest.approx(80_000, rel=0.05)


def test_a_quiet_cluster_still_gets_rid_of_its_backlog() -> None:
    bench = Bench()
    bench.live(0, 60)
    bench.drained_in(20)
    assert bench.drained_in(10) == pytest.approx(10 * MIN_RECORDS_PER_SECOND, rel=0.05)


def test_a_short_outage_is_not_paced() -> None:
    bench = Bench()
    bench.charge(FREE_RECORDS, age_seconds=60)
    assert bench.replay.wait_seconds() == 0


def test_fresh_records_are_not_charged_and_wait_at_most_a_slice() -> None:
    bench = Bench()
    bench.charge(10 * FREE_RECORDS, age_seconds=1)
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


def test_after_the_next_outage_it_is_paced_again() -> None:
    bench = Bench()
    bench.replay.end()
    bench.replay.begin()
    bench.drained_in(20)
    assert bench.drained_in(10) == pytest.approx(10 * MIN_RECORDS_PER_SECOND, rel=0.05)


def test_factor_zero_sets_no_limit() -> None:
    bench = Bench(factor=0)
    bench.charge(10 * FREE_RECORDS, age_seconds=3600)
    assert (bench.replay.max_records(8192), bench.replay.wait_seconds()) == (8192, 0)
