"""The seed of a fault test: by chance, unless the environment asks for one that failed before."""

from __future__ import annotations

import os
import random

SEED = "TORTURE_SEED"
ROUNDS = "TORTURE_ROUNDS"


def fresh_seed() -> int:
    """The one asked for (`TORTURE_SEED=123 pytest ...`), or any; printed, so that a failure shows it."""
    asked = os.environ.get(SEED)
    seed = int(asked) if asked else random.SystemRandom().randrange(10**6)
    print(f"{SEED}={seed}")  # noqa: T201  # pytest shows it when the test fails
    return seed


def rounds(default: int) -> int:
    """How often a campaign repeats itself: as often as `TORTURE_ROUNDS` says."""
    return int(os.environ.get(ROUNDS, default))
