from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from otelbridge.telemetry.events import Event, ThreadFailed
from otelbridge.telemetry.supervisor import (
    FAULTS_TO_FAIL,
    LONGEST_PAUSE_SECONDS,
    Pulse,
    SupervisedThread,
    pause_seconds,
)
from tests.waiting import eventually

GO_ON, DONE = "go on", "done"


class Script:
    """Turns that do what a list says: raise it, go on, or be done."""

    def __init__(self, *steps: BaseException | str) -> None:
        self._steps = iter(steps)
        self.told: list[Event] = []

    def turn(self) -> bool:
        step = next(self._steps)
        if isinstance(step, BaseException):
            raise step
        return step == GO_ON

    @property
    def failed(self) -> list[ThreadFailed]:
        return [told for told in self.told if isinstance(told, ThreadFailed)]


def supervised(script: Script, give_back: Callable[[], None] | None = None) -> SupervisedThread:
    thread = SupervisedThread("carrier relay:1", script.turn, tell=script.told.append, give_back=give_back)
    thread.start()
    return thread


def test_a_turn_that_says_so_is_the_last_one() -> None:
    script = Script(GO_ON, GO_ON, DONE)
    assert supervised(script).join(10)
    assert script.told == []


def test_a_fault_is_told_with_its_traceback_and_the_thread_goes_on() -> None:
    script = Script(GO_ON, KeyError("a"), GO_ON, DONE)
    thread = supervised(script)
    eventually(lambda: not thread.is_alive())
    (failed,) = script.failed
    assert (failed.thread, failed.error, failed.in_a_row) == ("carrier relay:1", "KeyError: 'a'", 1)
    assert "in turn\n    raise step" in failed.traceback


class UnspeakableError(BaseException):
    """Cannot be put into words."""

    def __str__(self) -> str:
        raise MemoryError


@pytest.mark.parametrize(
    "fault", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError()]
)
def test_nothing_that_can_be_raised_ends_a_thread(fault: BaseException) -> None:
    script = Script(GO_ON, fault, DONE)
    thread = supervised(script)
    eventually(lambda: not thread.is_alive())
    assert [failed.error.partition(":")[0] for failed in script.failed] == [type(fault).__name__]


def test_a_fault_that_cannot_be_put_into_words_is_told_by_its_name() -> None:
    script = Script(UnspeakableError(), DONE)
    thread = supervised(script)
    eventually(lambda: not thread.is_alive())
    assert [failed.error for failed in script.failed] == ["UnspeakableError"]


def test_a_traceback_that_was_told_is_not_told_again() -> None:
    script = Script(ValueError("one"), ValueError("one"), ValueError("another"), DONE)
    thread = supervised(script)
    eventually(lambda: not thread.is_alive())
    assert [bool(failed.traceback) for failed in script.failed] == [True, False, True]


def test_what_is_told_of_a_fault_holds_no_secret_of_a_url() -> None:
    script = Script(OSError("https://me:hunter2@collector/v1/logs?api_key=hunter2 is away"), DONE)
    thread = supervised(script)
    eventually(lambda: not thread.is_alive())
    (failed,) = script.failed
    assert "collector" in failed.error
    assert "hunter2" not in failed.error + failed.traceback + thread.pulse.fault


def test_what_was_in_hand_is_given_back_before_the_next_turn() -> None:
    order: list[str] = []

    def turn() -> bool:
        order.append("turn")
        if len(order) == 1:
            raise RuntimeError
        return False

    thread = SupervisedThread("t", turn, tell=lambda _: None, give_back=lambda: order.append("give back"))
    thread.start()
    eventually(lambda: not thread.is_alive())
    assert order == ["turn", "give back", "turn"]


def test_a_fault_in_giving_back_is_told_too_and_does_not_end_the_thread() -> None:
    def give_back() -> None:
        raise OSError("no room")

    script = Script(RuntimeError("first"), DONE)
    thread = supervised(script, give_back)
    eventually(lambda: not thread.is_alive())
    assert [failed.error for failed in script.failed] == ["RuntimeError: first", "OSError: no room"]


def test_three_faults_in_a_row_make_it_fail_until_a_turn_succeeds() -> None:
    seen: list[tuple[int, bool]] = []
    script = Script(*[RuntimeError("again")] * FAULTS_TO_FAIL, GO_ON, DONE)

    def turn() -> bool:
        seen.append((thread.pulse.faults_in_a_row, thread.pulse.fails))
        return script.turn()

    thread = SupervisedThread("t", turn, tell=script.told.append)
    thread.start()
    eventually(lambda: not thread.is_alive())
    assert seen == [(0, False), (1, False), (2, False), (3, True), (0, False)]
    assert thread.pulse.fault == "RuntimeError: again"


def test_pauses_double_and_have_an_end() -> None:
    assert [pause_seconds(faults) for faults in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert pause_seconds(7) == pause_seconds(10**9) == LONGEST_PAUSE_SECONDS


def test_whoever_joins_does_not_wait_for_what_cannot_succeed() -> None:
    attempts: list[int] = []
    met = threading.Event()

    def turn() -> bool:
        attempts.append(1)
        met.set()
        raise RuntimeError

    thread = SupervisedThread("t", turn, tell=lambda _: None)
    thread.start()
    assert met.wait(10)
    assert thread.join(10)
    assert len(attempts) == FAULTS_TO_FAIL


def test_only_a_thread_that_may_block_has_no_age() -> None:
    assert Pulse("t").age_seconds() > 0
    assert Pulse("t", may_block=True).age_seconds() == 0


def test_a_thread_that_said_how_long_it_rests_is_well_until_then_and_no_longer() -> None:
    pulse = Pulse("t")
    pulse.beat(60)
    assert pulse.age_seconds() == 0
    pulse.beat(-60)
    assert pulse.age_seconds() >= 60


def test_a_thread_that_never_started_is_joined_at_once() -> None:
    assert SupervisedThread("t", lambda: False, tell=lambda _: None).join(10)


def test_a_fault_that_cannot_be_told_does_not_end_the_thread_either() -> None:
    script = Script(RuntimeError("boom"), DONE)

    def deaf(_: Event) -> None:
        raise OSError("no stderr")

    thread = SupervisedThread("carrier", script.turn, tell=deaf)
    thread.start()
    assert thread.join(10)
    assert next(script._steps, "none left") == "none left"
    assert thread.pulse.fault == "RuntimeError: boom; nobody could be told: OSError: no stderr"
