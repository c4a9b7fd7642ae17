"""The shared answer to "may I send now?", with a clock and dice of the test's own."""

from __future__ import annotations

import pytest

from otelbridge.queue.model import Hold, RetryLater
from otelbridge.send.circuit_breaker import CircuitBreaker, EndpointState, Permit
from otelbridge.send.settings import SendSettings

BUSY = RetryLater(code="UNAVAILABLE", why="busy")
LOCKED = Hold(code="401", why="who are you", cure="a key")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def patient(clock: Clock, *, dice: float = 1.0, **settings: float) -> CircuitBreaker:
    return CircuitBreaker(SendSettings.model_validate(settings), clock=clock, random=lambda: dice)


def permit(patience: CircuitBreaker) -> Permit:
    given = patience.ask(within_seconds=0)
    assert given is not None
    return given


def test_while_it_is_ok_everybody_may_send() -> None:
    patience = patient(Clock())
    assert [permit(patience).probe for _ in range(3)] == [False] * 3


def test_the_ladder_doubles_from_one_second_to_sixty() -> None:
    clock, delays = Clock(), []
    patience = patient(clock)
    for _ in range(9):
        delay = patience.failed(permit(patience), BUSY)
        assert delay is not None
        delays.append(delay)
        clock.now += delay
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_holding_has_a_ladder_of_its_own() -> None:
    clock, delays = Clock(), []
    patience = patient(clock)
    patience.failed(permit(patience), BUSY)
    clock.now += 1
    for _ in range(6):
        delay = patience.failed(permit(patience), LOCKED)
        assert delay is not None
        delays.append(delay)
        clock.now += delay
    assert delays == [30, 60, 120, 240, 300, 300]
    assert patience.weather().state is EndpointState.HELD


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_jitter_is_full_for_retries_and_half_for_holds(dice: float) -> None:
    clock = Clock()
    patience = patient(clock, dice=dice)
    assert patience.failed(permit(patience), BUSY) == dice
    clock.now += 1
    assert patience.failed(permit(patience), LOCKED) == 30 * (0.5 + dice / 2)


@pytest.mark.parametrize(("asked", "least", "most"), [(0, 1, 1), (20, 20, 21), (10_000, 600, 600)])
def test_a_longer_delay_that_the_server_asks_for_wins_up_to_its_cap(asked: float, least: float, most: float) -> None:
    patience = patient(Clock())
    delay = patience.failed(permit(patience), RetryLater(code="x", why="x", after_seconds=asked))
    assert delay is not None
    assert least <= delay <= most


def test_only_one_probes_and_only_when_it_is_time() -> None:
    clock = Clock()
    patience = patient(clock)
    patience.failed(permit(patience), BUSY)
    assert patience.ask(within_seconds=0) is None
    clock.now += 1
    probe = permit(patience)
    assert probe.probe
    assert patience.ask(within_seconds=0) is None
    assert patience.accepted(probe) == pytest.approx(1)
    assert not permit(patience).probe


def test_a_probe_that_found_nothing_to_send_lets_the_next_one_go() -> None:
    clock = Clock()
    patience = patient(clock)
    patience.failed(permit(patience), BUSY)
    clock.now += 1
    patience.unused(permit(patience))
    assert permit(patience).probe


def test_several_failures_under_way_at_once_are_one_step() -> None:
    patience = patient(Clock())
    three = [permit(patience) for _ in range(3)]
    assert [patience.failed(one, BUSY) for one in three] == [1, None, None]


def test_a_success_sent_earlier_does_not_cut_short_a_delay_asked_for_since() -> None:
    clock = Clock()
    patience = patient(clock)
    slow, fast = permit(patience), permit(patience)
    patience.failed(fast, BUSY)
    assert patience.accepted(slow) == 0
    assert patience.weather().state is EndpointState.DELAYED
    clock.now += 1
    patience.accepted(permit(patience))
    assert patience.failed(permit(patience), BUSY) == 1


def test_weather_tells_why_since_when_and_until_when() -> None:
    clock = Clock()
    patience = patient(clock)
    patience.failed(permit(patience), BUSY)
    clock.now += 0.25
    weather = patience.weather()
    assert (weather.state, weather.why) == (EndpointState.DELAYED, "busy")
    assert (weather.since_seconds, weather.next_try_seconds) == (0.25, 0.75)


def test_in_a_hurry_it_tries_once_at_once_and_waits_for_nothing_beyond_the_deadline() -> None:
    clock = Clock()
    patience = patient(clock, retry_initial_seconds=50)
    patience.failed(permit(patience), BUSY)
    patience.hurry(within_seconds=20)
    overs = [patience.over]
    patience.failed(permit(patience), BUSY)
    overs.append(patience.over)
    assert overs == [False, True]
    assert patience.ask(within_seconds=1000) is None


def test_after_stop_there_are_no_permits() -> None:
    patience = patient(Clock())
    patience.stop()
    assert patience.ask(within_seconds=1000) is None
