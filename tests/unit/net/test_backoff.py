from __future__ import annotations

import statistics
from collections import Counter
from random import Random

from otelbridge.feed.settings import RetrySettings
from otelbridge.feed.stream import backoff_for, is_healthy
from otelbridge.net.backoff import Backoff


def lost(backoff: Backoff, *, slow: bool = False, healthy: bool = False, quick: bool = False) -> float:
    return backoff.delay_after(slow=slow, healthy=healthy, quick=quick)


def test_each_wait_is_between_half_a_step_and_a_whole_one() -> None:
    for seed in range(200):
        backoff = backoff_for(RetrySettings(), Random(seed))
        for step in (1, 2, 4, 8, 16, 30, 30, 30):
            assert step / 2 <= lost(backoff) <= step


def test_the_longest_step_is_jittered_too() -> None:
    waits = []
    for seed in range(200):
        backoff = backoff_for(RetrySettings(), Random(seed))
        waits.append([lost(backoff) for _ in range(10)][-1])
    assert statistics.pstdev(waits) > 3


def test_a_healthy_spell_starts_the_ladder_anew_and_the_first_wait_is_short() -> None:
    backoff = backoff_for(RetrySettings(), Random(1))
    for _ in range(8):
        lost(backoff)
    assert lost(backoff, healthy=True) <= 1
    assert 0.5 <= lost(backoff) <= 1


def test_what_an_operator_has_to_cure_has_a_ladder_of_its_own() -> None:
    backoff = backoff_for(RetrySettings(), Random(1))
    for _ in range(4):
        lost(backoff)
    for step in (30, 60, 120, 240, 300, 300):
        assert step / 2 <= lost(backoff, slow=True) <= step


def test_three_poison_events_are_answered_within_a_second_each_and_climb_nothing() -> None:
    backoff = backoff_for(RetrySettings(), Random(1))
    for _ in range(3):
        assert 0.5 <= lost(backoff, quick=True) <= 1
    assert lost(backoff) <= 1


def test_a_stream_that_ends_by_one_bad_event_after_another_is_not_opened_ever_so_fast() -> None:
    for seed in range(100):
        backoff = backoff_for(RetrySettings(), Random(seed))
        waits = [lost(backoff, quick=True) for _ in range(12)]
        assert min(waits) >= 0.5, "four clients that reopen every 150 ms crash a relay"
        assert sum(waits) > 60


def test_after_a_healthy_spell_bad_events_are_answered_quickly_again() -> None:
    backoff = backoff_for(RetrySettings(), Random(1))
    for _ in range(10):
        lost(backoff, quick=True)
    lost(backoff, healthy=True)
    assert lost(backoff, quick=True) <= 1


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
        backoff = backoff_for(RetrySettings(), Random(random.random()))
        now = lost(backoff, healthy=True)
        while now < outage_seconds:
            now += lost(backoff)
        connects[int(now)] += 1
        recovered.append(now - outage_seconds)
    assert max(connects.values()) <= 0.07 * clients
    assert statistics.median(recovered) < 20
    assert max(recovered) <= 30
