"""Turns the moments at which a stream was lost and watched again into gap records. No clock of its own.

A gap starts at the later of the stream's last event and the last health check that was answered, less what an event
may take from its node to us. The stream's end proves nothing: a server that shuts down, or chokes on one event,
discards what waits behind it. A gap may therefore claim up to one heartbeat too much, never too little. It ends when a
health check has been answered after the Watch call was started, or at the first event; where events flowed before, at
the first event of any stream: a relay answers before it has found its nodes.

These moments are those of the clock on the wall, which somebody may set meanwhile. How far it has been set is known by
its distance to the monotonic clock; without that, an hour's step would be taken for an hour's events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from otelbridge.event import NANOSECONDS, Gap, GapCause, Stream

RATE_MEMORY_SECONDS = 60.0
"""The time constant of the mean that estimates what a gap swallowed: outlasts a burst, and still is of the hour."""


IN_FLIGHT_NANOS = 250_000_000
"""What an event may take from its node to us: of a relay that was killed, events were lost that were up to 46 ms older
than the last one received (measured)."""

NODES_RETURN_SECONDS = 7.0
"""A relay goes back to nodes that dropped it after a fixed sleep of 5 s, and has to connect and subscribe then."""

GOES_ON_SECONDS = 300.0
"""A gap that has lasted so long is put on record although it is not over: who asks the records meanwhile must not
find nothing, and a stream that the server does not have would never be in them. The rest becomes a second record."""

NEVER_CONNECTED = "not connected since the start"


class Rate:
    """An exponentially weighted mean of events per second."""

    def __init__(self) -> None:
        self._events = 0
        self._seconds: float | None = None
        self.per_second: float | None = None
        """None until two observations were made."""
        self.observed_seconds = 0.0

    def observe(self, events: int, monotonic_seconds: float) -> None:
        """Takes a running total in. While a stream is blind it must not be called: silence is then no rate."""
        if self._seconds is not None and monotonic_seconds > self._seconds:
            elapsed = monotonic_seconds - self._seconds
            sample = (events - self._events) / elapsed
            self.observed_seconds += elapsed
            if self.per_second is None:
                self.per_second = sample
            else:
                self.per_second += (1 - math.exp(-elapsed / RATE_MEMORY_SECONDS)) * (sample - self.per_second)
        self._events, self._seconds = events, monotonic_seconds

    def pause(self) -> None:
        """The stream is blind: the time until the next observation does not count."""
        self._seconds = None

    def estimate(self, seconds: float) -> int | None:
        """Events to expect in so many seconds; None where no rate was ever measured."""
        return None if self.per_second is None else round(self.per_second * max(0.0, seconds))


class _Moment(NamedTuple):
    """A moment on the clock on the wall, and how far that was from the monotonic clock then."""

    unix_nano: int
    offset_nano: int

    def seconds_since(self, earlier: _Moment) -> float:
        """The time that passed, whatever the clock on the wall was set to meanwhile."""
        return (self.unix_nano - self.offset_nano - earlier.unix_nano + earlier.offset_nano) / NANOSECONDS


@dataclass(slots=True)
class _OpenGap:
    """A stretch of gaps that is not over."""

    started: _Moment
    noticed: _Moment
    """When it started, as far as it is of this life of the bridge."""
    cause: GapCause
    detail: str
    unexplained: bool = False
    """Nothing was lost: it began with the bridge. The first loss in it explains why it went on."""
    attempts: int = 0
    lost_records: int | None = None
    recorded_until: _Moment | None = None
    """Its first part is on record."""
    watching_again: _Moment | None = None
    """Set when watching again is likely but not yet proven; unset when the stream is lost again."""


class GapTracker:
    """What one stream could not see: at most one gap at a time."""

    def __init__(
        self,
        stream: Stream,
        upstream: str,
        *,
        watched_until_unix_nano: int | None,
        now_unix_nano: int,
        clock_offset_nano: Callable[[], int],
    ) -> None:
        self._stream = stream
        self._upstream = upstream
        self._clock_offset_nano = clock_offset_nano
        self.rate = Rate()
        self._lost_records = 0
        """Events that are known to be lost, and are in no record yet."""
        # Before its first connect a stream is blind too. Since when, an earlier life of the bridge may know; where it
        # does not, the gap counts from now, and is worth a record only if the first attempt fails.
        now = self._moment(now_unix_nano)
        self._open: _OpenGap | None = _OpenGap(now, now, GapCause.DISCONNECT, NEVER_CONNECTED, unexplained=True)
        if watched_until_unix_nano is not None:
            before = self._moment(watched_until_unix_nano)
            self._open = _OpenGap(before, now, GapCause.RESTART, "the bridge was not running")
        self._quiet_first_attempt = watched_until_unix_nano is None

    @property
    def since_unix_nano(self) -> int | None:
        """Since when the stream is blind; None while it is being watched."""
        return self._open.started.unix_nano if self._open else None

    @property
    def unproven(self) -> bool:
        """Whether the stream is thought to be watched again, and `prove` is awaited."""
        return self._open is not None and self._open.watching_again is not None

    def lose(self, started_unix_nano: int, cause: GapCause, detail: str) -> None:
        """The stream is lost; within a gap this changes nothing but that it goes on, or explains why it does."""
        self.rate.pause()
        open_gap = self._open
        if open_gap is None:
            started = self._moment(started_unix_nano)
            self._open = _OpenGap(started, started, cause, detail)
            return
        if open_gap.unexplained:
            open_gap.cause, open_gap.detail = (
                cause,
                detail if open_gap.watching_again else f"{NEVER_CONNECTED}: {detail}",
            )
            open_gap.unexplained = False
        open_gap.watching_again = None

    def count_lost(self, records: int) -> None:
        """So many events are known to be lost by what happens to the stream now."""
        self._lost_records += records

    def attempt(self) -> None:
        """One attempt to see again was started."""
        if self._open:
            self._open.attempts += 1

    def watch_again(self, unix_nano: int) -> None:
        """The stream is thought to be watched from this moment on."""
        if self._open and self._open.watching_again is None:
            self._open.watching_again = self._moment(unix_nano)

    def goes_on(self, unix_nano: int) -> Gap | None:
        """Asked while it may be blind: the record of a long gap's first part, once it has lasted for long."""
        open_gap, now = self._open, self._moment(unix_nano)
        if open_gap is None or open_gap.watching_again or open_gap.recorded_until:
            return None
        if now.seconds_since(open_gap.noticed) < GOES_ON_SECONDS:
            return None
        open_gap.recorded_until = now
        return self._record(
            open_gap, open_gap.started, now, f"{open_gap.detail}; it goes on, and how long another record will say"
        )

    def suspect(
        self, cause: GapCause, started_unix_nano: int, ended_unix_nano: int, received: int, detail: str
    ) -> Gap | None:
        """The record of a stretch in which somebody stood still; None while the stream is blind anyway.

        Args:
            cause: who.
            started_unix_nano: the last sign of life before it.
            ended_unix_nano: when its nodes can be expected to be heard again.
            received: events that came in this time all the same.
            detail: for people.
        """
        if self._open is not None and self._open.watching_again is None:
            return None
        started, ended = self._moment(started_unix_nano), self._moment(max(started_unix_nano, ended_unix_nano))
        expected = self.rate.estimate(ended.seconds_since(started))
        return Gap(
            stream=self._stream,
            upstream=self._upstream,
            cause=cause,
            started_unix_nano=started.unix_nano,
            ended_unix_nano=ended.unix_nano,
            estimated_records=None if expected is None else max(0, expected - received),
            detail=detail,
            suspected=True,
        )

    def prove(self, heard_unix_nano: int = 0) -> Gap | None:
        """The stream is watched indeed: the gap ended when `watch_again` said so, or when the upstream was heard again.

        Returns:
            Its record, if any.
        """
        open_gap = self._open
        if open_gap is None or open_gap.watching_again is None:
            return None
        heard = self._moment(heard_unix_nano)
        return self._end(heard if heard.seconds_since(open_gap.watching_again) > 0 else open_gap.watching_again)

    def end(self, unix_nano: int) -> Gap | None:
        """The gap is over at this moment. Returns its record; None for an unremarkable first connect."""
        return self._end(self._moment(unix_nano))

    def _end(self, ended: _Moment) -> Gap | None:
        open_gap, self._open = self._open, None
        lost, self._lost_records = self._lost_records, 0
        quiet, self._quiet_first_attempt = self._quiet_first_attempt, False
        if open_gap is None or (quiet and open_gap.attempts <= 1 and not lost):
            return None
        open_gap.lost_records = lost or None
        if open_gap.recorded_until is None:
            return self._record(open_gap, open_gap.started, ended, open_gap.detail)
        return self._record(
            open_gap, open_gap.recorded_until, ended, f"{open_gap.detail}; the beginning is on record already"
        )

    def _record(self, open_gap: _OpenGap, started: _Moment, ended: _Moment, detail: str) -> Gap:
        return Gap(
            stream=self._stream,
            upstream=self._upstream,
            cause=open_gap.cause,
            started_unix_nano=started.unix_nano,
            # A clock that was set back must not make a gap end before it starts.
            ended_unix_nano=max(ended.unix_nano, started.unix_nano),
            attempts=open_gap.attempts,
            lost_records=open_gap.lost_records,
            estimated_records=self.rate.estimate(ended.seconds_since(started)),
            detail=detail,
        )

    def _moment(self, unix_nano: int) -> _Moment:
        return _Moment(unix_nano, self._clock_offset_nano())
