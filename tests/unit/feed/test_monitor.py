from __future__ import annotations

import pytest

from otelbridge.feed.monitor import NANOSECONDS, NODES_RETURN_SECONDS, StallDetector, stall_until

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


def test_a_short_stall_loses_nothing_and_is_none() -> None:
    detector = flowing(30.0)
    assert detector.answered(nanos(32), nanos(34)) is None


def test_on_a_quiet_stream_a_late_answer_counts_from_the_answer_before() -> None:
    detector = StallDetector(nanos(0))
    assert detector.answered(nanos(15), nanos(15.01)) is None
    assert detector.answered(nanos(30), nanos(34)) == stall_until(nanos(15.01), nanos(34))


def test_a_silence_is_asked_about_every_two_seconds_and_not_for_ever() -> None:
    detector = flowing(30.0)
    assert not detector.wants_probe(nanos(31), nanos(15))
    assert not detector.wants_probe(nanos(33), nanos(32))
    assert detector.wants_probe(nanos(34), nanos(32))
    assert not detector.wants_probe(nanos(120), nanos(32))


def test_silences_as_usual_are_not_asked_about() -> None:
    detector = flowing(60.0, every=10.0)
    assert not detector.wants_probe(nanos(85), nanos(45))


def test_nodes_come_back_later_than_the_relay_only_if_they_have_dropped_it() -> None:
    assert stall_until(nanos(0), nanos(5))[:2] == (nanos(0), nanos(5))
    assert stall_until(nanos(0), nanos(7))[:2] == (nanos(0), nanos(7 + NODES_RETURN_SECONDS))


def test_soon_after_a_quiet_night_a_pause_is_unusual_again() -> None:
    detector = StallDetector(nanos(0))
    detector.look(nanos(1))
    for step in range(100):
        detector.look(nanos(36_000 + step))
    assert detector.wants_probe(nanos(36_099 + 4), nanos(36_090))


def test_the_time_before_the_first_event_is_no_silence() -> None:
    detector = StallDetector(nanos(0))
    for step in range(10):
        detector.look(nanos(600 + step))
    assert detector.wants_probe(nanos(609 + 4), nanos(600))


def test_one_stall_does_not_hide_the_next() -> None:
    detector = flowing(30.0)
    detector.look(nanos(43))
    for step in range(44, 54):
        detector.look(nanos(step))
    assert detector.wants_probe(nanos(53 + 4), nanos(40))
