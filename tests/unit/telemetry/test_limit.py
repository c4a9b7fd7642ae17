from __future__ import annotations

from otelbridge.telemetry.log import Limit


def test_the_first_of_a_reason_passes_and_the_rest_of_its_window_does_not() -> None:
    limit: Limit[str] = Limit(window_seconds=10)

    assert limit.admit("lost", "first", now_seconds=0)
    assert not limit.admit("lost", "second", now_seconds=1)
    assert limit.admit("held", "another reason", now_seconds=1)


def test_what_was_held_back_is_given_back_once_with_its_count() -> None:
    limit: Limit[str] = Limit(window_seconds=10)
    for at in range(4):
        limit.admit("lost", f"line {at}", now_seconds=at)

    assert limit.due(now_seconds=9.9) == []
    assert limit.due(now_seconds=10) == [("line 3", 3)]
    assert limit.due(now_seconds=30) == []


def test_a_steady_stream_of_one_reason_gives_one_item_per_window() -> None:
    limit: Limit[int] = Limit(window_seconds=10)
    shown = 0
    for second in range(100):
        shown += limit.admit("lost", second, now_seconds=second)
        shown += len(limit.due(now_seconds=second))

    assert shown == 10


def test_a_reason_that_was_quiet_for_a_window_passes_again() -> None:
    limit: Limit[str] = Limit(window_seconds=10)
    limit.admit("lost", "first", now_seconds=0)
    limit.due(now_seconds=11)

    assert limit.admit("lost", "second", now_seconds=12)


def test_reasons_that_an_attacker_makes_up_do_not_fill_the_memory() -> None:
    limit: Limit[int] = Limit(max_reasons=8)
    for number in range(1000):
        limit.admit(number, number, now_seconds=0)

    assert len(limit._windows) <= 8


def test_at_the_end_everything_held_back_is_given() -> None:
    limit: Limit[str] = Limit(window_seconds=10)
    limit.admit("lost", "first", now_seconds=0)
    limit.admit("lost", "second", now_seconds=0)

    assert limit.due(now_seconds=0, all_windows=True) == [("second", 1)]


def test_a_reason_may_be_shown_several_times_a_window() -> None:
    limit: Limit[str] = Limit(window_seconds=10)

    assert [limit.admit("back", "again", now_seconds=at, per_window=2) for at in range(4)] == [True, True, False, False]


def test_what_is_given_early_does_not_open_the_windows_of_others() -> None:
    limit: Limit[str] = Limit(window_seconds=10)
    limit.admit("lost", "first", now_seconds=0)
    limit.due(now_seconds=1, all_windows=True)

    assert not limit.admit("lost", "second", now_seconds=2)
