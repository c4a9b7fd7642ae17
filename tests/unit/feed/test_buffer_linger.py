from __future__ import annotations

import pytest

from otelbridge.feed.buffer import LEAST_TURN_SECONDS, TurnSchedule, gather_seconds


@pytest.mark.parametrize(
    ("events_per_second", "milliseconds"),
    [(0, 15), (100, 15), (500, 15), (1_000, 10), (2_000, 12), (10_000, 28), (100_000, 30)],
)
def test_turns_are_as_far_apart_as_the_rate_deserves(events_per_second: float, milliseconds: float) -> None:
    assert gather_seconds(events_per_second) * 1000 == pytest.approx(milliseconds)


def test_a_first_event_and_one_after_a_quiet_moment_go_at_once() -> None:
    pace = TurnSchedule()
    assert pace.early_seconds(1000.0) <= 0
    pace.took(1, 1000.0)
    assert pace.early_seconds(1000.1) <= 0


def test_a_second_event_waits_until_others_may_have_come() -> None:
    pace = TurnSchedule()
    pace.took(1, 1000.0)
    assert pace.early_seconds(1000.01) == pytest.approx(0.005)


def test_a_steady_rate_keeps_a_steady_pace() -> None:
    pace, now, turns = TurnSchedule(), 1000.0, []
    for _ in range(20):
        wait = max(0.001, pace.early_seconds(now))
        now += wait
        pace.took(round(wait * 1_000), now)
        turns.append(wait)
    assert turns[-5:] == pytest.approx([0.010] * 5)


def test_after_a_hand_over_a_turn_waits_for_the_next_one_until_the_pause_is_long_over() -> None:
    pace = TurnSchedule()
    pace.hand_over(0.025)
    pace.took(10, 1000.0)
    assert not pace.handed_over
    assert pace.early_seconds(1000.0) == pytest.approx(0.025 + 0.015)
    pace.took(10, 1000.04)
    assert pace.early_seconds(1000.04) == pytest.approx(0.015), "no reader has said that it pauses"


def test_what_is_handed_over_soon_after_a_turn_is_taken_a_little_after_it() -> None:
    pace = TurnSchedule()
    pace.hand_over(0.025)
    pace.took(10, 1000.0)
    pace.hand_over(0.025)
    assert pace.early_seconds(1000.002) == pytest.approx(LEAST_TURN_SECONDS - 0.002), "not after the pause"
