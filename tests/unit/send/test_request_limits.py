"""The size of requests, found by experiment against modelled endpoints, in no time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from otelbridge.send.request_limits import FIRST_SHARE, Limits, RequestSize
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
