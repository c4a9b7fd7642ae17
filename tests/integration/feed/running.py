"""A feed that runs against something, and a record of everything that it told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from otelbridge.event import Gap, RawEvent, Stream
from otelbridge.feed.feed import Feed
from otelbridge.feed.model import StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.feed.settings import FeedSettings
from otelbridge.net.address import Resolve, resolve_by_system
from otelbridge.setting import section_from
from otelbridge.telemetry.events import Event, GapEnded, StateChanged
from tests.buffers import OpenBuffer
from tests.records import gaps_told_by
from tests.waiting import eventually

T = TypeVar("T")

FAST = {"initial_seconds": 0.1, "max_seconds": 0.4, "operator_initial_seconds": 30, "operator_max_seconds": 60}
"""A backoff for tests; the slow one is left slow, so that a test that stepped on it shows it."""


class Running:
    """The feed, what it told and what it brought."""

    def __init__(self, settings: FeedSettings, resolve: Resolve) -> None:
        self.told: list[Event] = []
        self.react: Callable[[Event], None] = lambda _: None
        """Called with each event as it is told, by the thread that tells it."""
        self.buffer = OpenBuffer(settings.buffer_max_events, 64 * 1024 * 1024)
        self.feed = Feed(
            settings,
            buffer=self.buffer,
            tell=self._tell,
            record_gap=gaps_told_by(self._tell),
            version="9.9",
            resolve=resolve,
        )
        self._events: list[RawEvent] = []

    def _tell(self, event: Event) -> None:
        self.told.append(event)
        self.react(event)

    @property
    def status(self) -> SubscriptionStatus:
        (status,) = self.feed.subscriptions()
        return status

    def stream(self, stream: Stream) -> StreamStatus:
        return self.status.streams[stream]

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]

    def gaps(self, stream: Stream | None = None) -> list[Gap]:
        """But not what is only suspected."""
        gaps = [told.gap for told in self.of(GapEnded)]
        return [gap for gap in gaps if not gap.suspected and stream in (None, gap.stream)]

    def suspected(self) -> list[Gap]:
        return [told.gap for told in self.of(GapEnded) if told.gap.suspected]

    def states(self) -> list[str]:
        return [told.after for told in self.of(StateChanged)]

    def events(self, number: int, *, within_seconds: float = 10) -> list[RawEvent]:
        """Waits for so many events since the start, and returns all that came."""

        def enough() -> bool:
            self._events += self.buffer.take(100_000, 0.01)
            return len(self._events) >= number

        eventually(enough, within_seconds=within_seconds, why=f"{number} events")
        return self._events

    def until(self, *states: SubscriptionState, within_seconds: float = 10) -> SubscriptionStatus:
        eventually(
            lambda: self.status.state in states, within_seconds=within_seconds, why=f"{states}, not {self.status}"
        )
        return self.status

    def until_watching(self, *, within_seconds: float = 10) -> SubscriptionStatus:
        """Waits until every stream is watched."""
        eventually(
            lambda: (
                self.status.state is SubscriptionState.WATCHING
                and {stream.state for stream in self.status.streams.values()} == {StreamState.WATCHING}
            ),
            within_seconds=within_seconds,
            why="watching",
        )
        return self.status

    def until_lost(self, times: int = 1) -> None:
        """Waits until a connection, or an attempt, was lost so often. By what was told: the state itself is brief."""
        eventually(lambda: self.states().count("waiting") >= times, why=f"lost {times} times")

    def until_watching_anew(self, connection_id: str) -> SubscriptionStatus:
        """Waits until every stream is watched on another connection than this one."""
        try:
            eventually(lambda: self.status.connection_id not in {"", connection_id}, within_seconds=30)
        except AssertionError as failure:
            failure.add_note("\n".join(map(str, [self.status, *self.told[-20:]])))
            raise
        return self.until_watching()

    def until_gaps(self, number: int, *, within_seconds: float = 10) -> list[Gap]:
        """Waits until so many gaps were told of: on quiet streams up to 3 s after they are watched again."""
        eventually(lambda: len(self.gaps()) >= number, within_seconds=within_seconds, why=f"{number} gaps")
        return self.gaps()


def settings_for(*endpoints: str, retry: Mapping[str, float] | None = None, **others: Any) -> FeedSettings:
    return section_from(FeedSettings, {"endpoints": endpoints, "retry": {**FAST, **(retry or {})}, **others})


@contextmanager
def running(
    settings: FeedSettings,
    *,
    resolve: Resolve = resolve_by_system,
    watched_until: Mapping[tuple[str, Stream], int] | None = None,
) -> Iterator[Running]:
    before = set(threading.enumerate())
    run = Running(settings, resolve)
    run.feed.start(watched_until)
    try:
        yield run
    finally:
        run.feed.stop_reading()
        run.feed.close()
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith(("read", "feed"))]
    assert not left, f"threads are left: {left}"
