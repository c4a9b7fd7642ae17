from __future__ import annotations

from random import Random

import pytest

from otelbridge.event import NANOSECONDS
from otelbridge.feed.gap_tracker import NODES_RETURN_SECONDS
from otelbridge.feed.monitor import StallDetector, stall_until

START = 1_000.0


def nanos(seconds: float) -> int:
    return round((START + seconds) * NANOSECONDS)


def flowing(until: float, every: float = 0.05) -> StallDetector:
    detector = StallDetector(nanos(0))
    for step in range(int(until) + 1):
        detector.look(nanos(step - step % every))
    detector.look(nanos(until))
    return detector


@pytest.mark.parametrize("seconds", [5.0, 8.0, 14.0])
def test_a_stall_of_a_flowing_stream_is_found_from_its_last_event_on(seconds: float) -> None:
    detector, asked = flowing(30.0), 0.0
    for step in range(1, 20):
        if step < seconds and detector.wants_probe(nanos(30 + step), nanos(asked)):
            asked = 30.0 + step
            break
    assert asked - 30 <= 3.0, "the silence is asked about at once"
    assert detector.answered(nanos(asked), nanos(30 + seconds)) == stall_until(nanos(30), nanos(30 + seconds))


def test_events_that_come_before_the_late_answer_change_nothing() -> None:
    detector = flowing(30.0)
    detector.look(nanos(38.1))  # the relay goes on, and the next look is earlier than the answer
    assert detector.answered(nanos(33), nanos(38.2)) == stall_until(nanos(30), nanos(38.2))


def test_a_silence_with_an_answer_at_once_is_no_stall() -> None:
    detector = flowing(30.0)
    assert detector.wants_probe(nanos(33), nanos(15))
    assert detector.answered(nanos(33), nanos(33.01)) is None


def test_a_late_answer_while_events_flow_is_no_stall() -> None:
    detector = flowing(30.0)
    for step in range(31, 36):
        detector.look(nanos(step))
    assert detector.answered(nanos(31), nanos(35)) is None


def test_a_late_answer_is_no_stall_where_the_next_event_was_seen_before_it() -> None:
    detector = flowing(30.0)
    assert detector.answered(nanos(20), nanos(20.01)) is None
    for step in range(31, 36):
        detector.look(nanos(step + 0.002))  # the last of them came after the answer, and was seen before it
    assert detector.answered(nanos(34), nanos(35), seen=nanos(35.003)) is None


def test_a_stall_begins_at_its_last_event_though_the_next_one_was_seen_before_the_answer() -> None:
    detector = flowing(30.0)
    assert detector.answered(nanos(20), nanos(20.01)) is None
    detector.look(nanos(38.001))
    assert detector.answered(nanos(33), nanos(38), seen=nanos(38.002)) == stall_until(nanos(30), nanos(38))


def test_a_short_stall_loses_nothing_and_is_none() -> None:
    detector = flowing(30.0)
    assert detector.answered(nanos(32), nanos(34)) is None


def test_on_a_quiet_stream_a_late_answer_counts_from_the_answer_before() -> None:
    detector = StallDetector(nanos(0))
    assert detector.answered(nanos(15), nanos(15.01)) is None
    assert detector.answered(nanos(30), nanos(34)) == stall_until(nanos(15.01), nanos(34))


def test_a_silence_is_asked_about_every_three_seconds_however_long_it_is() -> None:
    detector = flowing(30.0)
    assert not detector.wants_probe(nanos(32), nanos(15))
    assert not detector.wants_probe(nanos(35), nanos(33))
    assert detector.wants_probe(nanos(36), nanos(33))
    assert not detector.wants_probe(nanos(90_002), nanos(90_000))
    assert detector.wants_probe(nanos(90_003), nanos(90_000))


def test_a_stream_that_never_brought_an_event_is_asked_about_too() -> None:
    assert StallDetector(nanos(0)).wants_probe(nanos(60), nanos(45))


def test_a_clock_that_was_set_back_hides_no_stall_and_does_not_bring_a_probe_every_second() -> None:
    detector = flowing(90_000.0)
    assert detector.answered(nanos(90_000), nanos(90_000)) is None
    assert not detector.wants_probe(nanos(12), nanos(10))
    assert detector.wants_probe(nanos(13), nanos(10))
    assert detector.answered(nanos(5), nanos(10)) == stall_until(nanos(5), nanos(10)), "as far as the clock can tell"
    assert detector.answered(nanos(10), nanos(10.01)) is None
    assert detector.answered(nanos(13), nanos(18)) == stall_until(nanos(10.01), nanos(18))
    detector.look(nanos(20))
    assert not detector.wants_probe(nanos(22), nanos(13)), "what has come since counts again"


def test_a_line_that_always_takes_long_is_none_that_stands_still() -> None:
    detector = StallDetector(nanos(0))
    for asked in (0, *range(15, 600, 15)):
        assert detector.answered(nanos(asked), nanos(asked + 1.0)) is None
    assert detector.answered(nanos(600), nanos(608)) == stall_until(nanos(586), nanos(608))


def test_a_relay_that_stutters_for_minutes_is_not_taken_for_a_slow_line() -> None:
    detector = StallDetector(nanos(0))
    detector.answered(nanos(0), nanos(0.01))
    for began in range(10, 610, 6):  # it stands still for 5 s, lives for one, and so on
        detector.look(nanos(began))
        assert detector.answered(nanos(began + 3), nanos(began + 5)) is not None


@pytest.mark.parametrize(
    ("pause", "quiet"), [*((pause, 0) for pause in (0.05, 0.5, 1.0, 4.0, 20.0, 60.0)), (50_000.0, 290), (50_000.0, 600)]
)
@pytest.mark.parametrize("seconds", [5.0, 6.5, 9.0, 14.0])
def test_a_stall_is_found_at_whatever_pace_events_come(pause: float, quiet: int, seconds: float) -> None:
    for seed in range(50):
        missed = stalls_missed(Random(seed), pause=pause, seconds=seconds, after=40 + quiet)
        assert not missed, f"seed {seed}: {missed}"


@pytest.mark.parametrize("seconds", [5.0, 6.5, 9.0, 14.0])
def test_a_stall_is_found_though_the_first_event_of_all_ends_it_and_claims_no_more_than_three_seconds_before(
    seconds: float,
) -> None:
    for seed in range(50):
        missed = stalls_missed(Random(seed), pause=0.05, seconds=seconds, after=400, silent_before=True)
        assert not missed, f"seed {seed}: {missed}"


def stalls_missed(random: Random, *, pause: float, seconds: float, after: int, silent_before: bool = False) -> str:
    """A simulated connection that stands still for so long: empty where a record covers it.

    Looks are a second apart, the usual health checks 15 s; whatever is sent during the stall is answered after it.
    """
    detector, began = StallDetector(nanos(0)), after + random.uniform(0, 15)
    ended, found = began + seconds, []
    last_event = next_event = ended if silent_before else 1.0
    next_usual, asked, waiting = 15.0, 0.0, False
    for step in range(20 * (after + 35)):
        at = step / 20
        stalled = began <= at < ended
        if at >= next_event:
            next_event = at + random.expovariate(1 / pause)
            last_event = last_event if stalled else at
        if waiting and not stalled:
            waiting = False
            if at >= last_event:
                detector.look(nanos(last_event))
            found.append(detector.answered(nanos(asked), nanos(at)))
        if step % 20 == 0:
            if at >= last_event:
                detector.look(nanos(last_event))
            usual = at >= next_usual
            if not waiting and (usual or detector.wants_probe(nanos(at), nanos(asked))):
                waiting, asked, next_usual = True, at, at + 15 if usual else next_usual
    earliest = nanos(began - 4) if silent_before else 0
    covered = any(
        stall and earliest <= stall.started <= nanos(began) and stall.ended >= nanos(ended) for stall in found
    )
    return "" if covered else f"{began:.1f} to {ended:.1f}, found {[stall for stall in found if stall]}"


def test_nodes_come_back_later_than_the_relay_only_if_they_have_dropped_it() -> None:
    assert stall_until(nanos(0), nanos(5))[:2] == (nanos(0), nanos(5))
    assert stall_until(nanos(0), nanos(7))[:2] == (nanos(0), nanos(7 + NODES_RETURN_SECONDS))


def test_an_outage_before_the_connection_does_not_hide_a_stall() -> None:
    detector = StallDetector(nanos(40))
    detector.look(nanos(30))  # the last event of the connection before
    for step in range(44):
        detector.look(nanos(40 + step / 10))
    assert detector.wants_probe(nanos(44.3 + 3), nanos(40))
