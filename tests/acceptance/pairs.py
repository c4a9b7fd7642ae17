"""Two processes that work through a list of turns of a campaign; most of a turn is waiting."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Turn = TypeVar("Turn")
Result = TypeVar("Result")

WORKERS = 2
"""One per core of the machine that the bars are for."""


def in_pairs(work: Callable[[Turn], Result], turns: Iterable[Turn]) -> Iterator[tuple[Turn, Result]]:
    """Each turn with what came of it, in the order of the turns; what a turn raises is raised here.

    Args:
        work: a function that another process can import.
        turns: values that can be sent there.
    """
    turns = list(turns)
    # Not forked: gRPC's threads would not be there in the child, and its locks would.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from zip(turns, pool.map(work, turns), strict=True)
