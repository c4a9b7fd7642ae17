"""Holds the subscription to one upstream for as long as the bridge lives: connect, watch, wait, and again.

tenacity drives the attempts: every ending of `_live` is a `ConnectionLostError`, the wait is our backoff, the sleep can
be interrupted. Each attempt gets a fresh channel, so that DNS, certificates and gRPC's own back-off start anew with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from random import Random

import grpc
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_base

from otelbridge.event import NANOSECONDS, GapCause, Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.connector import Connector
from otelbridge.feed.model import (
    SUBSCRIPTION_MOVES,
    ConnectionLostError,
    Machine,
    Record,
    StateChange,
    SubscriptionState,
    SubscriptionStatus,
    failed_step,
)
from otelbridge.feed.monitor import Monitor
from otelbridge.feed.port_watch import LookLimit, PortWatch
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.stream import StreamWatch, backoff_for
from otelbridge.net.address import Address, Resolve
from otelbridge.net.backoff import Backoff
from otelbridge.net.files import TlsFileError
from otelbridge.telemetry.events import (
    CertificatesRefused,
    ConnectionEnded,
    LossDetected,
    RetryScheduled,
    StateChanged,
    Tell,
    UpstreamRecovered,
)
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

PULSE_SECONDS = 1.0
PROGRESS_SECONDS = 10.0
"""A connection that is watched for so long has made up for earlier faults of the bridge."""

STEADY_SECONDS = 2.0
"""A connection that lived so long before the server closed it is worth coming back for as soon as the port answers."""

TIMELINE_LENGTH = 256
"""Changes of state that are remembered for whoever asks how it came to the present one."""

OVERLAP_SECONDS = 1.0
"""A renewed connection and the old one read side by side for so long, so that what is still under way on the old one
arrives. Events of that second come twice: at least once is the promise."""

READ_ON_SECONDS = 5.0
"""And for so long at most until what had come by then is read. The new connection's health is not looked at meanwhile;
readers take more than the window holds in that time, unless the bridge has hardly a processor."""
READ_ON_PAUSE_SECONDS = 0.05


class Subscription:
    """The subscription to one upstream. `start`, `stop` and `join` are for its owner, the rest for any thread."""

    def __init__(
        self,
        address: Address,
        settings: FeedSettings,
        *,
        buffer: Buffer,
        tell: Tell,
        record: Record,
        version: str,
        random: Random,
        resolve: Resolve,
        watched_until: Mapping[Stream, int],
        spread_seconds: float,
        look_limit: LookLimit,
    ) -> None:
        self.upstream = str(address)
        self.pulse = Pulse(f"feed {self.upstream}")
        self._stopping = threading.Event()
        self._tell = tell
        self._record = record
        self._machine = Machine(SubscriptionState.IDLE, SUBSCRIPTION_MOVES)
        self._timeline: deque[StateChange] = deque(maxlen=TIMELINE_LENGTH)
        self._fell_silent = False
        """The last connection that was watched did, or an attempt since got no answer."""
        self._lost_unix_nano: int | None = None
        """When the loss of a connection was noticed; None before that, and once the upstream is watched again."""
        self._watches: dict[Stream, StreamWatch] = {
            stream: StreamWatch(stream, self.upstream, settings, random, watched_until=watched_until.get(stream))
            for stream in settings.streams
        }
        self._connector = Connector(
            address,
            settings,
            watches=self._watches,
            buffer=buffer,
            tell=tell,
            record=record,
            version=version,
            random=random,
            resolve=resolve,
            stopping=self._stopping,
            pulse=self.pulse,
        )
        self._backoff = backoff_for(settings.retry, random)
        self._random = random
        self._look_limit = look_limit
        self._port_watch: PortWatch | None = None
        """While the upstream is lost."""
        self._spread_seconds = spread_seconds
        self._gone = False
        self._monitor: Monitor | None = None
        self._last_error = ""
        self._error_class = ""
        self._next_attempt_at: float | None = None
        self._thread = SupervisedThread(
            self.pulse.name, self._turn, tell=tell, give_back=self._recover, pulse=self.pulse
        )

    # --- for the owner ---

    def start(self) -> None:
        """Starts connecting."""
        self._thread.start()

    def stop(self, *, gone: bool = False) -> None:
        """Asks for the end: streams are cancelled, what they brought is in the buffer. Does not wait.

        Of an upstream that is `gone`, what is blind now will not be watched again.
        """
        self._gone = gone
        self._stopping.set()
        if (monitor := self._monitor) is not None:
            monitor.connection.nudge()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for that end; False when it has not come after the deadline."""
        return self._thread.join(timeout_seconds)

    # --- the thread ---

    def _turn(self) -> bool:
        """The whole life; a turn that met a fault is followed by another, which begins with an attempt."""
        if self._machine.state is SubscriptionState.IDLE:
            self._sleep(self._spread_seconds)
        retrying = Retrying(
            wait=_BackoffWait(self._backoff),
            sleep=self._sleep,
            retry=retry_if_exception_type(ConnectionLostError),
            before_sleep=self._schedule,
        )
        retrying(self._live)
        self._drain()
        self._move(SubscriptionState.CLOSED)
        return False

    def _recover(self) -> None:
        """After a fault of ours the connection is given up, not the subscription."""
        fault = failed_step("", grpc.StatusCode.UNKNOWN, f"a fault of the bridge: {self.pulse.fault}")
        if self._monitor is not None:
            self._end(self._monitor, fault)
        else:
            self._lose(fault, 0, now := time.time_ns(), now)
        if SubscriptionState.WAITING in SUBSCRIPTION_MOVES[self._machine.state]:
            self._move(SubscriptionState.WAITING, str(fault))

    def _live(self) -> None:
        """One connection, from the attempt to its loss. Returns only when asked to stop."""
        if self._stopping.is_set():
            return
        self._move(SubscriptionState.CONNECTING)
        try:
            self._monitor = monitor = self._connector.attempt()
        except ConnectionLostError as loss:
            self._fell_silent = self._fell_silent or loss.code is grpc.StatusCode.DEADLINE_EXCEEDED
            self._lose(loss, 0, now := time.time_ns(), now)
            raise
        if self._stopping.is_set():
            return
        self._note_recovery(monitor)
        try:
            while not self._stopping.is_set():
                monitor.keep(suspect=self._suspect, trust=self._trust, look=self._look)
                if not self._stopping.is_set():
                    self._monitor = monitor = self._renew(monitor)
        except ConnectionLostError as loss:
            self._end(monitor, loss)
            raise
        # No thread to be had for a reader, no memory: the connection is given up, not the subscription.
        except (OSError, RuntimeError, MemoryError) as error:
            fault = failed_step("", grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
            self._end(monitor, fault)
            raise fault from error

    def _note_recovery(self, monitor: Monitor) -> None:
        self._last_error = self._error_class = ""
        self._port_watch = None
        self._move(SubscriptionState.WATCHING)
        if self._fell_silent:
            monitor.nodes_may_be_away()
            self._fell_silent = False
        if self._lost_unix_nano is not None:
            seconds = max(0, time.time_ns() - self._lost_unix_nano) / NANOSECONDS
            self._lost_unix_nano = None
            self._tell(UpstreamRecovered(upstream=self.upstream, seconds=seconds))

    def _look(self) -> bool:
        if (monitor := self._monitor) and time.monotonic() - monitor.connection.started >= PROGRESS_SECONDS:
            self.pulse.progress()
        now, renewal = time.monotonic(), self._connector.renewal
        return not (renewal.due(now) or (monitor and monitor.connection.is_going_away and renewal.allowed(now)))

    def _suspect(self, why: str) -> None:
        if self._machine.state is SubscriptionState.WATCHING:
            self._move(SubscriptionState.SUSPECT, why)

    def _trust(self) -> None:
        if self._machine.state is SubscriptionState.SUSPECT:
            self._move(SubscriptionState.WATCHING, "it answers again")

    # --- ends ---

    def _end(self, monitor: Monitor, loss: ConnectionLostError) -> None:
        """A watched connection is over: what was seen last is worked out before anything is closed."""
        connection, noticed = monitor.connection, time.time_ns()
        answered, read_until = connection.last_answer_unix_nano, connection.read_until()
        self._connector.heed(loss.details)
        self._close(monitor, loss.code.name, loss.details, planned=False)
        self._lost_unix_nano = noticed
        self._fell_silent = loss.cause is GapCause.HEARTBEAT_LOSS
        alive = max(answered, connection.last_event_unix_nano)
        self._tell(LossDetected(upstream=self.upstream, seconds=max(0, noticed - alive) / NANOSECONDS))
        lived = time.monotonic() - connection.started
        self._lose(
            loss, alive, noticed, read_until, shut=not self._fell_silent and not loss.slow and lived >= STEADY_SECONDS
        )

    def _lose(
        self,
        loss: ConnectionLostError,
        alive_unix_nano: int,
        noticed_unix_nano: int,
        read_until_unix_nano: int,
        *,
        shut: bool = False,
    ) -> None:
        self._last_error, self._error_class = str(loss), loss.error_class.value
        if self._port_watch is None:
            self._port_watch = PortWatch(
                time.monotonic(),
                limit=self._look_limit,
                random=self._random,
                answers=self._connector.port_answers,
                shut=shut,
            )
        for watch in self._watches.values():
            since = watch.seen_until(alive_unix_nano, noticed_unix_nano, read_until_unix_nano)
            watch.lose_with_connection(since, loss.cause, str(loss))

    def _close(self, monitor: Monitor, status_code: str, detail: str, *, planned: bool) -> None:
        connection = monitor.connection
        monitor.look_for_overload(over=True)
        connection.close()
        if self._monitor is monitor:
            self._monitor = None
        self._tell(
            ConnectionEnded(
                upstream=self.upstream,
                connection_id=connection.id,
                started_unix_nano=connection.started_unix_nano,
                ended_unix_nano=time.time_ns(),
                events={stream.value: events for stream, events in connection.events.items()},
                last_event_unix_nano=connection.last_event_unix_nano,
                status_code=status_code,
                detail=detail,
                planned=planned,
            )
        )

    def _drain(self) -> None:
        if self._machine.state is not SubscriptionState.DRAINING:  # it is after a fault in here
            self._move(SubscriptionState.DRAINING, "asked to stop")
        for watch in self._watches.values():
            self._record(watch.gaps.end(time.time_ns()) if self._gone else watch.gaps.prove())
        if self._monitor is not None:
            if self._gone:
                until = self._monitor.connection.read_until()
                self._monitor.record_unread(dict.fromkeys(self._watches, until), time.time_ns())
            self._close(self._monitor, "OK", "asked to stop", planned=True)
        stopped = time.time_ns()
        for watch in self._watches.values():
            watch.lose_with_connection(stopped, GapCause.RESTART, "asked to stop")

    # --- renewal ---

    def _renew(self, old: Monitor) -> Monitor:
        """Make before break: the new connection is watched before the old one is closed; or the old one stays.

        Because the certificates have changed, or the server wants this connection to end, as proxies do at an age.
        """
        is_going_away = old.connection.is_going_away
        try:
            new = self._connector.replace()
        except (TlsFileError, ConnectionLostError) as error:
            if not is_going_away:
                self._tell(CertificatesRefused(upstream=self.upstream, why=str(error)))
            for stream, watch in self._watches.items():
                if not old.connection.reads(stream):
                    watch.open_later()
            return old
        try:
            if not self._stopping.is_set():
                self._stopping.wait(OVERLAP_SECONDS)
            self._read_on(old)
            old.hand_over(new)
            why = "the server said GOAWAY" if is_going_away else "renewed with new certificates"
            self._close(old, "OK", why, planned=True)
        except BaseException:
            new.connection.close()  # `_recover` closes the old one
            raise
        return new

    def _read_on(self, monitor: Monitor) -> None:
        """Waits until what has come by now is read, while it is."""
        came, deadline = time.time_ns(), time.monotonic() + READ_ON_SECONDS
        self.pulse.beat()
        while monitor.connection.is_read and monitor.connection.read_until() < came and time.monotonic() < deadline:
            if self._stopping.wait(READ_ON_PAUSE_SECONDS):
                return
            self.pulse.beat()

    # --- waiting ---

    def _schedule(self, retry_state: RetryCallState) -> None:
        loss = retry_state.outcome.exception() if retry_state.outcome else None
        assert isinstance(loss, ConnectionLostError), "retried on losses only"
        if loss.healthy:
            self._connector.in_a_row = 0
        self._move(SubscriptionState.HOLDING if loss.slow else SubscriptionState.WAITING, str(loss))
        self._tell(
            RetryScheduled(
                upstream=self.upstream,
                attempt=self._connector.in_a_row + 1,
                delay_seconds=retry_state.upcoming_sleep,
                error_class=loss.error_class,
                why=str(loss),
            )
        )

    def _sleep(self, seconds: float) -> None:
        """Waits, but no longer than until the stop, or until what is waited for is there again."""
        self._next_attempt_at = deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stopping.wait(min(left, self._look_pause())):
            self.pulse.beat()
            now = time.monotonic()
            for watch in self._watches.values():
                self._record(watch.look(now)[1])
            if self._is_cured(now):
                break
        self._next_attempt_at = None

    def _look_pause(self) -> float:
        if self._port_watch is None or self._machine.state is not SubscriptionState.WAITING:
            return PULSE_SECONDS
        return min(PULSE_SECONDS, max(0.0, self._port_watch.next_at - time.monotonic()))

    def _is_cured(self, now: float) -> bool:
        if self._machine.state is SubscriptionState.HOLDING:
            return self._connector.cured(now)
        return (
            self._machine.state is SubscriptionState.WAITING
            and self._port_watch is not None
            and self._port_watch.is_back(now)
        )

    def _move(self, after: SubscriptionState, why: str = "") -> None:
        before = self._machine.move(after)
        self._timeline.append(StateChange(self._machine.since_unix_nano, after, why))
        self._tell(StateChanged(upstream=self.upstream, before=before, after=after, why=why))

    # --- for anyone ---

    def pulses(self) -> list[Pulse]:
        """Its own, and its readers'."""
        monitor = self._monitor
        return [self.pulse, *(monitor.connection.pulses() if monitor else [])]

    def watched_until(self) -> dict[Stream, int]:
        """Up to which Unix time in nanoseconds nothing was missed and all is read, of each stream watched now."""
        monitor, now = self._monitor, time.time_ns()
        if monitor:
            connection, checked = monitor.connection, not monitor.unchecked
            now = min(connection.read_until(), connection.seen_until(now, checked=checked))
        return {stream: now for stream, watch in self._watches.items() if watch.gaps.since_unix_nano is None}

    def status(self, *, nodes_seen: int = 0, silent_nodes: tuple[str, ...] = ()) -> SubscriptionStatus:
        """How it stands right now; what is known of the nodes behind it, the feed puts in."""
        streams = {stream: watch.status() for stream, watch in self._watches.items()}
        blind = [status.blind_since_unix_nano for status in streams.values() if status.blind_since_unix_nano]
        next_attempt_at, monitor, attempts = self._next_attempt_at, self._monitor, self._connector
        timeline = tuple(self._timeline.copy())
        return SubscriptionStatus(
            upstream=self.upstream,
            state=self._machine.state,
            since_unix_nano=self._machine.since_unix_nano,
            why=timeline[-1].why if timeline else "",
            timeline=timeline,
            streams=streams,
            attempts=attempts.total,
            attempts_in_a_row=attempts.in_a_row,
            last_error=self._last_error,
            error_class=self._error_class,
            next_attempt_in_seconds=None if next_attempt_at is None else max(0.0, next_attempt_at - time.monotonic()),
            connection_id=monitor.connection.id if monitor else "",
            blind_since_unix_nano=min(blind, default=None),
            last_heartbeat_unix_nano=monitor.connection.last_answer_unix_nano if monitor else 0,
            heartbeat_method=attempts.heartbeat.method,
            keepalive_seconds=attempts.keepalive_seconds,
            certificate_expires_unix_seconds=attempts.certificate_expires_unix_seconds,
            unheard_since_unix_nano=monitor.unheard_since_unix_nano if monitor else None,
            unchecked=monitor.unchecked if monitor else "",
            nodes_seen=nodes_seen,
            silent_nodes=silent_nodes,
        )


class _BackoffWait(wait_base):
    """The backoff in the shape that tenacity asks for."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait after an attempt that has raised a loss."""
        loss = retry_state.outcome.exception() if retry_state.outcome else None
        assert isinstance(loss, ConnectionLostError), "retried on losses only"
        return self._backoff.delay_after(slow=loss.slow, healthy=loss.healthy, quick=loss.quick)
