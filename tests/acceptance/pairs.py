"""Two processes that work through the turns of a campaign; a turn that fails is a result like any other."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import FrameType
from typing import TypeVar

Turn = TypeVar("Turn")
Result = TypeVar("Result")

WORKERS = 2
"""One per core of the machine that the bars are for; most of a turn is waiting."""
TURN_SECONDS = 600
"""A turn that takes longer hangs."""


def in_pairs(work: Callable[[Turn], Result], turns: Iterable[Turn]) -> Iterator[tuple[Turn, Result | None, str]]:
    """Each turn with what came of it, or with what it raised; in the order of the turns.

    Args:
        work: a function that another process can import.
        turns: values that can be sent there.
    """
    turns = list(turns)
    # Not forked: gRPC's threads would not be there in the child, and its locks would.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        for turn, (result, fault) in zip(turns, pool.map(partial(attempt, work), turns), strict=True):
            yield turn, result, fault


def attempt(work: Callable[[Turn], Result], turn: Turn) -> tuple[Result | None, str]:
    """What came of a turn, or how it failed: a broken promise, a crash, a hang."""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(TURN_SECONDS)
    try:
        return work(turn), ""
    except Exception:  # noqa: BLE001  # whatever it is, the campaign goes on and says so
        return None, traceback.format_exc()
    finally:
        signal.alarm(0)


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"it hangs: {TURN_SECONDS} s are over")
