"""The shared answer to "may I send now?", with a clock and dice of the test's own."""

from __future__ import annotations

import random
import statistics

import pytest

from otelbridge.queue.model import Hold, RetryLater
from otelbridge.send.circuit_breaker import BURST_FAILURES, PROBE_TRIES, CircuitBreaker, EndpointState, Permit
from otelbridge.send.request_limits import RequestSize
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from

BUSY = RetryLater(code="UNAVAILABLE", why="busy")
LOCKED = Hold(code="401", why="who are you", cure="a key")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker_with(clock: Clock, *, dice: float = 1.0, **settings: float) -> CircuitBreaker:
    return CircuitBreaker(section_from(SendSettings, settings), clock=clock, random=lambda: dice)


def permit(breaker: CircuitBreaker) -> Permit:
    given = breaker.ask(within_seconds=0)
    assert given is not None
    return given


def test_while_it_is_ok_everybody_may_send() -> None:
    breaker = breaker_with(Clock())
    assert [permit(breaker).probe for _ in range(3)] == [False] * 3


def test_the_ladder_doubles_from_one_second_to_sixty() -> None:
    clock, delays, tries = Clock(), [], []
    breaker = breaker_with(clock)
    for _ in range(9):
        failures = 1
        while (delay := breaker.failed(permit(breaker), BUSY)) is None:
            failures += 1
        delays.append(delay)
        tries.append(failures)
        clock.now += delay
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert tries == [1] + [PROBE_TRIES] * 8


def test_holding_has_a_ladder_of_its_own() -> None:
    clock, delays = Clock(), []
    breaker = breaker_with(clock)
    breaker.failed(permit(breaker), BUSY)
    clock.now += 1
    for _ in range(6):
        delay = breaker.failed(permit(breaker), LOCKED)
        assert delay is not None
        delays.append(delay)
        clock.now += delay
    assert delays == [30, 60, 120, 240, 300, 300]
    assert breaker.snapshot().state is EndpointState.HELD


THROTTLED = RetryLater(code="429", why="slow down")


@pytest.mark.parametrize("outcome", [THROTTLED, BUSY, LOCKED])
def test_a_smaller_probe_goes_at_once_and_lengthens_no_delay(outcome: RetryLater | Hold) -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    assert breaker.failed(permit(breaker), outcome, smaller=True) is None
    first = breaker.failed(permit(breaker), outcome)
    assert first is not None
    assert breaker.ask(within_seconds=0) is None
    clock.now += first
    assert breaker.failed(permit(breaker), outcome, smaller=True) is None
    smaller = permit(breaker)
    assert smaller.probe
    breaker.accepted(smaller)
    assert breaker.snapshot().state is EndpointState.DELIVERING


def test_a_smaller_probe_waits_as_long_as_the_endpoint_asks() -> None:
    clock = Clock()
    breaker = breaker_with(clock, dice=0.0)
    asked = RetryLater(code="429", why="slow down", after_seconds=5)
    for _ in range(3):
        assert breaker.failed(permit(breaker), asked, smaller=True) == 5
        clock.now += 5


def test_who_throttles_everything_is_asked_ever_more_rarely() -> None:
    clock, tries = Clock(), 0
    breaker, size = breaker_with(clock, dice=0.5), RequestSize(SendSettings())
    while clock.now < 160:
        given = permit(breaker)
        tries += 1
        limits = size.limits()
        smaller = size.failed(limits.max_bytes, limits.max_records, timed_out=False)
        clock.now += breaker.failed(given, THROTTLED, smaller=smaller) or 0.0
    assert tries <= 16


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_jitter_is_full_for_retries_and_half_for_holds(dice: float) -> None:
    clock = Clock()
    breaker = breaker_with(clock, dice=dice)
    assert breaker.failed(permit(breaker), BUSY) == dice
    clock.now += 1
    assert breaker.failed(permit(breaker), LOCKED) == 30 * (0.5 + dice / 2)


@pytest.mark.parametrize(("asked", "least", "most"), [(0, 1, 1), (20, 20, 21), (10_000, 600, 600)])
def test_a_longer_delay_that_the_server_asks_for_wins_up_to_its_cap(asked: float, least: float, most: float) -> None:
    breaker = breaker_with(Clock())
    delay = breaker.failed(permit(breaker), RetryLater(code="x", why="x", after_seconds=asked))
    assert delay is not None
    assert least <= delay <= most


def test_only_one_probes_and_only_when_it_is_time() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    breaker.failed(permit(breaker), BUSY)
    assert breaker.ask(within_seconds=0) is None
    clock.now += 1
    probe = permit(breaker)
    assert probe.probe
    assert breaker.ask(within_seconds=0) is None
    assert breaker.accepted(probe)[0] == pytest.approx(1)
    assert not permit(breaker).probe


def test_a_probe_that_found_nothing_to_send_lets_the_next_one_go() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    breaker.failed(permit(breaker), BUSY)
    clock.now += 1
    breaker.unused(permit(breaker))
    assert permit(breaker).probe


def test_several_failures_under_way_at_once_are_one_step() -> None:
    breaker = breaker_with(Clock())
    three = [permit(breaker) for _ in range(3)]
    assert [breaker.failed(one, BUSY) for one in three] == [1, None, None]


def test_a_success_sent_earlier_does_not_cut_short_a_delay_asked_for_since() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    slow, fast = permit(breaker), permit(breaker)
    breaker.failed(fast, BUSY)
    assert breaker.accepted(slow)[0] == 0
    assert breaker.snapshot().state is EndpointState.DELAYED
    clock.now += 1
    breaker.accepted(permit(breaker))
    assert breaker.failed(permit(breaker), BUSY) == 1


def test_weather_tells_why_since_when_and_until_when() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    breaker.failed(permit(breaker), BUSY)
    clock.now += 0.25
    state = breaker.snapshot()
    assert (state.state, state.code, state.why, state.cure) == (EndpointState.DELAYED, "UNAVAILABLE", "busy", "")
    assert (state.delay_seconds, state.next_try_seconds) == (1, 0.75)


def test_in_a_hurry_it_tries_once_at_once_and_waits_for_nothing_beyond_the_deadline() -> None:
    clock = Clock()
    breaker = breaker_with(clock, retry_initial_seconds=50)
    breaker.failed(permit(breaker), BUSY)
    breaker.hurry(within_seconds=20)
    overs = [breaker.over]
    breaker.failed(permit(breaker), BUSY)
    overs.append(breaker.over)
    assert overs == [False, True]
    assert breaker.ask(within_seconds=1000) is None


def test_after_stop_there_are_no_permits() -> None:
    breaker = breaker_with(Clock())
    breaker.stop()
    assert breaker.ask(within_seconds=1000) is None


def test_it_is_idle_until_something_is_answered_and_an_operator_is_told_the_cure() -> None:
    breaker = breaker_with(Clock())
    assert breaker.snapshot().state is EndpointState.IDLE
    breaker.failed(permit(breaker), LOCKED)
    state = breaker.snapshot()
    assert (state.state, state.cure, state.last_accepted_unix_nano) == (EndpointState.HELD, "a key", None)


PERHAPS = RetryLater(code="INTERNAL", why="boom", perhaps_its_own_fault=True)


def test_failures_that_may_be_chance_are_no_step_of_the_backoff_until_a_burst_of_them_is_over() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    breaker.accepted(permit(breaker))
    delays = [breaker.failed(permit(breaker), PERHAPS) for _ in range(BURST_FAILURES)]
    assert delays == [None] * (BURST_FAILURES - 1) + [1]
    assert breaker.snapshot().state is EndpointState.DELAYED
    bursts = []
    for _ in range(7):
        clock.now += 1000
        failures = 1
        while breaker.failed(permit(breaker), PERHAPS) is None:
            failures += 1
        bursts.append(failures)
    assert bursts == [16, 8] + [PROBE_TRIES] * 5


def test_a_success_between_them_begins_the_burst_anew() -> None:
    breaker = breaker_with(Clock())
    for _ in range(5 * BURST_FAILURES):
        assert breaker.failed(permit(breaker), PERHAPS) is None
        breaker.accepted(permit(breaker))


@pytest.mark.parametrize(("accepted_since", "free"), [(0, 7), (16, 3), (2 * 16, 1), (3 * 16, 0)])
def test_unavailable_is_chance_only_where_it_has_come_to_nothing_again_and_again_of_late(
    accepted_since: int, free: int
) -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    for _ in range(2):
        assert breaker.failed(permit(breaker), BUSY) == 1
        clock.now += 1
        breaker.accepted(permit(breaker))
    for _ in range(accepted_since):
        breaker.accepted(permit(breaker))
    for _ in range(free):
        assert breaker.failed(permit(breaker), BUSY) is None
    assert breaker.failed(permit(breaker), BUSY) == 1


def share_of_capacity(failures: float, *, seed: int) -> float:
    """Of what an endpoint accepts that answers 503 so often, from the 30th second on; requests take 30 ms."""
    chance, clock, accepted = random.Random(seed), Clock(), 0
    breaker = CircuitBreaker(SendSettings(), clock=clock, random=chance.random)
    breaker.accepted(permit(breaker))
    while clock.now < 190:
        given = breaker.ask(within_seconds=0)
        if given is None:
            clock.now += breaker.snapshot().next_try_seconds + 1e-6
            continue
        clock.now += 0.03
        if chance.random() < failures:
            breaker.failed(given, BUSY)
            clock.now += 0.003
        else:
            breaker.accepted(given)
            accepted += clock.now > 130
    return accepted / (60 / 0.03 * (1 - failures))


@pytest.mark.parametrize("failures", [0.5, 0.7, 0.85])
def test_where_unavailable_is_chance_it_costs_its_share_of_the_capacity(failures: float) -> None:
    shares = [share_of_capacity(failures, seed=seed) for seed in range(40)]
    assert statistics.mean(shares) >= 0.8, shares


def test_outages_far_apart_are_no_chance() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    for _ in range(5):
        assert breaker.failed(permit(breaker), BUSY) == 1
        clock.now += 60
        breaker.accepted(permit(breaker))


@pytest.mark.parametrize("code", ["429", "RESOURCE_EXHAUSTED", "504", "timeout"])
def test_throttling_and_silence_are_no_chance(code: str) -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    for _ in range(4):
        assert breaker.failed(permit(breaker), RetryLater(code=code, why="slowly")) == 1
        clock.now += 1
        breaker.accepted(permit(breaker))


def delayed_by_a_suspect(clock: Clock) -> CircuitBreaker:
    breaker = breaker_with(clock)
    while breaker.failed(permit(breaker), PERHAPS, suspected=True) is None:
        pass
    return breaker


def test_what_is_not_under_suspicion_does_not_wait_for_what_is() -> None:
    breaker = delayed_by_a_suspect(Clock())
    assert breaker.ask(within_seconds=0) is None
    given = breaker.ask(within_seconds=0, unsuspected=True)
    assert given is not None
    assert given.probe
    assert breaker.accepted(given)[0] >= 0
    assert breaker.snapshot().state is EndpointState.DELIVERING


def test_when_that_fails_as_well_everybody_waits() -> None:
    clock = Clock()
    breaker = delayed_by_a_suspect(clock)
    given = breaker.ask(within_seconds=0, unsuspected=True)
    assert given is not None
    breaker.failed(given, PERHAPS)
    assert breaker.ask(within_seconds=0, unsuspected=True) is None
    clock.now += 1
    assert breaker.ask(within_seconds=0) is not None


def test_what_the_endpoint_is_to_blame_for_keeps_everybody_waiting() -> None:
    breaker = breaker_with(Clock())
    breaker.failed(permit(breaker), BUSY, suspected=True)
    assert breaker.ask(within_seconds=0, unsuspected=True) is None


def test_a_failure_with_a_delay_asked_for_is_no_chance() -> None:
    breaker = breaker_with(Clock())
    asked = RetryLater(code="INTERNAL", why="boom", perhaps_its_own_fault=True, after_seconds=5)
    delay = breaker.failed(permit(breaker), asked)
    assert delay is not None
    assert delay >= 5


def test_a_round_that_was_accepted_in_part_still_keeps_the_delay_that_its_end_was_asked_for() -> None:
    clock = Clock()
    breaker = breaker_with(clock)
    breaker.failed(permit(breaker), BUSY)
    clock.now += 1
    _, later = breaker.accepted(permit(breaker))
    assert breaker.failed(later, BUSY) == 1
    assert breaker.snapshot().state is EndpointState.DELAYED
