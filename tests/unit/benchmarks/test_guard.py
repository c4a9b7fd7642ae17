from __future__ import annotations

import pytest

from benchmarks import guard


@pytest.mark.counted
def test_the_hot_path_does_no_more_for_an_event_than_before() -> None:
    before = guard.stored("operations")
    if not before:
        pytest.skip(f"guard.json has no {guard.key('operations')}: `make guard` there would store it")

    found = guard.complaints(guard.operations(), before)

    assert not found, "\n".join(found)


def test_a_figure_within_the_slack_is_let_pass() -> None:
    assert not guard.complaints({"bytecode": 1_099}, {"bytecode": 1_000})


def test_a_lane_that_is_not_compiled_here_is_not_compared() -> None:
    assert not guard.complaints({"ordinary bytecode": 1_000}, {"ordinary bytecode": 1_000, "fastpath bytecode": 500})


def test_a_dearer_event_is_complained_of_with_both_cures() -> None:
    (complaint,) = guard.complaints({"bytecode": 1_200}, {"bytecode": 1_000})

    assert "1200 now, 1000 stored (+20%)" in complaint
    assert "cheaper" in complaint
    assert "`make guard`" in complaint


def test_a_much_cheaper_event_is_to_be_stored() -> None:
    (complaint,) = guard.complaints({"bytecode": 700}, {"bytecode": 1_000})

    assert "so that it stays so" in complaint


def test_the_input_is_the_same_every_time() -> None:
    assert guard.fixed_input(20) == guard.fixed_input(20)


def test_work_in_a_thread_that_the_work_starts_is_counted_too() -> None:
    events = guard.fixed_input(guard.EVENTS)

    with guard.open_walk(native=False) as walk:
        found = guard.profiled(lambda: walk.carry(events))

    assert found["python_calls"] > 10 * guard.EVENTS, (
        "an event's mapping alone is a dozen calls, in the encoder's thread"
    )
