"""Moments at which a stream was watched, lost and watched again, in; gap records, out. No clock of its own.

A gap starts at the later of the stream's last event and the last health check that was answered, less what an event
may take from its node to us. The stream's end proves nothing: a server that shuts down, or chokes on one event,
discards what waits behind it. A gap may therefore claim up to one heartbeat too much, never too little. It ends when a
health check has been answered after the Watch call was started, or at the first event.

These moments are those of the clock on the wall, which somebody may set meanwhile. How far it has been set is known by
its distance to the monotonic clock; without that, an hour's step would be taken for an hour's events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from otelbridge.event import Gap, GapCause, Stream

RATE_MEMORY_SECONDS = 60.0
"""The time constant of the mean that estimates what a gap swallowed: outlasts a burst, and still is of the hour."""

NANOSECONDS = 1_000_000_000

GOES_ON_SECONDS = 300.0
"""A spell that has lasted so long is put on record although it is not over: who asks the records meanwhile must not
find nothing, and a stream that the server does not have would never be in them. The rest becomes a second record."""

NEVER_CONNECTED = "not connected since the start"


class Rate:
    """An exponentially weighted mean of events per second."""

    __slots__ = ("_events", "_seconds", "per_second")

    def __init__(self) -> None:
        self._events = 0
        self._seconds: float | None = None
        self.per_second: float | None = None
        """None until two observations were made."""

    def observe(self, events: int, monotonic_seconds: float) -> None:
        """Takes a running total in. While a stream is blind it must not be called: silence is then no rate."""
        if self._seconds is not None and monotonic_seconds > self._seconds:
            elapsed = monotonic_seconds - self._seconds
            sample = (events - self._events) / elapsed
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
class _Spell:
    """A stretch of blindness that is not over."""

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
    """What one stream could not see: at most one spell at a time."""

    __slots__ = (
        "_clock_offset_nano",
        "_lost_records",
        "_quiet_first_attempt",
        "_spell",
        "_stream",
        "_upstream",
        "rate",
    )

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
        # does not, the spell counts from now, and is worth a record only if the first attempt fails.
        now = self._moment(now_unix_nano)
        self._spell: _Spell | None = _Spell(now, now, GapCause.DISCONNECT, NEVER_CONNECTED, unexplained=True)
        if watched_until_unix_nano is not None:
            before = self._moment(watched_until_unix_nano)
            self._spell = _Spell(before, now, GapCause.RESTART, "the bridge was not running")
        self._quiet_first_attempt = watched_until_unix_nano is None

    @property
    def since_unix_nano(self) -> int | None:
        """Since when the stream is blind; None while it is being watched."""
        return self._spell.started.unix_nano if self._spell else None

    @property
    def unproven(self) -> bool:
        """Whether the stream is thought to be watched again, and `prove` is awaited."""
        return self._spell is not None and self._spell.watching_again is not None

    def lose(self, started_unix_nano: int, cause: GapCause, detail: str) -> None:
        """The stream is lost; within a spell this changes nothing but that it goes on, or explains why it does."""
        self.rate.pause()
        spell = self._spell
        if spell is None:
            started = self._moment(started_unix_nano)
            self._spell = _Spell(started, started, cause, detail)
            return
        if spell.unexplained:
            spell.cause, spell.detail = cause, detail if spell.watching_again else f"{NEVER_CONNECTED}: {detail}"
            spell.unexplained = False
        spell.watching_again = None

    def count_lost(self, records: int) -> None:
        """So many events are known to be lost by what happens to the stream now."""
        self._lost_records += records

    def attempt(self) -> None:
        """One attempt to see again was started."""
        if self._spell:
            self._spell.attempts += 1

    def watch_again(self, unix_nano: int) -> None:
        """The stream is thought to be watched from this moment on."""
        if self._spell and self._spell.watching_again is None:
            self._spell.watching_again = self._moment(unix_nano)

    def goes_on(self, unix_nano: int) -> Gap | None:
        """Asked while it may be blind: the record of a spell's first part, once it has lasted for long."""
        spell, now = self._spell, self._moment(unix_nano)
        if spell is None or spell.watching_again or spell.recorded_until:
            return None
        if now.seconds_since(spell.noticed) < GOES_ON_SECONDS:
            return None
        spell.recorded_until = now
        return self._record(
            spell, spell.started, now, f"{spell.detail}; it goes on, and how long another record will say"
        )

    def suspect(self, started_unix_nano: int, ended_unix_nano: int, received: int, detail: str) -> Gap | None:
        """The record of a stretch in which the upstream stood still; None while the stream is blind anyway.

        Args:
            started_unix_nano: the last sign of life before it.
            ended_unix_nano: when its nodes can be expected to be heard again.
            received: events that came in this time all the same.
            detail: for people.
        """
        if self._spell is not None and self._spell.watching_again is None:
            return None
        started, ended = self._moment(started_unix_nano), self._moment(max(started_unix_nano, ended_unix_nano))
        expected = self.rate.estimate(ended.seconds_since(started))
        return Gap(
            stream=self._stream,
            upstream=self._upstream,
            cause=GapCause.STALL,
            started_unix_nano=started.unix_nano,
            ended_unix_nano=ended.unix_nano,
            estimated_records=None if expected is None else max(0, expected - received),
            detail=detail,
            suspected=True,
        )

    def prove(self) -> Gap | None:
        """The stream has kept its promise: the spell ended when `watch_again` said so. Returns its record, if any."""
        spell = self._spell
        return self._end(spell.watching_again) if spell and spell.watching_again else None

    def end(self, unix_nano: int) -> Gap | None:
        """The spell is over at this moment. Returns its record; None for an unremarkable first connect."""
        return self._end(self._moment(unix_nano))

    def _end(self, ended: _Moment) -> Gap | None:
        spell, self._spell = self._spell, None
        lost, self._lost_records = self._lost_records, 0
        quiet, self._quiet_first_attempt = self._quiet_first_attempt, False
        if spell is None or (quiet and spell.attempts <= 1 and not lost):
            return None
        spell.lost_records = lost or None
        if spell.recorded_until is None:
            return self._record(spell, spell.started, ended, spell.detail)
        return self._record(spell, spell.recorded_until, ended, f"{spell.detail}; the beginning is on record already")

    def _record(self, spell: _Spell, started: _Moment, ended: _Moment, detail: str) -> Gap:
        return Gap(
            stream=self._stream,
            upstream=self._upstream,
            cause=spell.cause,
            started_unix_nano=started.unix_nano,
            # A clock that was set back must not make a gap end before it starts.
            ended_unix_nano=max(ended.unix_nano, started.unix_nano),
            attempts=spell.attempts,
            lost_records=spell.lost_records,
            estimated_records=self.rate.estimate(ended.seconds_since(started)),
            detail=detail,
        )

    def _moment(self, unix_nano: int) -> _Moment:
        return _Moment(unix_nano, self._clock_offset_nano())
