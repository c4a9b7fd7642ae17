"""One stream of one subscription across all its connections: its state, its counts, its backoff and its gaps."""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import grpc

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed.buffer import BufferWriter
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS, NODES_RETURN_SECONDS, GapTracker
from otelbridge.feed.model import STREAM_MOVES, ConnectionLostError, Machine, StreamEnd, StreamState, StreamStatus
from otelbridge.feed.settings import FeedSettings, RetrySettings
from otelbridge.feed.status_codes import (
    BAD_FILTER_ENDS,
    BAD_FILTER_SECONDS,
    NO_ROOM,
    Classification,
    ErrorClass,
    classify,
    gap_cause,
    has_no_room,
)
from otelbridge.net.backoff import Backoff

HEALTHY_WITH_EVENTS_SECONDS = 10.0
"""A stream that brought events counts as healthy this early, where `healthy_after_seconds` is longer."""

BAD_FILTER = Classification(error_class=ErrorClass.PERMANENT)
BAD_FILTER_DETAILS = "the server ends this stream with OK at once, again and again: it refuses our filter"


class StreamWatch:
    """The state of one stream of a subscription. Changed by the subscription's thread, read by any."""

    def __init__(
        self, stream: Stream, upstream: str, settings: FeedSettings, random: Random, *, watched_until: int | None
    ) -> None:
        self.stream = stream
        self.machine = Machine(StreamState.CLOSED, STREAM_MOVES)
        self.backoff = backoff_for(settings.retry, random)
        self.gaps = GapTracker(
            stream,
            upstream,
            watched_until_unix_nano=watched_until,
            now_unix_nano=time.time_ns(),
            clock_offset_nano=lambda: time.time_ns() - time.monotonic_ns(),
        )
        self.ends: Counter[str] = Counter()
        """Ends that we did not ask for, by gRPC status name."""
        self.oversized = 0
        """Ends by an event larger than `max_message_bytes`: so many events are known to be lost."""
        self.error = ""
        self.error_class = ""
        self.retry_at = 0.0
        """On the monotonic clock, in the states WAITING and HOLDING."""
        self.has_no_room = False
        """It is not watched because the server allows no more calls at a time."""
        self._retry = settings.retry
        self._opened = 0.0
        self._opened_events = 0
        """Events received before the present Watch call."""
        self._watching_since = 0.0
        self._watched_from_unix_nano = 0
        """When the present stretch of watching began: no later gap starts before."""
        self._quick_ends = 0
        self._writers: tuple[BufferWriter, ...] = ()
        self._past_events = 0
        self._past_bytes = 0
        self._past_event_unix_nano = 0

    # --- counts ---

    def attach(self, writer: BufferWriter) -> None:
        """A reader of this stream starts."""
        self._writers = (*self._writers, writer)

    def detach(self, writer: BufferWriter) -> None:
        """That reader is over."""
        self._past_event_unix_nano = max(self._past_event_unix_nano, writer.last_event_unix_nano)
        self._past_events, self._past_bytes = self._past_events + writer.events, self._past_bytes + writer.bytes
        self._writers = tuple(other for other in self._writers if other is not writer)

    @property
    def events(self) -> int:
        """Events received since the start."""
        return self._past_events + sum(writer.events for writer in self._writers)

    @property
    def bytes(self) -> int:
        """Bytes of those."""
        return self._past_bytes + sum(writer.bytes for writer in self._writers)

    @property
    def last_event_unix_nano(self) -> int:
        """When the last one was received; 0 before the first."""
        return max([self._past_event_unix_nano, *(writer.last_event_unix_nano for writer in self._writers)])

    def status(self) -> StreamStatus:
        """How it stands right now."""
        watching = self.machine.state is StreamState.WATCHING
        return StreamStatus(
            state=self.machine.state,
            since_unix_nano=self.machine.since_unix_nano,
            events=self.events,
            bytes=self.bytes,
            last_event_unix_nano=self.last_event_unix_nano,
            blind_since_unix_nano=self.gaps.since_unix_nano,
            events_per_second=self.gaps.rate.per_second,
            ends=dict(self.ends),
            oversized=self.oversized,
            error="" if watching else self.error,
            error_class="" if watching else self.error_class,
        )

    # --- life ---

    def open(self) -> None:
        """A Watch call is started."""
        if self.machine.state in {StreamState.WAITING, StreamState.HOLDING}:
            self.gaps.attempt()  # an attempt of its own; those of the connection are counted with it
        if self.machine.state is not StreamState.WATCHING:  # a replacement is opened beside the one that is watched
            self.machine.move(StreamState.OPENING)
        self._opened = time.monotonic()
        self._opened_events = self.events

    def answered(self, *, asked: float, unix_nano: int) -> bool:
        """The upstream answered a health check; whether this made the stream watched.

        Args:
            asked: when the question went out, on the monotonic clock: an older question proves nothing.
            unix_nano: when the answer came.
        """
        if self.machine.state is not StreamState.OPENING or asked < self._opened:
            return False
        self._watch(unix_nano)
        return True

    def look(self, now: float, *, heard_unix_nano: int = 0, awaited: bool = False) -> tuple[bool, Gap | None]:
        """Called once a second and at an end: whether an event made it watched, and a gap to be put on record.

        Args:
            now: on the monotonic clock.
            heard_unix_nano: when an event of any stream came on this connection; 0 for not yet.
            awaited: the upstream used to send events, so they are waited for: a relay that was started anew answers
                before it has found its nodes.
        """
        events = self.events - self._opened_events
        opened = self.machine.state is StreamState.OPENING and events > 0
        if opened:
            self._watch(self.last_event_unix_nano)
        if self.machine.state is not StreamState.WATCHING:
            return opened, self.gaps.goes_on(time.time_ns())
        self.gaps.rate.observe(self.events, now)
        if events:
            self._quick_ends = 0
        if not self.gaps.unproven:
            return opened, None
        waited = now - self._watching_since
        if awaited and not heard_unix_nano:
            if waited < NODES_RETURN_SECONDS:
                return opened, None
            heard_unix_nano = time.time_ns()
        if events or waited >= BAD_FILTER_SECONDS:
            self.error = self.error_class = ""
            return opened, self.gaps.prove(heard_unix_nano if awaited else 0)
        return opened, None

    def _watch(self, unix_nano: int) -> None:
        self.machine.move(StreamState.WATCHING)
        self._watching_since = time.monotonic()
        self._watched_from_unix_nano = unix_nano
        self.gaps.watch_again(unix_nano)

    def open_later(self) -> None:
        """The Watch call that was being opened went with a replacement that failed: it is opened again at once."""
        if self.machine.state is StreamState.OPENING:
            self.machine.move(StreamState.WAITING)
            self.retry_at = time.monotonic()

    # --- ends ---

    def weigh(self, end: StreamEnd) -> Classification:
        """Counts an end that we did not ask for, and says what to make of it."""
        self.ends[end.code.name] += 1
        if end.oversized:
            self.oversized += 1
            self.gaps.count_lost(1)
        verdict, details = classify(end.code, end.details), end.details
        self.has_no_room = has_no_room(end.code, details)
        if self.has_no_room:
            details = NO_ROOM
        quick_end = end.code is grpc.StatusCode.OK and not end.events and end.lived_seconds < BAD_FILTER_SECONDS
        self._quick_ends = self._quick_ends + 1 if quick_end else 0
        if self._quick_ends >= BAD_FILTER_ENDS:
            verdict, details = BAD_FILTER, BAD_FILTER_DETAILS
        self.error, self.error_class = f"{end.code.name}: {details or 'no details'}", verdict.error_class.value
        return verdict

    def lose_alone(self, end: StreamEnd, last_answer_unix_nano: int) -> ConnectionLostError:
        """This stream ended while the connection goes on: it is opened again by a backoff of its own."""
        loss = self.as_loss(end, self.weigh(end))
        self.machine.move(StreamState.HOLDING if loss.slow else StreamState.WAITING)
        self.retry_at = time.monotonic() + self.backoff.delay_after(
            slow=loss.slow, healthy=loss.healthy, quick=loss.quick
        )
        seen = self.seen_until(last_answer_unix_nano, end.ended_unix_nano, end.read_until_unix_nano)
        self.gaps.lose(seen, loss.cause, self.error)
        return loss

    def seen_until(self, alive_unix_nano: int, noticed_unix_nano: int, read_until_unix_nano: int) -> int:
        """Up to when nothing of it can have been missed: the last event or sign of life, less what was under way.

        What waited unread then is lost with the stream, and came before that.

        Args:
            alive_unix_nano: the connection's last sign of life, an answer or an event of any stream; 0 for none.
            noticed_unix_nano: when the loss was noticed: counts where there never was a sign of life.
            read_until_unix_nano: up to when all that had come was read.
        """
        alive = max(self.last_event_unix_nano, alive_unix_nano)
        if not alive:
            return noticed_unix_nano
        seen = min(alive, read_until_unix_nano) - IN_FLIGHT_NANOS
        return min(noticed_unix_nano, max(seen, self._watched_from_unix_nano))

    def as_loss(self, end: StreamEnd, verdict: Classification) -> ConnectionLostError:
        """What an end means for the next try."""
        return ConnectionLostError(
            code=end.code,
            details=self.error.removeprefix(f"{end.code.name}: "),
            error_class=verdict.error_class,
            cause=gap_cause(end.code, end.details),
            healthy=is_healthy(end.lived_seconds, end.events, self._retry),
            quick=verdict.quick and end.events > 0,
        )

    def lose_with_connection(self, since_unix_nano: int, cause: GapCause, detail: str) -> None:
        """The connection is gone, and this stream with it; one that was blind before stays so since then."""
        if self.machine.state is not StreamState.CLOSED:
            self.machine.move(StreamState.CLOSED)
        self.gaps.lose(since_unix_nano, cause, detail)


def backoff_for(retry: RetrySettings, random: Random) -> Backoff:
    """The backoff of one subscription, or of one of its streams."""
    return Backoff(
        fast=(retry.initial_seconds, retry.max_seconds),
        slow=(retry.operator_initial_seconds, retry.operator_max_seconds),
        random=random.random,
    )


def is_healthy(lived_seconds: float, events: int, retry: RetrySettings) -> bool:
    """Whether something lived long enough for its backoff to start anew. Being connected alone is not health."""
    enough = retry.healthy_after_seconds
    return lived_seconds >= (min(enough, HEALTHY_WITH_EVENTS_SECONDS) if events else enough)
