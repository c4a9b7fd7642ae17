from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from random import Random

from otelbridge.feed.backoff import Backoff, is_healthy
from otelbridge.feed.settings import RetrySettings
from otelbridge.feed.status_codes import ErrorClass


@dataclass
class Loss:
    error_class: ErrorClass = ErrorClass.TRANSIENT
    healthy: bool = False
    quick: bool = False


def test_each_wait_is_between_half_a_step_and_a_whole_one() -> None:
    for seed in range(200):
        ladder = Backoff(RetrySettings(), Random(seed))
        for step in (1, 2, 4, 8, 16, 30, 30, 30):
            assert step / 2 <= ladder.delay_after(Loss()) <= step


def test_the_longest_step_is_jittered_too() -> None:
    waits = []
    for seed in range(200):
        ladder = Backoff(RetrySettings(), Random(seed))
        waits.append([ladder.delay_after(Loss()) for _ in range(10)][-1])
    assert statistics.pstdev(waits) > 3


def test_a_healthy_spell_starts_the_ladder_anew_and_the_first_wait_is_short() -> None:
    ladder = Backoff(RetrySettings(), Random(1))
    for _ in range(8):
        ladder.delay_after(Loss())
    assert ladder.delay_after(Loss(healthy=True)) <= 1
    assert 0.5 <= ladder.delay_after(Loss()) <= 1


def test_what_an_operator_has_to_cure_has_a_ladder_of_its_own() -> None:
    ladder = Backoff(RetrySettings(), Random(1))
    for _ in range(4):
        ladder.delay_after(Loss())
    for step in (30, 60, 120, 240, 300, 300):
        assert step / 2 <= ladder.delay_after(Loss(error_class=ErrorClass.CONFIGURATION)) <= step


def test_a_poison_event_is_answered_within_a_second_and_climbs_nothing() -> None:
    ladder = Backoff(RetrySettings(), Random(1))
    for _ in range(50):
        assert 0.1 <= ladder.delay_after(Loss(quick=True)) <= 1
    assert ladder.delay_after(Loss()) <= 1


def test_being_connected_is_not_health() -> None:
    retry = RetrySettings(healthy_after_seconds=30)
    assert not is_healthy(29, 0, retry)
    assert is_healthy(30, 0, retry)
    assert is_healthy(10, 1, retry)
    assert not is_healthy(9, 1000, retry)


def test_five_thousand_clients_do_not_come_back_in_one_second() -> None:
    clients, outage_seconds = 5_000, 120.0
    random = Random(20_261_124)
    connects: Counter[int] = Counter()
    recovered = []
    for _ in range(clients):
        ladder = Backoff(RetrySettings(), Random(random.random()))
        now = ladder.delay_after(Loss(healthy=True))
        while now < outage_seconds:
            now += ladder.delay_after(Loss())
        connects[int(now)] += 1
        recovered.append(now - outage_seconds)
    assert max(connects.values()) <= 0.07 * clients
    assert statistics.median(recovered) < 20
    assert max(recovered) <= 30
