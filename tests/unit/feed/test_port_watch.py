from __future__ import annotations

import socket
import statistics
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from otelbridge.feed.port_watch import LookLimit, PortWatch, port_answers
from otelbridge.feed.settings import RetrySettings
from otelbridge.feed.stream import backoff_for
from otelbridge.simulator.upstream import Relay

ATTEMPT_SECONDS = 0.01


def come_back(random: Random, outage_seconds: float, limit: LookLimit | None = None) -> tuple[float, list[float]]:
    """When a bridge that lost its upstream at 0 is back, and when it looked; by backoff and looks as they are."""
    clock, looks = 0.0, []

    def answers() -> bool:
        looks.append(clock)
        return clock >= outage_seconds

    backoff = backoff_for(RetrySettings(), random)
    watch = PortWatch(0.0, limit=limit or LookLimit(), random=random, answers=answers)
    healthy = True
    while True:
        attempt_at = clock + backoff.delay_after(slow=False, healthy=healthy, quick=False)
        while watch.next_at < attempt_at:
            clock = watch.next_at
            if watch.is_back(clock):
                break
        else:
            clock = attempt_at
        if clock >= outage_seconds:
            return clock + ATTEMPT_SECONDS, looks
        healthy = False


@pytest.mark.parametrize("outage_seconds", [1.0, 2.0, 5.0, 10.0, 15.0, 20.0])
def test_the_way_back_takes_a_second_by_half_and_three_at_most(outage_seconds: float) -> None:
    random = Random(20_261_129)
    waits = sorted(come_back(Random(random.random()), outage_seconds)[0] - outage_seconds for _ in range(1_000))
    assert statistics.median(waits) <= 1.0
    assert waits[949] <= 3.0


@pytest.mark.parametrize("outage_seconds", [120.0, 300.0])
def test_of_five_thousand_bridges_no_more_than_seven_in_a_hundred_come_back_in_a_second(outage_seconds: float) -> None:
    random = Random(20_261_129)
    back = Counter(int(come_back(Random(random.random()), outage_seconds)[0]) for _ in range(5_000))
    assert max(back.values()) <= 0.07 * 5_000


def test_nobody_looks_more_than_once_a_second_and_ever_more_rarely() -> None:
    for seed in range(50):
        _, looks = come_back(Random(seed), 600.0)
        assert min(after - before for before, after in pairwise(looks)) >= 1.0
        assert len(looks) <= 40


def test_all_subscriptions_of_a_bridge_share_one_look_a_second() -> None:
    limit, looks = LookLimit(), []
    watches = [
        PortWatch(0.0, limit=limit, random=Random(seed), answers=lambda: bool(looks.append(now)))  # type: ignore[func-returns-value]
        for seed in range(20)
    ]
    now = 0.0
    for step in range(1_000):
        now = step / 100
        for watch in watches:
            watch.is_back(now)
    assert len(looks) <= 10


def test_a_port_that_answered_all_the_time_is_no_news() -> None:
    watch = PortWatch(0.0, limit=LookLimit(), random=Random(1), answers=lambda: True)
    assert not any(watch.is_back(float(second)) for second in range(0, 60, 2)), (
        "a frozen server still takes connections"
    )


def test_who_may_not_look_has_seen_nothing() -> None:
    limit = LookLimit()
    watch = PortWatch(0.0, limit=limit, random=Random(1), answers=lambda: True)
    limit.take(2.0)
    assert not watch.is_back(2.5)


@pytest.mark.parametrize("speaks_first", [True, False])
def test_a_port_where_nobody_listens_does_not_answer(speaks_first: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert not port_answers("127.0.0.1", port, speaks_first=speaks_first)


def test_a_server_that_takes_connections_but_does_not_speak_answers_only_where_it_need_not_speak() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        assert port_answers("127.0.0.1", port, speaks_first=False)
        assert not port_answers("127.0.0.1", port, speaks_first=True)


def test_a_relay_answers() -> None:
    with Relay() as relay:
        host, _, port = relay.endpoint.rpartition(":")
        assert port_answers(host, int(port), speaks_first=True)


def test_after_the_end_of_the_servers_process_the_first_look_is_enough() -> None:
    watch = PortWatch(0.0, limit=LookLimit(), random=Random(1), answers=lambda: True, shut=True)
    assert not watch.is_back(0.9), "but no sooner than a second"
    assert watch.is_back(1.5)
