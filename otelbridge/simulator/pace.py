"""Events in, calls of a publish function out, at a rate and in bursts, until a number, a time or a stop is reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SHORTEST_SLEEP_SECONDS = 0.002
"""At higher rates several events go out per wake-up; a timer finer than this costs more than the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how much."""

    per_second: float | None = None
    """Events a second on average; None: as fast as they can be made."""
    burst: int = 1
    """Events that go out together; the pause after them keeps the rate."""
    count: int | None = None
    """Ends after so many events."""
    duration_seconds: float | None = None
    """Ends after so long."""

    def __post_init__(self) -> None:
        for name in ("per_second", "burst", "duration_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, not {value}")
        if self.count is not None and self.count < 0:
            raise ValueError(f"count must be at least 0, not {self.count}")


def publish_at_pace(
    events: Iterable[T],
    publish: Callable[[T], None],
    pace: Pace,
    *,
    until: threading.Event,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> int:
    """Publishes until the events, the count, the duration or `until` end it; returns how many went out.

    The rate holds on average: an event that was late is made up for, so a slow publisher catches up in a run of events.

    Args:
        events: Taken one by one, just before they are published.
        publish: Called for each, in this thread.
        pace: How fast, and how much.
        until: Stops it from another thread, also in the middle of a pause.
        now: The clock, in seconds.
        wait: Sleeps for some seconds, or until `until` is set.
    """
    started = now()
    end = None if pace.duration_seconds is None else started + pace.duration_seconds
    supply = iter(events)
    published = 0
    while published != pace.count:
        if pace.per_second is not None and published % pace.burst == 0:
            due = started + published / pace.per_second
            pause = (due if end is None else min(due, end)) - now()
            if pause >= SHORTEST_SLEEP_SECONDS:
                wait(until, pause)
        if until.is_set() or (end is not None and now() >= end):
            break
        try:
            event = next(supply)
        except StopIteration:
            break
        publish(event)
        published += 1
    return published
