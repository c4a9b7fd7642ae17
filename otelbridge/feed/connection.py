"""One channel to an upstream, open: its Watch calls with the threads that read them, and its health checks.

A failed unary call never ends a stream that hangs, so a channel whose upstream is dead has to be closed by us.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import grpc
from grpc import _channel
from grpc._cython import cygrpc

from otelbridge.event import GapCause, RawEvent, Stream
from otelbridge.feed.buffer import Buffer, BufferWriter
from otelbridge.feed.channel import WatchCall, is_idle, release, start_health_check, start_nonce_check, start_watch
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS
from otelbridge.feed.model import StreamEnd
from otelbridge.feed.overload import LOOK_BYTES, Overload, OverloadDetector, arrived_at
from otelbridge.feed.read_pause import WAITED_NANOS, WAKE_NANOS, ConnectionPause, ReadPause, inodes_connected_to
from otelbridge.feed.status_codes import NO_ROOM, gap_cause, has_no_room
from otelbridge.feed.stream import StreamWatch
from otelbridge.feed.unread import ELAPSED_CLOCK
from otelbridge.net.address import Address
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

JITTER = 0.1
"""Of the interval, either way: 5,000 bridges started by one rollout must not ask in step."""

NONCE_LIMIT = 2**31 - 1

DEADLY_MISSES = 2


class Method(StrEnum):
    """How the upstream is asked, from the strongest proof to the weakest."""

    NONCE = "nonce"
    """LogService.HealthCheck sends a number back. Deprecated upstream, so it may go."""
    HEALTH = "grpc.health.v1"
    KEEPALIVE = "keepalive"
    """Neither is there, or has room: HTTP/2 pings have to do. The nonce is still asked for: the refusal alone
    proves a live peer, its headers clear the ping strikes of a grpc-go server, and a server that learns it is noticed.
    """


REFUSED_THEN = {Method.NONCE: Method.HEALTH, Method.HEALTH: Method.KEEPALIVE, Method.KEEPALIVE: Method.KEEPALIVE}

REFUSALS = frozenset(
    {
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,  # grpc.health.v1 of a server that does not know this service
    }
)
"""Statuses that a live peer answers with when it will not have the question."""


def is_dead(misses: int, *, silent: bool, heard: bool) -> bool:
    """Whether a connection is dead by its health checks: after two that failed; after a silence one is enough.

    Args:
        misses: health checks in a row that failed, at least one.
        silent: there was no answer at all: one that fails a question may be well at the next.
        heard: events came meanwhile. They are what the connection is for, so it lives, whatever is not answered.
    """
    return not heard and (silent or misses >= DEADLY_MISSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of one health check."""

    alive: bool
    method: Method
    seconds: float
    asked: float
    """When the question went out, on the monotonic clock."""
    unix_nano: int
    """When the answer came."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    why: str = ""
    """What was wrong, where it was not alive."""
    silent: bool = False
    """Nothing was heard of the peer, not even that it fails."""
    no_room: bool = False
    """It was not even asked: the server allows no more calls at a time."""
    probe: bool = False
    """It was asked ahead of time: how late it came tells a stall, but it does not decide whether the peer lives."""


class Heartbeat:
    """Asks one upstream, and remembers from connection to connection how it wants to be asked."""

    def __init__(self, *, interval_seconds: float, timeout_seconds: float, random: Random) -> None:
        self.method = Method.NONCE
        self.timeout_seconds = timeout_seconds
        self._interval_seconds = interval_seconds
        self._random = random

    def pause_seconds(self) -> float:
        """Seconds until the next question."""
        return self._interval_seconds * self._random.uniform(1 - JITTER, 1 + JITTER)

    def ask(
        self,
        channel: grpc.Channel,
        answered: Callable[[Answer], None],
        *,
        probe: bool = False,
        timeout_seconds: float | None = None,
    ) -> grpc.Future:
        """Sends one health check; `answered` is called once, from a thread of gRPC's, also when the channel closes."""
        method, started = self.method, time.monotonic()
        nonce = self._random.randint(1, NONCE_LIMIT)
        if timeout_seconds is None:
            timeout_seconds = self.timeout_seconds + (self._interval_seconds if probe else 0)
        future = (
            start_health_check(channel, timeout_seconds)
            if method is Method.HEALTH
            else start_nonce_check(channel, nonce, timeout_seconds)
        )

        def read(done: grpc.Future) -> None:
            try:
                answered(self._read(done, method, nonce, started, timeout_seconds, probe=probe))
            except BaseException as fault:  # noqa: BLE001 - gRPC would say nothing, and somebody waits for an answer
                why = f"a fault of the bridge: {fault!r}"
                answered(self._answer(method, started, code=grpc.StatusCode.UNKNOWN, why=why, probe=probe))

        future.add_done_callback(read)
        return future

    def _read(
        self, done: grpc.Future, method: Method, nonce: int, asked: float, timeout_seconds: float, *, probe: bool
    ) -> Answer:
        code, why = done.code(), ""
        if code is grpc.StatusCode.OK:
            self.method = Method.HEALTH if method is Method.HEALTH else Method.NONCE
            reply = done.result()
            if reply is None:
                why = "it answered without a message: is it KubeArmor?"
            elif method is not Method.HEALTH and reply.Retval != nonce:
                why = "it answered with another number than it was sent: is it KubeArmor?"
        elif code in REFUSALS:
            self.method = REFUSED_THEN[method]
        elif has_no_room(code, done.details() or ""):
            self.method, why = Method.KEEPALIVE, NO_ROOM
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            why = f"no answer within {timeout_seconds:g} s"
        else:
            why = done.details() or "no details"
        return self._answer(self.method, asked, code=code, why=why, probe=probe)

    @staticmethod
    def _answer(method: Method, asked: float, *, code: grpc.StatusCode, why: str, probe: bool) -> Answer:
        return Answer(
            alive=not why,
            method=method,
            seconds=time.monotonic() - asked,
            asked=asked,
            unix_nano=time.time_ns(),
            code=code,
            why=why,
            no_room=why is NO_ROOM,
            silent=code is grpc.StatusCode.DEADLINE_EXCEEDED or gap_cause(code, why) is GapCause.HEARTBEAT_LOSS,
            probe=probe,
        )


TESTED: tuple[str, ...] = ("1.83.",)
"""Releases of grpcio, as far as the minor version."""


def messages(call: Any, *, version: str = grpc.__version__) -> Iterator[bytes]:
    """Blocks for each next message.

    Args:
        call: a running unary-stream call without a deserializer, made in the single-threaded mode.
        version: grpcio's.

    Raises:
        grpc.RpcError: the stream ended with anything but OK.
    """
    known = version.startswith(TESTED) and type(call) is getattr(_channel, "_SingleThreadedRendezvous", None)
    return _lean(call) if known else iter(call)


def _lean(call: Any) -> Iterator[bytes]:
    state, inner = call._state, call._call  # noqa: SLF001  # what this file is about
    due, operate, next_event = state.due, inner.operate, inner.next_event
    receive, receive_message = cygrpc.ReceiveMessageOperation, cygrpc.OperationType.receive_message
    while state.code is None:
        due.add(receive_message)
        if not operate((receive(0),), None):
            due.remove(receive_message)
            break
        event = next_event()
        operations = event.batch_operations
        if len(operations) == 1 and operations[0].type() == receive_message:
            message = operations[0].message()
            if message is not None:
                due.remove(receive_message)
                yield message
                del event, message, operations  # while the next one is awaited nobody keeps the last one in memory
                continue
        with state.condition:
            for callback in _channel._handle_event(event, state, None):  # noqa: SLF001
                callback()
        try:
            message = call._next_response()  # noqa: SLF001
        except StopIteration:
            return
        yield message
    yield from call  # which raises what ended it, or stops


class StreamReader:
    """Owns one Watch call and the thread that reads it."""

    def __init__(
        self,
        call: WatchCall,
        writer: BufferWriter,
        ended: Callable[[StreamReader, StreamEnd], None],
        tell: Tell,
        pause: ConnectionPause,
        *,
        read_pause_seconds: float = 0.0,
        look: Callable[[], object] = int,
        read_until: Callable[[], int] = time.time_ns,
    ) -> None:
        self.writer = writer
        self.asked_to_end = False
        """Set before its channel is closed: its end is no news then."""
        self._call = call
        self._ended = ended
        self._started = time.monotonic()
        self.is_over = False
        self._in_hand: RawEvent | None = None
        self._connection_pause = pause
        self._read_pause_seconds = read_pause_seconds
        self._look = look
        """Called each time that `LOOK_BYTES` were read."""
        self._read_until = read_until
        self._pauses_end = threading.Lock()
        self._pauses_end.acquire()
        name = f"read {writer.stream} {writer.upstream}"
        self.pulse = Pulse(name, may_block=True)
        # A daemon: a read that does not end, against everything that was measured, must not keep the process alive.
        self._thread = SupervisedThread(name, self._turn, tell=tell, give_back=self._give_up, pulse=self.pulse)

    def start(self) -> None:
        """Starts reading."""
        self._thread.start()

    def ask_to_end(self) -> None:
        """Its channel is about to be closed."""
        if not self.asked_to_end:
            self.asked_to_end = True
            self._pauses_end.release()

    def _pause(self, pause: ReadPause, now_unix_nano: int) -> bool:
        """Hands over and pauses; False where it should read on."""
        writer, connection = self.writer, self._connection_pause
        writer.behind_since_unix_nano = 0
        seconds = pause.seconds(now_unix_nano, writer.events, flooded=writer.flooded)
        if not seconds or not connection.begin(writer.stream, pause.rate, seconds):
            if left := connection.left_seconds(pause.rate):  # nobody else hands over what was just read
                writer.hand_over(left)
            return False
        try:
            writer.hand_over(seconds)  # the last thing: the encoder needs the interpreter that the wait lets go of
            if self._pauses_end.acquire(timeout=seconds):  # 10 us cheaper than an Event
                self._pauses_end.release()
        finally:
            connection.end()
        return True

    def join(self, timeout_seconds: float) -> bool:
        """Waits for the thread; False when it is still running after the deadline."""
        return self._thread.join(timeout_seconds)

    def _turn(self) -> bool:
        if self.is_over:
            return False
        try:
            code, details = self._read_to_the_end()
        except BaseException as error:
            # grpcio has raised ValueError and UsageError on calls of a channel that was closed.
            if not self.asked_to_end:
                raise
            code, details = grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}"
        self._end(code, details)
        return False

    def _give_up(self) -> None:
        """The call is read on after a fault, but not for ever: its owner has to hear of a stream that is not read."""
        if self.pulse.fails:
            self._end(grpc.StatusCode.UNKNOWN, f"the reader failed: {self.pulse.fault}")

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        self.is_over = True
        end = StreamEnd(
            stream=self.writer.stream,
            code=code,
            details=details,
            events=self.writer.events,
            lived_seconds=time.monotonic() - self._started,
            ended_unix_nano=time.time_ns(),
            read_until_unix_nano=self._read_until(),
        )
        if end.oversized:
            self.writer.lose_oversized()
        self._ended(self, end)

    def _read_to_the_end(self) -> tuple[grpc.StatusCode, str]:
        try:
            self._read()
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
        else:
            code, details = grpc.StatusCode.OK, ""
        release(self._call)
        return code, details

    def _read(self) -> None:
        # The hot loop: about 1 us per event beside what grpcio takes.
        stream, upstream = self.writer.stream, self.writer.upstream
        writer, offer, time_ns = self.writer, self.writer.offer, time.time_ns
        look_at_bytes = writer.bytes
        pause, read_on_at = ReadPause(self._read_pause_seconds), time_ns()
        if self._in_hand is not None:
            offer(self._in_hand)
            self._in_hand = None
        event = None
        try:
            for body in messages(self._call):
                now = time_ns()
                event = RawEvent(stream, body, now, upstream)
                offer(event)
                event = None
                del body  # it would be kept until the next one has come
                if writer.bytes >= look_at_bytes:
                    look_at_bytes = writer.bytes + LOOK_BYTES
                    self._look()
                waited, read_on_at = now - read_on_at, now
                if waited > WAITED_NANOS and self._pause(pause, now):
                    read_on_at = time_ns() + WAKE_NANOS
        finally:
            self._in_hand = event  # which `offer` did not take


GOING_SECONDS = 0.5
"""Calls that have not ended so long after a GOAWAY may live on until a proxy's time-out."""

JOIN_SECONDS = 5.0
"""A cancelled read ends within milliseconds (measured); after this long it is not waited for any more."""


class Connection:
    """An open channel with its Watch calls. Used by one thread; readers and gRPC put into its mailbox."""

    def __init__(
        self,
        channel: grpc.Channel,
        upstream: str,
        watches: Mapping[Stream, StreamWatch],
        buffer: Buffer,
        heartbeat: Heartbeat,
        *,
        connection_id: str,
        peer: Address,
        read_pause_seconds: float,
        tls: bool,
        tell: Tell,
    ) -> None:
        self.id = connection_id
        self.started = time.monotonic()
        self.started_unix_nano = time.time_ns()
        self.heartbeat = heartbeat
        self.last_answer_unix_nano = 0
        self.going_away_since: float | None = None
        """When it was noticed that the server has said GOAWAY: its health checks prove nothing of its streams then."""
        self.watches = watches
        self._channel = channel
        # A connection that this one replaces is read beside it for a second.
        self._pause = ConnectionPause(peer, others=inodes_connected_to(peer))
        self._read_pause_seconds = read_pause_seconds
        self._upstream = upstream
        self._buffer = buffer
        self._tell = tell
        self._mailbox: queue.SimpleQueue[tuple[StreamReader, StreamEnd] | Answer | None] = queue.SimpleQueue()
        self._readers: dict[Stream, StreamReader] = {}
        self._probe: grpc.Future | None = None
        self._past_events: dict[Stream, int] = {}
        self._past_bytes = 0
        self._behind: dict[Stream, int] = {}
        """Streams that ended while their reader was behind, and since when it was."""
        self._overload = OverloadDetector(buffer.budget.window_bytes, tls=tls)
        self._overloads: deque[Overload] = deque()
        self._one_looks = threading.Lock()  # one thread looks at a time; others do without

    def open_stream(self, stream: Stream) -> None:
        """Starts a Watch call and its reader."""
        self.look_for_goaway()
        watch = self.watches[stream]
        call = start_watch(self._channel, stream)
        writer = self._buffer.open_writer(stream, self._upstream)
        reader = StreamReader(
            call,
            writer,
            lambda reader, end: self._mailbox.put((reader, end)),
            self._tell,
            self._pause,
            read_pause_seconds=self._read_pause_seconds,
            look=self.look_for_overload,
            read_until=self.read_until,
        )
        self._behind.pop(stream, None)
        self._readers[stream] = reader
        watch.attach(writer)
        watch.open()
        reader.start()

    @property
    def is_connected(self) -> bool:
        """Whether somebody has taken a connection, as far as it can be told: whoever is silent is there then."""
        return bool(self._pause.sockets())

    def look_for_goaway(self) -> None:
        """Notices that the server has said GOAWAY; it can be seen until the next call goes another way."""
        if self.going_away_since is None and self._readers and is_idle(self._channel):
            self.going_away_since = time.monotonic()

    @property
    def is_going_away(self) -> bool:
        """Whether the server wants this connection to end, and has not ended it itself."""
        return self.going_away_since is not None and time.monotonic() - self.going_away_since >= GOING_SECONDS

    def ask(self, *, probe: bool = False, timeout_seconds: float | None = None) -> None:
        """Sends a health check, or a probe, which is one ahead of time; its answer comes as a message."""
        self.look_for_goaway()
        call = self.heartbeat.ask(self._channel, self._mailbox.put, probe=probe, timeout_seconds=timeout_seconds)
        if probe:
            self._probe = call

    def take_probe_back(self) -> None:
        """The call of the last probe is ended, for another one; its answer comes all the same."""
        if self._probe is not None:
            self._probe.cancel()

    def nudge(self) -> None:
        """Makes `next_message` return. From any thread."""
        self._mailbox.put(None)

    def next_message(self, timeout_seconds: float) -> StreamEnd | Answer | None:
        """An end that we did not ask for, or a health check's outcome; None after the timeout or a nudge."""
        try:
            message = self._mailbox.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return None
        if isinstance(message, Answer):
            if message.alive and self.going_away_since is None:
                self.last_answer_unix_nano = message.unix_nano
            return message
        if message is None or message[0].asked_to_end:
            return None
        reader, end = message
        self._release(end.stream, reader)
        return end

    def pulses(self) -> list[Pulse]:
        """The signs of life of its readers. From any thread."""
        return [reader.pulse for reader in list(self._readers.values())]

    def reads(self, stream: Stream) -> bool:
        """Whether a Watch call of this stream is open, as far as messages have been read."""
        return stream in self._readers

    @property
    def is_read(self) -> bool:
        """Whether a reader still reads."""
        return any(not reader.is_over for reader in self._readers.values())

    @property
    def open_streams(self) -> int:
        """Watch calls that have not ended, as far as messages have been read."""
        return len(self._readers)

    @property
    def events(self) -> Mapping[Stream, int]:
        """Events received on this connection, per stream."""
        return {
            stream: self._past_events.get(stream, 0) + (reader.writer.events if reader else 0)
            for stream in self.watches
            for reader in (self._readers.get(stream),)
        }

    @property
    def last_event_unix_nano(self) -> int:
        """When the last event was received on any stream of the subscription; 0 before the first."""
        return max((watch.last_event_unix_nano for watch in self.watches.values()), default=0)

    def look_for_overload(self) -> None:
        """Looks whether the upstream can send. From any thread."""
        if not self._one_looks.acquire(blocking=False):
            return
        try:
            read_bytes = self._past_bytes + sum(reader.writer.bytes for reader in list(self._readers.values()))
            events, now = self.events, time.clock_gettime_ns(ELAPSED_CLOCK)
            if not (sockets := self._pause.sockets()):  # it is closed, or they cannot be found on this system
                return
            arrived = arrived_at(sockets)
            self._overloads.extend(self._overload.look(now, time.process_time_ns(), arrived, read_bytes, events))
        finally:
            self._one_looks.release()

    def seen_until(self, now: int, *, checked: bool) -> int:
        """Up to when its upstream cannot have stood still: the last event or answer, less what was under way.

        Args:
            now: the Unix time in nanoseconds, which counts where nothing was heard, or health checks say nothing.
            checked: whether they do.
        """
        alive = max(self.last_answer_unix_nano, self.last_event_unix_nano)
        return min(now, alive - IN_FLIGHT_NANOS) if alive and checked else now

    def read_until(self) -> int:
        """The Unix time in nanoseconds up to which all that had come has been read; now, where nothing waits unread.

        gRPC drops what waits when the stream ends, whoever ends it, but for an end with a status. From any thread.
        """
        self.look_for_overload()
        now, until = time.clock_gettime_ns(ELAPSED_CLOCK), self._overload.unread.read_until
        behind = [reader.writer.behind_since_unix_nano for reader in list(self._readers.values())]
        behind += self._behind.values()
        return min([time.time_ns() - (now - until if until else 0), *filter(None, behind)])

    def overloads(self, *, over: bool = False) -> Iterator[Overload]:
        """Those found since the last call, in Unix time; where the connection is `over`, also one that may go on."""
        if over:
            with self._one_looks:
                self._overloads.extend(self._overload.end())
        to_unix = time.time_ns() - time.clock_gettime_ns(ELAPSED_CLOCK)
        while self._overloads:
            found = self._overloads.popleft()
            yield found._replace(started=found.started + to_unix, ended=found.ended + to_unix)

    def close(self) -> None:
        """Closes the channel, which ends the calls at once, and waits for the readers.

        What they read is in the buffer then. The calls are not cancelled before: a call that was cancelled does not
        take its own status any more, and what gRPC holds for it is never freed.
        """
        readers = dict(self._readers)
        for reader in readers.values():
            reader.ask_to_end()
        self._channel.close()
        self._pause.close()
        for stream, reader in readers.items():
            reader.join(JOIN_SECONDS)
            self._release(stream, reader)

    def _release(self, stream: Stream, reader: StreamReader) -> None:
        if self._readers.get(stream) is reader:
            del self._readers[stream]
        reader.join(JOIN_SECONDS)
        self._past_events[stream] = self._past_events.get(stream, 0) + reader.writer.events
        self._past_bytes += reader.writer.bytes
        self._overload.unread.dropped()
        if since := reader.writer.behind_since_unix_nano:
            self._behind[stream] = since
        self._buffer.close_writer(reader.writer)
        self.watches[stream].detach(reader.writer)
