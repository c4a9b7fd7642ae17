"""Monitors one connection from its first health check to its loss, and detects that it, or the bridge, stood still.

`Monitor` runs on the subscription's thread. It returns when asked to stop, and raises `ConnectionLostError` when there
is nothing left to watch. "Subscribed" means that a health check was answered after the Watch calls were started:
KubeArmor and the relay send no headers on a quiet stream, so there is nothing else to wait for.

`StallDetector`: a relay that is frozen for 6 to 14 s goes on afterwards as if nothing had been, on the same streams,
but its nodes have dropped it meanwhile, with all that waited in them, and it goes back to them after a fixed pause. So
a health check that is answered late, after a silence of some seconds, is taken for such a stall. A silence with health
checks that are answered at once is none: then nothing happened, or a node is silent (`nodes.py`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import NamedTuple

from otelbridge.event import NANOSECONDS, GapCause, Stream
from otelbridge.feed.connection import DEADLY_MISSES, Answer, Connection, is_dead
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS, NODES_RETURN_SECONDS
from otelbridge.feed.model import ConnectionLostError, Record, StreamEnd, StreamState, failed_step
from otelbridge.feed.overload import SLOTS
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import ErrorClass, gentlest
from otelbridge.feed.stream import StreamWatch, is_healthy
from otelbridge.feed.unread import ELAPSED_CLOCK
from otelbridge.telemetry.events import (
    HealthChecksUseless,
    HeartbeatAnswered,
    HeartbeatMissed,
    StreamLost,
    StreamOpened,
    Tell,
)
from otelbridge.telemetry.supervisor import Pulse

LATE_SECONDS = 0.8
"""An answer that took so much longer than others was held up: health checks are answered within milliseconds."""
USUAL_ANSWERS = 300
"""The quickest of so many, a quarter of an hour at least, says what is usual on this line: a relay may stutter."""
OWN_PAUSE_SECONDS = 4.5
"""Of the subscription's thread, which turns every second."""
STALL_SECONDS = 4.5
"""Shorter stalls lose nothing: nodes drop a relay that leaves their ping unanswered 6 s after the last sign of life."""
NODES_DROP_SECONDS = 6.0
PROBE_SECONDS = 3.0
"""After so long without a sign of life a health check is sent ahead of time: a stall of 5 s holds it up for one.
However long the silence is: what ends it may be what the upstream stands still over."""


class Stall(NamedTuple):
    """A stretch in which events of the nodes behind the upstream may have been lost. Unix time in nanoseconds."""

    started: int
    """The last sign of life before."""
    ended: int
    """The first one after; later where nodes can have dropped the relay, which then has to go back to them."""
    detail: str
    cause: GapCause = GapCause.STALL


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


def own_pause(seconds: float, now: int) -> Stall:
    """What a pause of the bridge's own means: what it is sent meanwhile seems to come at its end, and not all comes."""
    detail = f"The bridge itself stood still for {seconds:.1f} s."
    return Stall(now - int(seconds * NANOSECONDS), now, detail, GapCause.PAUSE)


class StallDetector:
    """Looks at one connection once a second and at each answer. All times are Unix time in nanoseconds.

    What is later than now was before the clock was set back, and tells nothing.
    """

    def __init__(self, now: int) -> None:
        self._took: deque[int] = deque(maxlen=USUAL_ANSWERS)
        """The latest answers, in nanoseconds."""
        self._last_answer = now
        self._last_event = 0
        self._began = now
        self._silence = (now, now)
        """The latest silence of some length that has ended: from one event, or the beginning, to the next event."""

    def look(self, last_event: int) -> None:
        """Takes in when the last event was received, 0 for never."""
        if last_event == self._last_event:
            return
        before, self._last_event = _latest(last_event, self._last_event, self._began), last_event
        if before and last_event - before >= STALL_SECONDS * NANOSECONDS:
            self._silence = (before, last_event)

    def wants_probe(self, now: int, *asked: int) -> bool:
        """Whether there was no sign of life for a while, and no health check was sent lately to tell why."""
        return now - _latest(now, *asked, self._last_event) >= PROBE_SECONDS * NANOSECONDS

    def answered(self, asked: int, now: int, *, seen: int = 0) -> Stall | None:
        """A health check was answered; the stall that this ends, if it is one.

        Args:
            asked: when the first one that was not answered before was sent.
            now: when the answer came.
            seen: when it was looked at: what came in between is known already.
        """
        before, self._last_answer = self._last_answer, now
        usual, took = min(self._took, default=0), now - asked
        self._took.append(took)
        if (took - usual) / NANOSECONDS < LATE_SECONDS:
            return None
        silent_from, resumed = self._silence
        if not asked <= resumed <= max(now, seen):  # no silence has ended since: it goes on, or there was none
            silent_from = now if now < self._last_event <= seen else self._last_event
        started = _latest(now, before, silent_from) or asked
        return stall_until(started, now) if (now - started) / NANOSECONDS >= STALL_SECONDS else None


def _latest(now: int, *moments: int) -> int:
    return max((moment for moment in moments if moment <= now), default=0)


UNREAD = "The bridge had not read all that had come when it closed the connection."
TOO_SLOW = "The bridge read more slowly than events came; what its upstream cannot send, and has no room for, it drops."

FAILED_PAUSE_SECONDS = 2.0
"""After a health check that failed by a status: a load balancer that changes its backend fails some."""

SETTLE_SECONDS = 0.1
"""When a connection breaks its streams end within milliseconds of one another; what ends alone is another matter."""

TICK_SECONDS = 1.0

FLOWING_PER_SECOND = 2.0
"""Of an upstream that has sent so much, the first event ends a gap. Of one that sent less, next to nothing is lost
between the first answer and that."""
FLOWING_SECONDS = 5.0
"""So long it has to be known."""

STOP_CHECK_SECONDS = 0.2
"""While a connection is being made nobody can nudge it, so it looks up this often whether it shall stop."""


class Monitor:
    """Watches over one connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        settings: FeedSettings,
        upstream: str,
        stopping: threading.Event,
        pulse: Pulse,
        tell: Tell,
        record: Record,
    ) -> None:
        self.connection = connection
        self._settings = settings
        self._upstream = upstream
        self._stopping = stopping
        self._pulse = pulse
        self._tell = tell
        self._record = record
        self._misses = 0
        self._asked_events: int | None = None
        """Events received when the outstanding health check went out; None while there is none."""
        self._ask_at = 0.0
        self._settle_at: float | None = None
        self._events_weighed = 0
        """Events received when the last health check came to its end."""
        self.unchecked = ""
        """Why health checks say nothing of this connection; empty where they do."""
        self._ends: list[StreamEnd] = []
        self._tick_at = 0.0
        self._first_answer_unix_nano: int | None = None
        self._detector = StallDetector(time.time_ns())
        self._asked_unix_nano = 0
        """When the first health check was sent that has had no answer yet; the last one, where all have."""
        self._events_when_asked: Mapping[Stream, int] = {}
        self._heard_unix_nano = 0
        """When an event was first seen to have come on this connection."""
        rates = [watch.gaps.rate for watch in connection.watches.values()]
        self._awaits_events = (
            sum(rate.per_second or 0.0 for rate in rates) >= FLOWING_PER_SECOND
            and max(rate.observed_seconds for rate in rates) >= FLOWING_SECONDS
        )
        self._probing = False
        """A probe is under way: asked ahead of time, beside the health checks that decide."""
        self._probed_unix_nano = 0
        self._events_when_probed: Mapping[Stream, int] = {}

    @property
    def unheard_since_unix_nano(self) -> int | None:
        """Since when the upstream has answered health checks without having sent an event; None once it has."""
        return None if self._total_events() else self._first_answer_unix_nano

    # --- establishing ---

    def await_health(self, step: str, timeout_seconds: float) -> None:
        """Asks, and waits until the upstream has answered, or an event has come.

        Raises:
            ConnectionLostError: no answer; or every Watch call has ended.
        """
        self._ask(timeout_seconds)
        while not self._stopping.is_set():
            message = self.connection.next_message(STOP_CHECK_SECONDS)
            self._pulse.beat()
            if isinstance(message, StreamEnd):
                self._note(message)
                if not self.connection.open_streams:
                    raise self._all_lost()
            elif isinstance(message, Answer):
                self._asked_events = None
                if message.no_room and self.connection.open_streams:
                    self._do_without(message)
                elif message.alive:
                    self._note_answer(message)
                    self._hear(message)
                elif not self._total_events():
                    raise failed_step(step, message.code, message.why)
                return
            elif self._total_events():  # the answer is awaited beside them
                return

    def open_streams(self) -> None:
        """Starts a Watch call per stream."""
        self.connection.look_for_overload()  # so that it is known what had come before any event
        for stream in self.connection.watches:
            self.connection.open_stream(stream)

    # --- keeping ---

    def keep(self, *, suspect: Callable[[str], None], trust: Callable[[], None], look: Callable[[], bool]) -> None:
        """Watches until asked to stop, or until `look` says that somebody else takes over.

        Args:
            suspect: called when a health check was missed.
            trust: called when the upstream has answered after that.
            look: called once a second; False ends the watch.

        Raises:
            ConnectionLostError: there is nothing left to watch.
        """
        now, turned = time.monotonic(), time.clock_gettime(ELAPSED_CLOCK)
        self._ask_at = now + self.connection.heartbeat.pause_seconds()
        while not self._stopping.is_set():
            message = self.connection.next_message(self._next_timer() - time.monotonic())
            self._pulse.beat()
            now, before, turned = time.monotonic(), turned, time.clock_gettime(ELAPSED_CLOCK)
            if turned - before >= OWN_PAUSE_SECONDS:
                self._record_stall(own_pause(turned - before, time.time_ns()), self.connection.events)
            if isinstance(message, StreamEnd):
                self._note(message)
            elif isinstance(message, Answer):
                self._weigh(message, now, suspect, trust)
            if self._settle_at is not None and now >= self._settle_at:
                self._settle()
            self._reopen(now)
            if now >= self._tick_at:
                self._tick_at = now + TICK_SECONDS
                self.connection.look_for_goaway()
                self._look_for_stall()
                self.look_for_overload()
                for watch in self.connection.watches.values():
                    self._look_at(watch)
                if not look():
                    return
            if self._asked_events is None and now >= self._ask_at:
                self._ask()

    def _next_timer(self) -> float:
        timers = [self._tick_at]
        if self._settle_at is not None:
            timers.append(self._settle_at)
        if self._asked_events is None:
            timers.append(self._ask_at)
        if not self._is_asking:
            timers += [watch.retry_at for watch in self._to_reopen()]
        return min(timers)

    def hand_over(self, new: Monitor) -> None:
        """Another connection takes over: streams that ended here before it was confirmed become gaps.

        So does what came before that, and is not read.
        """
        taken_over = new.connection.last_answer_unix_nano
        read_until = dict.fromkeys(self.connection.watches, self.connection.read_until())
        while (message := self.connection.next_message(0)) is not None:
            if not isinstance(message, StreamEnd):
                continue
            read_until[message.stream] = message.read_until_unix_nano
            if message.ended_unix_nano >= taken_over:
                continue
            watch = self.connection.watches[message.stream]
            watch.weigh(message)
            last_answer = self.connection.last_answer_unix_nano
            since = watch.seen_until(last_answer, message.ended_unix_nano, message.read_until_unix_nano)
            watch.gaps.lose(since, GapCause.DISCONNECT, watch.error)
            watch.gaps.watch_again(taken_over)
        self.record_unread(read_until, taken_over)

    def record_unread(self, read_until: Mapping[Stream, int], ended: int) -> None:
        """Puts on record what is unread for good, and came before `ended`; times are Unix nanoseconds.

        Args:
            read_until: up to when all that had come was read, by stream.
            ended: what came later is nobody's, or comes otherwise.
        """
        for stream, until in read_until.items():
            started = until - IN_FLIGHT_NANOS
            if started < ended:
                gaps = self.connection.watches[stream].gaps
                self._record(gaps.suspect(GapCause.OVERFLOW, started, ended, 0, UNREAD))

    # --- health ---

    def _ask(self, timeout_seconds: float | None = None) -> None:
        self._asked_events = self._total_events()
        if not self._misses:
            self._asked_unix_nano = time.time_ns()
            self._events_when_asked = self.connection.events
        self.connection.ask(timeout_seconds=timeout_seconds)

    def _weigh(self, answer: Answer, now: float, suspect: Callable[[str], None], trust: Callable[[], None]) -> None:
        if answer.probe:
            self._probing = False
            if answer.alive:
                self._note_answer(answer)
            return
        events = self._total_events()
        heard = events > (self._asked_events or 0 if answer.silent else self._events_weighed)
        self._asked_events, self._events_weighed = None, events
        if answer.no_room:
            self._ask_at = now + self.connection.heartbeat.pause_seconds()
            if self._probing:  # which has the only room
                self.connection.take_probe_back()
                self._ask_at = now + SETTLE_SECONDS
                return
            self._do_without(answer)
            trust()
            return
        if answer.alive:
            self._misses, self.unchecked = 0, ""
            self._note_answer(answer)
            self._ask_at = now + self.connection.heartbeat.pause_seconds()
            trust()
            self._hear(answer)
            return
        self._misses += 1
        self._tell(HeartbeatMissed(upstream=self._upstream, misses=self._misses, why=answer.why))
        suspect(answer.why)
        if is_dead(self._misses, silent=answer.silent, heard=heard):
            raise self._given_up(answer)
        # The next answer decides, so it is asked for at once; what fails needs a moment to get well.
        pause, interval = 0.0 if answer.silent else FAILED_PAUSE_SECONDS, self._settings.heartbeat.interval_seconds
        if self._misses >= DEADLY_MISSES:
            self._say_unchecked(f"{self._misses} health checks have failed while events came ({answer.why})")
            pause = interval if answer.silent else pause
        self._ask_at = now + min(pause, interval)

    def _do_without(self, answer: Answer) -> None:
        """Health checks cannot be made: keepalive pings and events have to do. This answer is no sign of life."""
        self._misses = 0
        self._say_unchecked(answer.why)
        self._hear(answer)

    def _say_unchecked(self, why: str) -> None:
        if not self.unchecked:
            self._tell(HealthChecksUseless(upstream=self._upstream, why=why))
        self.unchecked = why

    # --- stalls ---

    def nodes_may_be_away(self) -> None:
        """The connection before this one fell silent: if its upstream is a relay, its nodes have dropped it."""
        self._record_stall(after_silence(self.connection.last_answer_unix_nano), self.connection.events)

    def _look_for_stall(self) -> None:
        """A silence against the usual is asked about at once."""
        now = time.time_ns()
        self._detector.look(self.connection.last_event_unix_nano)
        asked = self._asked_unix_nano, self._probed_unix_nano
        if not self._is_asking and not self.unchecked and self._detector.wants_probe(now, *asked):
            self._probing, self._probed_unix_nano = True, now
            self._events_when_probed = self.connection.events
            self.connection.ask(probe=True)

    def _note_answer(self, answer: Answer) -> None:
        """Takes in how late an answer came."""
        self._detector.look(self.connection.last_event_unix_nano)
        check = self._asked_unix_nano, self._events_when_asked
        probe = self._probed_unix_nano, self._events_when_probed
        asked, events = probe if answer.probe else check
        if self._is_asking:  # the other one has waited as well, and may have been sent before
            asked, events = min((asked, events), check if answer.probe else probe, key=itemgetter(0))
        stall = self._detector.answered(asked, answer.unix_nano, seen=time.time_ns())
        if stall is not None:
            self._record_stall(stall, events)

    def look_for_overload(self, *, over: bool = False) -> None:
        """Records where the bridge was too slow; `over`: the connection is about to be closed.

        A stream that brought fewer events than its slots hold had room.
        """
        self.connection.look_for_overload()
        for overload in self.connection.overloads(over=over):
            for stream, events in self.connection.events.items():
                received = events - overload.events_before.get(stream, 0)
                if received >= SLOTS:
                    gaps = self.connection.watches[stream].gaps
                    self._record(gaps.suspect(GapCause.OVERFLOW, overload.started, overload.ended, received, TOO_SLOW))

    def _record_stall(self, stall: Stall, events_before: Mapping[Stream, int]) -> None:
        events = self.connection.events
        for stream, watch in self.connection.watches.items():
            received = events[stream] - events_before.get(stream, 0)
            started = stall.started - IN_FLIGHT_NANOS
            self._record(watch.gaps.suspect(stall.cause, started, stall.ended, received, stall.detail))

    # --- what answers mean ---

    def _hear(self, answer: Answer) -> None:
        if self._first_answer_unix_nano is None:
            self._first_answer_unix_nano = answer.unix_nano
        if answer.alive:
            self._tell(HeartbeatAnswered(upstream=self._upstream, seconds=answer.seconds, method=answer.method))
        for stream, watch in self.connection.watches.items():
            if self.connection.reads(stream) and watch.answered(asked=answer.asked, unix_nano=answer.unix_nano):
                self._tell(StreamOpened(upstream=self._upstream, stream=stream, connection_id=self.connection.id))

    def _given_up(self, answer: Answer) -> ConnectionLostError:
        for watch in self.connection.watches.values():
            self._look_at(watch)
        return ConnectionLostError(
            code=answer.code,
            details=f"no good answer to {self._misses} health check(s) ({answer.why}); the connection was closed by us",
            error_class=ErrorClass.TRANSIENT,
            cause=GapCause.HEARTBEAT_LOSS if answer.silent else GapCause.DISCONNECT,
            healthy=self._healthy(),
        )

    # --- streams ---

    def _note(self, end: StreamEnd) -> None:
        self._look_at(self.connection.watches[end.stream])  # what it brought before it ended counts
        self._ends.append(end)
        self._settle_at = time.monotonic() + SETTLE_SECONDS

    def _settle(self) -> None:
        if not self.connection.open_streams:
            raise self._all_lost()
        ends, self._ends, self._settle_at = self._ends, [], None
        for end in ends:
            loss = self.connection.watches[end.stream].lose_alone(end, self.connection.last_answer_unix_nano)
            self._tell_lost(end, loss.error_class)

    def _all_lost(self) -> ConnectionLostError:
        """The last Watch call has ended: the connection has no purpose any more."""
        losses = []
        for end in self._ends:
            watch = self.connection.watches[end.stream]
            losses.append(watch.as_loss(end, watch.weigh(end)))
            self._tell_lost(end, losses[-1].error_class)
        error_class = gentlest([loss.error_class for loss in losses])
        chosen = next(loss for loss in losses if loss.error_class is error_class)
        chosen.healthy = self._healthy()
        chosen.quick = any(loss.quick for loss in losses)
        return chosen

    def _tell_lost(self, end: StreamEnd, error_class: ErrorClass) -> None:
        self._tell(
            StreamLost(
                upstream=self._upstream,
                stream=end.stream,
                connection_id=self.connection.id,
                status_code=end.code.name,
                detail=end.details,
                error_class=error_class,
                events=end.events,
            )
        )

    @property
    def _is_asking(self) -> bool:
        return self._asked_events is not None or self._probing

    def _to_reopen(self) -> list[StreamWatch]:
        """Streams to open again; those that the server has no room for come last, as they would take that of others."""
        waiting = [watch for watch in self.connection.watches.values() if _waits(watch.machine.state)]
        return [watch for watch in waiting if not watch.has_no_room] or waiting

    def _reopen(self, now: float) -> None:
        due = [watch for watch in self._to_reopen() if now >= watch.retry_at]
        if due and self._probing:
            self.connection.take_probe_back()
        if self._is_asking:  # where the server allows few calls, the health check goes first
            return
        for watch in due:
            self.connection.open_stream(watch.stream)
            self._ask_at = now  # an answer to a question asked from now on makes it watched

    def _look_at(self, watch: StreamWatch) -> None:
        if not self._heard_unix_nano and self._total_events():
            self._heard_unix_nano = self.connection.last_event_unix_nano
        opened, gap = watch.look(time.monotonic(), heard_unix_nano=self._heard_unix_nano, awaited=self._awaits_events)
        if opened:
            self._tell(StreamOpened(upstream=self._upstream, stream=watch.stream, connection_id=self.connection.id))
        self._record(gap)

    def _total_events(self) -> int:
        return sum(self.connection.events.values())

    def _healthy(self) -> bool:
        lived = time.monotonic() - self.connection.started
        return is_healthy(lived, self._total_events(), self._settings.retry)


def _waits(state: StreamState) -> bool:
    return state in {StreamState.WAITING, StreamState.HOLDING}
