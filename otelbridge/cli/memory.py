"""Sets up memory for a long-lived process: few heaps, and a garbage collector that skips what stays.

docs/decisions/memory.md has the figures.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

M_ARENA_MAX = -8
"""Of mallopt(3)."""
HEAPS = 2

YOUNG_OBJECTS, YOUNG_ROUNDS = 700, 10
"""Python's defaults: what starts a round over the youngest, and how many of them one over the middle generation."""
MIDDLE_ROUNDS = 1_000
"""For one full round. At 10,000 events/s that is one in some minutes, which finds hardly anything to look at."""


def limit_heaps() -> None:
    """Gives all threads that start from now on few heaps in common; of the C libraries glibc alone can do that."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, HEAPS)


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection while modules are imported: they leave 100 objects of 70,000 behind, and it took 50 ms."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def spare_what_stays() -> None:
    """Takes all that lives now out of the garbage collector's sight, and makes its full rounds rare."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, MIDDLE_ROUNDS)
