"""Detects that an upstream stood still for a while although its connection stayed. Times are passed in.

A relay that is frozen for 6 to 14 s goes on afterwards as if nothing had been, on the same streams; but its nodes have
dropped it meanwhile, with all that waited in them, and it goes back to them after a fixed pause. So a health check that
is answered late, after a silence of some seconds, is taken for such a stall. A silence with health checks that are
answered at once is none: then nothing happened, or a node is silent (`nodes.py`).
"""

from __future__ import annotations

from typing import NamedTuple

LATE_SECONDS = 1.0
"""An answer that took so long was held up: health checks are answered within milliseconds."""
STALL_SECONDS = 4.5
"""Shorter stalls lose nothing: nodes drop a relay that leaves their ping unanswered 6 s after the last sign of life."""
NODES_DROP_SECONDS = 6.0
NODES_RETURN_SECONDS = 7.0
"""The relay goes back to nodes that dropped it after a fixed sleep of 5 s, and has to connect and subscribe then."""
PROBE_SECONDS = 2.0
"""After so much silence where there was none, and again after as much, a health check is sent ahead of time."""
PROBE_FOR_SECONDS = 60.0
"""A longer silence is a quiet stream, not a stall that is about to end."""
UNUSUAL_FACTOR = 2.5
"""Times the mean silence between two looks with news."""
MEAN_WEIGHT = 0.1
"""Of the newest silence in that mean."""
MEAN_FACTOR = 4.0
"""A silence counts for no more than so many times the mean: a stall must not hide the next one."""

NANOSECONDS = 1_000_000_000


class Stall(NamedTuple):
    """A stretch in which events of the nodes behind the upstream may have been lost. Unix time in nanoseconds."""

    started: int
    """The last sign of life before."""
    ended: int
    """The first one after; later where nodes can have dropped the relay, which then has to go back to them."""
    detail: str


def stall_until(started: int, answered: int) -> Stall:
    """What a silence means that ended with an answer."""
    seconds = (answered - started) / NANOSECONDS
    away = NODES_RETURN_SECONDS if seconds >= NODES_DROP_SECONDS else 0.0
    detail = f"A health check was answered only after {seconds:.1f} s without any sign of life."
    return Stall(started, answered + int(away * NANOSECONDS), detail)


def after_silence(answered: int) -> Stall:
    """What may be lost yet when a connection that had fallen silent was made anew: the silence itself is on record."""
    detail = "The upstream was silent before, so its nodes may have dropped it."
    return Stall(answered, answered + int(NODES_RETURN_SECONDS * NANOSECONDS), detail)


class StallDetector:
    """Looks at one connection once a second and at each answer. All times are Unix time in nanoseconds."""

    def __init__(self, now: int) -> None:
        self._last_answer = now
        self._last_event = 0
        self._mean_seconds = 0.0
        """Of the silences between looks that found news; 0 before the second event."""
        self._silence = (now, now)
        """The latest silence of some length that has ended: from one event to the next."""

    def look(self, last_event: int) -> None:
        """Takes in when the last event was received, 0 for never."""
        if last_event <= self._last_event:
            return
        before, self._last_event = self._last_event, last_event
        if not before:
            return
        seconds = (last_event - before) / NANOSECONDS
        if seconds >= STALL_SECONDS:
            self._silence = (before, last_event)
        mean = self._mean_seconds or min(seconds, PROBE_FOR_SECONDS)
        self._mean_seconds = mean + MEAN_WEIGHT * (min(seconds, MEAN_FACTOR * mean, PROBE_FOR_SECONDS) - mean)

    def wants_probe(self, now: int, asked: int) -> bool:
        """Whether the present silence is out of the usual, and no health check was sent lately to tell why.

        Args:
            now: the time.
            asked: when the last health check was sent.
        """
        silence = (now - self._last_event) / NANOSECONDS
        if not self._mean_seconds or silence > PROBE_FOR_SECONDS:
            return False
        unusual = silence > max(PROBE_SECONDS, UNUSUAL_FACTOR * self._mean_seconds)
        return unusual and (now - max(asked, self._last_event)) / NANOSECONDS >= PROBE_SECONDS

    def answered(self, asked: int, now: int) -> Stall | None:
        """A health check was answered; the stall that this ends, if it is one.

        Args:
            asked: when the first one that was not answered before was sent.
            now: when the answer came.
        """
        before, self._last_answer = self._last_answer, now
        if (now - asked) / NANOSECONDS < LATE_SECONDS:
            return None
        started, resumed = self._silence
        if resumed < asked:  # no silence has ended since: it goes on, or there was none
            started = max(before, self._last_event)
        return stall_until(started, now) if (now - started) / NANOSECONDS >= STALL_SECONDS else None
