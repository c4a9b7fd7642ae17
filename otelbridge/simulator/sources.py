"""Provides a simulator's events, by the name of their source, at a given pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import NamedTuple, TypeVar

from otelbridge.event import Stream
from otelbridge.simulator.events import KubeArmorMessage, NotAnEvent, ParsedEvent, read_file, sample_events
from otelbridge.simulator.generator import attack, flood, generate

SAMPLES = "samples"
GENERATED = "generated"
ATTACK = "attack"
FLOOD = "flood"
MAX_REMEMBERED = 100
"""Bad lines and unknown keys that are remembered; more are only counted."""


class SourceError(ValueError):
    """The source has nothing to give."""


class SourcedEvent(NamedTuple):
    """An event that may be changed by whoever takes it."""

    stream: Stream
    message: KubeArmorMessage


class EventSource:
    """Events by name; what was wrong with a file is told by the attributes.

    Args:
        name: `samples`, `generated`, `attack`, `flood`, `flood:KINDS`, or the path of a file of events (see `events`).
        streams: Only events of these.
        loop: Begin again at the end. What is generated has no end.
        seed: Of what is generated.
    """

    def __init__(self, name: str, *, streams: tuple[Stream, ...], loop: bool = False, seed: int = 1) -> None:
        self.bad_lines: dict[str, NotAnEvent] = {}
        """By place; the first 100."""
        self.bad_line_count = 0
        """Of one round."""
        self.unknown_keys: dict[str, None] = {}
        """In order of appearance; the first 100."""
        self._name = name
        self._streams = streams
        self._loop = loop
        self._seed = seed

    def check(self) -> None:
        """Raises what iterating would, if there is nothing in it."""
        next(iter(self))

    def __iter__(self) -> Iterator[SourcedEvent]:
        """Begins.

        Raises:
            SourceError: There is no event of these streams in it.
            OSError: The file cannot be read.
        """
        if self._name == GENERATED:
            yield from starmap(SourcedEvent, generate(self._seed, streams=self._streams))
        kind, _, kinds = self._name.partition(":")
        if kind == FLOOD and (not kinds or kinds.isdecimal()):
            if Stream.ALERTS not in self._streams:
                raise SourceError(f"{self._name} has alerts only")
            yield from starmap(SourcedEvent, flood(self._seed, max(1, int(kinds or 1))))
        while True:
            empty = True
            for event in self._one_round():
                empty = False
                yield event
            if empty:
                raise SourceError(f"{self._name} has no event of the streams {', '.join(self._streams)}")
            if not self._loop:
                return

    def _one_round(self) -> Iterator[SourcedEvent]:
        self.bad_line_count = 0
        if self._name == ATTACK:
            yield from starmap(SourcedEvent, attack(self._seed, self._streams))
            self._seed += 10  # the next one has other processes, and a session of its own
            return
        for event in sample_events() if self._name == SAMPLES else self._from_file():
            if event.stream in self._streams:
                if event.unknown_keys and len(self.unknown_keys) < MAX_REMEMBERED:
                    self.unknown_keys.update(dict.fromkeys(event.unknown_keys))
                yield SourcedEvent(event.stream, event.message)

    def _from_file(self) -> Iterator[ParsedEvent]:
        for found in read_file(Path(self._name)):
            if not isinstance(found, NotAnEvent):
                yield found.event
                continue
            self.bad_line_count += 1
            if len(self.bad_lines) < MAX_REMEMBERED:
                self.bad_lines[found.place] = found


T = TypeVar("T")

SHORTEST_SLEEP_SECONDS = 0.002
"""At higher rates several events go out per wake-up; a timer finer than this costs more than the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPace:
    """Rate and amount of what is published."""

    per_second: float | None = None
    """Events a second on average; None: as fast as they can be made."""
    burst: int = 1
    """Events that go out together; the pause after them keeps the rate."""
    count: int | None = None
    """Ends after so many events."""
    duration_seconds: float | None = None
    """Ends after so long."""

    def __post_init__(self) -> None:
        for name, value in (("rate", self.per_second), ("burst", self.burst), ("duration", self.duration_seconds)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, not {value}")
        if self.count is not None and self.count < 0:
            raise ValueError(f"count must be at least 0, not {self.count}")


def publish_at_pace(
    events: Iterable[T],
    publish: Callable[[T], None],
    pace: PublishPace,
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
