"""A size that never passes is found by experiment, whatever is said of it; who asks for less is left in peace."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from itertools import pairwise
from threading import Lock

import grpc
import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Answer, Answers, Http, Request, Status
from tests.integration.send.campaigns import SHIPPED
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of
from tests.waiting import eventually

RECORDS = [f"r{n}" for n in range(1200)]
SMALL = 16 * 1024
"""Less than the first request may hold."""
REFUSALS: dict[str, Answer] = {
    **{str(status): Http(status=status, body=b"no") for status in (403, 404, 429, 500, 503, 504)},
    **{
        code.name: Status(code=code, details="no")
        for code in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.PERMISSION_DENIED,
        )
    },
}


def protocol_of(name: str) -> str:
    return "http/protobuf" if name.isdigit() else "grpc"


def above(limit: int, answer: Answer) -> Answers:
    return lambda request: answer if len(request.body) > limit else OK


@pytest.mark.parametrize("name", REFUSALS)
def test_a_size_that_never_passes_is_found_within_seconds(road: Road, name: str) -> None:
    with OtlpEndpoint(answers=above(SMALL, REFUSALS[name])) as endpoint:
        road.put(*[batch_of(*RECORDS[n : n + 60], padding=200) for n in range(0, len(RECORDS), 60)])
        workers = road.start(endpoint, protocol=protocol_of(name), **SHIPPED)
        eventually(lambda: road.held() == 0, within_seconds=10)
        road.closing.close()
        arrived = Counter(bodies_of(endpoint.log_records()))
    assert arrived == Counter(RECORDS)
    assert workers.status().counts.dead_letter_records == 0


@pytest.mark.parametrize("name", ["403", "500", "INTERNAL"])
def test_one_batch_with_nothing_to_compare_it_with_is_sent_in_pieces(road: Road, name: str) -> None:
    with OtlpEndpoint(answers=above(SMALL, REFUSALS[name])) as endpoint:
        road.put(batch_of(*RECORDS[:100], padding=200))
        workers = road.start(endpoint, protocol=protocol_of(name), **SHIPPED)
        eventually(lambda: road.held() == 0, within_seconds=10)
        road.closing.close()
        arrived = Counter(bodies_of(endpoint.log_records()))
    assert arrived == Counter(RECORDS[:100])
    assert workers.status().counts.dead_letter_records == 0


@pytest.mark.parametrize("name", REFUSALS)
def test_one_record_that_is_too_large_holds_up_no_others(road: Road, name: str) -> None:
    with OtlpEndpoint(answers=above(SMALL, REFUSALS[name])) as endpoint:
        workers = road.start(endpoint, protocol=protocol_of(name), **SHIPPED)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        road.put(batch_of("large", padding=2 * SMALL))
        for n in range(20):
            road.put(batch_of(f"r{n}"))
            eventually(lambda: road.held() <= 1, within_seconds=10)
        eventually(lambda: road.held() == 0, within_seconds=10)
        road.closing.close()
        arrived = bodies_of(endpoint.log_records())
    assert Counter(arrived) == Counter(["welcome", *(f"r{n}" for n in range(20))])
    assert workers.status().counts.dead_letter_records == 1


ASKS_FOR_TIME: dict[str, Answer] = {
    **{str(status): Http(status=status, headers={"retry-after": "1"}, body=b"no") for status in (429, 500, 503)},
    **{
        code.name: Status(code=code, details="no", retry_delay_seconds=1)
        for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    },
}


@pytest.mark.parametrize("name", ASKS_FOR_TIME)
def test_one_record_that_is_too_large_for_an_endpoint_that_asks_for_time_holds_up_no_others(
    road: Road, name: str
) -> None:
    refused, too_early, lock = [-math.inf], [], Lock()

    def judge(request: Request) -> Answer:
        now = time.monotonic()
        with lock:
            if now - refused[0] < 1:
                too_early.append(now - refused[0])
            if len(request.body) > SMALL:
                refused[0] = now
                return ASKS_FOR_TIME[name]
        return OK

    with OtlpEndpoint(answers=judge) as endpoint:
        workers = road.start(endpoint, protocol=protocol_of(name), **SHIPPED, concurrency=1)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        road.put(batch_of("large", padding=2 * SMALL), *[batch_of(*RECORDS[n : n + 60]) for n in range(0, 1200, 60)])
        eventually(lambda: road.held() == 1, within_seconds=10)
        began = time.monotonic()
        for n in range(10):  # a trickle
            road.put(batch_of(f"later{n}"))
            eventually(lambda: road.held() == 1, within_seconds=5)
            threading.Event().wait(0.3)  # the pace of the load
        assert time.monotonic() - began < 12
        road.closing.close()
        arrived = bodies_of(endpoint.log_records())
    assert Counter(arrived) == Counter(["welcome", *RECORDS, *(f"later{n}" for n in range(10))])
    assert workers.status().counts.dead_letter_records == 0, "not within this time"
    assert not too_early


def test_what_is_refused_again_whenever_its_time_has_been_given_while_others_pass_is_set_aside(road: Road) -> None:
    refusal = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="no", retry_delay_seconds=0.05)
    with OtlpEndpoint(answers=above(SMALL, refusal)) as endpoint:
        workers = road.start(endpoint, retry_initial_seconds=0.01)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        road.put(batch_of("large", padding=2 * SMALL))
        put = 0
        while workers.status().counts.dead_letter_records == 0 and put < 1000:
            road.put(batch_of(f"r{put}"))
            put += 1
            eventually(lambda: road.held() <= 1, within_seconds=5)
        eventually(lambda: road.held() == 0, within_seconds=5)
        road.closing.close()
        arrived = bodies_of(endpoint.log_records())
    assert Counter(arrived) == Counter(["welcome", *(f"r{n}" for n in range(put))])
    assert workers.status().counts.dead_letter_records == 1


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_large_record_that_a_rate_limit_refuses_beside_others_is_not_to_blame(road: Road, protocol: str) -> None:
    """One request in so much time, whatever it holds: others are quicker each time, unless its turn comes first."""
    pause, taken, lock = 0.1, [-math.inf], Lock()
    refusal = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="slow down", retry_delay_seconds=pause)

    def judge(request: Request) -> Answer:
        now = time.monotonic()
        with lock:
            if now - taken[0] < pause:
                return refusal
            taken[0] = now
        return OK

    with OtlpEndpoint(answers=judge) as endpoint:
        workers = road.start(endpoint, protocol=protocol, retry_initial_seconds=0.01, concurrency=1)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        road.put(batch_of("large", padding=2 * SMALL))
        for n in range(30):
            road.put(batch_of(f"r{n}"))
            threading.Event().wait(0.05)  # the pace of the load
        eventually(lambda: road.held() == 0, within_seconds=30)
        road.closing.close()
        arrived = bodies_of(endpoint.log_records())
    assert Counter(arrived) == Counter(["welcome", "large", *(f"r{n}" for n in range(30))])
    assert workers.status().counts.dead_letter_records == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_who_asks_for_time_gets_it_whatever_the_size(road: Road, protocol: str) -> None:
    moments: list[float] = []

    def judge(_: Request) -> Answer:
        moments.append(time.monotonic())
        return Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="slow down", retry_delay_seconds=1)

    with OtlpEndpoint(answers=judge) as endpoint:
        road.put(*[batch_of(*RECORDS[n : n + 60], padding=200) for n in range(0, len(RECORDS), 60)])
        road.start(endpoint, protocol=protocol, **SHIPPED, concurrency=1)
        eventually(lambda: len(moments) >= 4, within_seconds=15)
        assert road.held() == len(RECORDS)
        road.closing.close()
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 1
