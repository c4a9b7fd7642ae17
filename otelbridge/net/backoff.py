"""How long to wait before the next try: pure functions of the step, with randomness passed in."""

from __future__ import annotations

from collections.abc import Callable

SERVER_DELAY_SPREAD = 0.05
"""A delay that a server asks for is stretched by up to so much: it told thousands of clients the same number."""
MAX_DOUBLINGS = 30
"""Enough for any last step; keeps the power from overflowing after days."""

Random = Callable[[], float]
"""Uniform from 0 to 1, like random.random."""


def full_jitter_seconds(step: int, *, initial: float, longest: float, random: Random) -> float:
    """Uniform between 0 and the step's height, which doubles from `initial` to `longest`. The first step is 0."""
    return random() * min(longest, initial * 2.0 ** min(step, MAX_DOUBLINGS))


def equal_jitter_seconds(step: int, *, initial: float, longest: float, random: Random) -> float:
    """Uniform between half and all of the step's height: for waits that must not be short."""
    return (0.5 + random() / 2) * min(longest, initial * 2.0 ** min(step, MAX_DOUBLINGS))


def with_server_delay_seconds(ladder_seconds: float, asked: float | None, *, longest: float, random: Random) -> float:
    """The ladder's wait, or the delay that the server asked for where that is longer (up to `longest`)."""
    if asked is None:
        return ladder_seconds
    return max(ladder_seconds, min(longest, asked * (1 + SERVER_DELAY_SPREAD * random())))
