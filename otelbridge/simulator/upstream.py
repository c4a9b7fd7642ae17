"""A simulated KubeArmor: serves its LogService on a real socket, publishes events to subscribers, and plays faults.

Each subscriber has a bounded queue; a full one drops silently, as KubeArmor's do, but counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Self

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from otelbridge.event import LOG_SERVICE, STREAMS, UPSTREAM_STREAMS, Stream
from otelbridge.net.address import Address
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.listening import ServerTls, listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The fixed traits of one of KubeArmor's two servers."""

    queue_limits: Mapping[Stream, int]
    """Events that wait for one client before more are dropped without a word."""
    ping_seconds: float
    """Silence after which the server pings the client."""
    ping_timeout_seconds: float
    """A server's ping that stays unanswered for so long ends the connection."""


RELAY = Profile(
    queue_limits={Stream.ALERTS: 1_000, Stream.LOGS: 10_000, Stream.MESSAGES: 1_000},
    ping_seconds=5,
    ping_timeout_seconds=20,
)
"""The relay that fans a cluster's nodes in."""

NODE = Profile(
    queue_limits={Stream.ALERTS: 1_000, Stream.LOGS: 1_000, Stream.MESSAGES: 1_000},
    ping_seconds=1,
    ping_timeout_seconds=5,
)
"""The KubeArmor daemon of one node."""


class HealthAnswer(StrEnum):
    """What `HealthCheck` does with a nonce."""

    ECHO = "echo"
    """Sends it back, as KubeArmor does."""
    WRONG_NONCE = "wrong_nonce"
    """Sends another number back."""
    HANG = "hang"
    """Takes the call and never answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The status that ends a stream."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What can be changed while the simulator runs; it holds for the calls that come in from then on."""

    health: HealthAnswer | Ending = HealthAnswer.ECHO
    """An `Ending` fails every `HealthCheck` with that status (UNIMPLEMENTED: a KubeArmor without it)."""
    openings: Mapping[Stream, Ending] = field(default_factory=dict)
    """Streams that are ended before their headers are sent (UNIMPLEMENTED: a KubeArmor without that stream)."""
    standard_health: bool = False
    """Whether `grpc.health.v1.Health/Check` is served. The relay never did; nodes did until mid 2026."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutCounts:
    """What became of a stream's events. Per subscriber: accepted = sent + waiting + discarded."""

    published: int
    unheard: int
    """Published while nobody was subscribed."""
    accepted: int
    """Put into a subscriber's queue; with two subscribers an event is accepted twice."""
    dropped: int
    """Not accepted, because that subscriber's queue was full."""
    sent: int
    """Written to the connection. What had not left this machine when the connection broke is lost all the same."""
    waiting: int
    discarded: int
    """Accepted, and still unsent when the subscriber left."""


class Subscriber:
    """One client of one stream. Its queue is written by the fan-out and read by the thread that serves the call."""

    __slots__ = ("accepted", "queue", "sent")

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[bytes | Ending | None] = queue.SimpleQueue()
        self.accepted = 0
        self.sent = 0
        """Counted by the serving thread alone."""


class Fanout:
    """The subscribers of one stream."""

    def __init__(self, stream: Stream, queue_limit: int) -> None:
        self._stream = stream
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._subscribers: list[Subscriber] = []
        self._published = self._unheard = self._dropped = 0
        self._accepted_by_gone = self._sent_by_gone = 0

    def publish(self, body: bytes) -> None:
        """Gives the event to each subscriber whose queue has room. Never blocks."""
        with self._changed:
            self._published += 1
            if not self._subscribers:
                self._unheard += 1
            for subscriber in self._subscribers:
                if subscriber.accepted - subscriber.sent >= self._queue_limit:
                    self._dropped += 1
                else:
                    subscriber.accepted += 1
                    subscriber.queue.put(body)

    def join(self, subscriber: Subscriber) -> None:
        """Adds a subscriber."""
        with self._changed:
            self._subscribers.append(subscriber)
            self._changed.notify_all()

    def leave(self, subscriber: Subscriber) -> None:
        """Ends the subscriber's queue; what waits in it is discarded. A second call changes nothing."""
        with self._changed:
            if subscriber not in self._subscribers:
                return
            self._subscribers.remove(subscriber)
            self._accepted_by_gone += subscriber.accepted
            self._sent_by_gone += subscriber.sent
            self._changed.notify_all()
        subscriber.queue.put(None)

    def end(self, ending: Ending) -> int:
        """Ends each subscriber's stream behind what waits for it; returns how many there were."""
        with self._changed:
            for subscriber in self._subscribers:
                subscriber.queue.put(ending)
            return len(self._subscribers)

    def close(self) -> None:
        """Removes all subscribers."""
        with self._changed:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            self.leave(subscriber)

    def tell_sent(self) -> None:
        """Wakes `wait_until_sent`: a subscriber's queue is empty."""
        with self._changed:
            self._changed.notify_all()

    def room(self) -> int:
        """How many events the fullest queue would still take; the limit when nobody is subscribed."""
        with self._changed:
            return self._queue_limit - max((each.accepted - each.sent for each in self._subscribers), default=0)

    def subscribers(self) -> int:
        """How many are subscribed now."""
        with self._changed:
            return len(self._subscribers)

    def wait_for_subscribers(self, number: int, deadline: float) -> bool:
        """Whether at least (for 0: at most) `number` were subscribed before `time.monotonic()` reached the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._subscribers) >= number if number else not self._subscribers,
                timeout=max(0.0, deadline - time.monotonic()),
            )

    def wait_until_sent(self, deadline: float) -> bool:
        """Whether nothing waited in any queue before `time.monotonic()` reached the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(each.sent == each.accepted for each in self._subscribers),
                timeout=max(0.0, deadline - time.monotonic()),
            )

    def counts(self) -> FanoutCounts:
        """What became of this stream's events up to now."""
        with self._changed:
            accepted = sum(each.accepted for each in self._subscribers)
            sent = sum(each.sent for each in self._subscribers)
            return FanoutCounts(
                published=self._published,
                unheard=self._unheard,
                accepted=self._accepted_by_gone + accepted,
                dropped=self._dropped,
                sent=self._sent_by_gone + sent,
                waiting=accepted - sent,
                discarded=self._accepted_by_gone - self._sent_by_gone,
            )


FILTERS = {Stream.ALERTS: ("all", "policy"), Stream.LOGS: ("all", "system")}
"""What a stream's request may ask for. Messages ignore the filter; any other value ends the stream at once with OK."""
CALLS_REMEMBERED = 10_000


class Call(NamedTuple):
    """A call that came in."""

    method: str
    """`WatchAlerts`, `HealthCheck` ...; `Check` is the standard health service's."""
    peer: str
    """The client's address; it tells connections apart."""
    user_agent: str
    at_seconds: float
    """`time.monotonic()`."""


class LogService:
    """The methods of LogService; outlives the restarts of the gRPC server that serves it."""

    def __init__(self, fanouts: Mapping[Stream, Fanout], manners: Callable[[], Manners]) -> None:
        self._fanouts = fanouts
        self._manners = manners
        self._thawed = threading.Event()
        self._thawed.set()
        self.calls: deque[Call] = deque(maxlen=CALLS_REMEMBERED)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The handlers for a `grpc.Server`."""
        methods = {
            STREAMS[stream].method: grpc.unary_stream_rpc_method_handler(
                self._watch(stream), request_deserializer=kubearmor_pb2.RequestMessage.FromString
            )
            for stream in UPSTREAM_STREAMS
        }
        methods["HealthCheck"] = grpc.unary_unary_rpc_method_handler(
            self._health_check,
            request_deserializer=kubearmor_pb2.NonceMessage.FromString,
            response_serializer=kubearmor_pb2.ReplyMessage.SerializeToString,
        )
        standard = grpc.unary_unary_rpc_method_handler(
            self._standard_health_check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        return (
            grpc.method_handlers_generic_handler(LOG_SERVICE, methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": standard}),
        )

    def freeze(self) -> None:
        """Stops answering and sending; gRPC still acknowledges HTTP/2 pings."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Ends a `freeze`."""
        self._thawed.set()

    def _watch(self, stream: Stream) -> Callable[[kubearmor_pb2.RequestMessage, grpc.ServicerContext], Iterator[bytes]]:
        fanout = self._fanouts[stream]

        def watch(request: kubearmor_pb2.RequestMessage, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._remember(STREAMS[stream].method, context)
            if opening := self._manners().openings.get(stream):
                _end(context, opening, STREAMS[stream].method)
                return
            if request.Filter not in FILTERS.get(stream, (request.Filter,)):
                return
            subscriber = Subscriber()
            fanout.join(subscriber)
            if not context.add_callback(lambda: fanout.leave(subscriber)):
                fanout.leave(subscriber)
                return
            yield from self._events(fanout, subscriber, context)

        return watch

    def _events(self, fanout: Fanout, subscriber: Subscriber, context: grpc.ServicerContext) -> Iterator[bytes]:
        take, thawed = subscriber.queue.get, self._thawed
        while (item := take()) is not None:
            thawed.wait()
            if isinstance(item, Ending):
                if not subscriber.sent:
                    context.send_initial_metadata(())
                _end(context, item, "")
                return
            yield item
            # The library asks for the next event when this one has been written, so it counts only now.
            subscriber.sent += 1
            if subscriber.sent == subscriber.accepted:
                fanout.tell_sent()

    def _health_check(
        self, request: kubearmor_pb2.NonceMessage, context: grpc.ServicerContext
    ) -> kubearmor_pb2.ReplyMessage:
        self._remember("HealthCheck", context)
        manner = self._manners().health
        if isinstance(manner, Ending):
            context.abort(manner.code, manner.details or _words(manner.code, "HealthCheck"))
        self._hang_while_frozen(context, hang=manner is HealthAnswer.HANG)
        nonce = request.nonce
        if manner is HealthAnswer.WRONG_NONCE:
            nonce = nonce - 1 if nonce > 0 else nonce + 1
        return kubearmor_pb2.ReplyMessage(Retval=nonce)

    def _standard_health_check(
        self, _request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        self._remember("Check", context)
        if not self._manners().standard_health:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service grpc.health.v1.Health")
        self._hang_while_frozen(context, hang=False)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def _hang_while_frozen(self, context: grpc.ServicerContext, *, hang: bool) -> None:
        if hang:
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait()
        self._thawed.wait()

    def _remember(self, method: str, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        user_agent = str(metadata.get("user-agent", ""))
        self.calls.append(Call(method, context.peer(), user_agent, time.monotonic()))


def _end(context: grpc.ServicerContext, ending: Ending, method: str) -> None:
    if ending.code is not grpc.StatusCode.OK:
        context.abort(ending.code, ending.details or _words(ending.code, method))


def _words(code: grpc.StatusCode, method: str) -> str:
    """What grpc-go's server says of a method that it does not have."""
    missing = code is grpc.StatusCode.UNIMPLEMENTED and method
    return f"unknown method {method} for service {LOG_SERVICE}" if missing else ""


MAX_SERVING_THREADS = 1_024
"""One is taken by each open stream; they are started when needed."""


class Relay:
    """A relay, or a node, of KubeArmor.

    All methods may be called from any thread; `start`, `stop` and `kill` by one at a time. Port 0 takes a free one at
    the first start; later starts take the same. `manners` may be replaced at any time.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        profile: Profile = RELAY,
        manners: Manners | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        self.manners = manners or Manners()
        self._host = host
        self._port = port
        self._profile = profile
        self._tls = tls
        self._fanouts = {stream: Fanout(stream, profile.queue_limits[stream]) for stream in UPSTREAM_STREAMS}
        self._service = LogService(self._fanouts, lambda: self.manners)
        self._had_port = False
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> Self:
        """Listens. After `stop` or `kill` it comes back on the same port.

        Raises:
            OSError: The port is taken, or a certificate file cannot be read.
        """
        if self._server is not None:
            raise RuntimeError("this relay is running already")
        self._service.thaw()
        self._threads = ThreadPoolExecutor(MAX_SERVING_THREADS, thread_name_prefix="simulator-relay")
        make = partial(grpc.server, self._threads, handlers=self._service.handlers(), options=self._options())
        try:
            self._server, self._port = listen(make, self.endpoint, self._tls, again=self._had_port)
        except OSError:
            self._threads.shutdown()
            raise
        self._had_port = True
        return self

    def stop(self, grace_seconds: float = 0) -> None:
        """Ends politely: sends GOAWAY, lets the open streams live on for the grace, then cancels them."""
        server, self._server = self._server, None
        if server is None:
            return
        stopped = server.stop(grace_seconds)
        self._service.thaw()
        stopped.wait()
        if self._threads is not None:
            self._threads.shutdown()
        for fanout in self._fanouts.values():
            fanout.close()

    def kill(self) -> None:
        """Ends abruptly: every connection is closed at once, what waits in the queues is discarded."""
        self.stop(0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """`host:port`, known from the first start on."""
        return str(Address(host=self._host, port=self._port))

    def publish(self, stream: Stream, event: bytes | Message) -> None:
        """Sends an event to all who are subscribed at this instant; bytes need not be a message, or parse at all."""
        body = event if isinstance(event, bytes) else event.SerializeToString()
        self._fanouts[stream].publish(body)

    def room(self, stream: Stream) -> int:
        """How many events of a stream can be published now before one is dropped."""
        return self._fanouts[stream].room()

    def end_streams(
        self,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        details: str = "",
        streams: Iterable[Stream] = UPSTREAM_STREAMS,
    ) -> int:
        """Ends the open streams with a status, after their headers and what waits for them; returns how many."""
        return sum(self._fanouts[stream].end(Ending(code=code, details=details)) for stream in streams)

    def freeze(self) -> None:
        """Hangs as an application: connections stay, HTTP/2 pings are answered, calls and streams are not."""
        self._service.freeze()

    def thaw(self) -> None:
        """Ends a `freeze`."""
        self._service.thaw()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The last calls that came in, oldest first."""
        return tuple(self._service.calls)

    def subscribers(self, stream: Stream) -> int:
        """How many clients are subscribed to a stream now."""
        return self._fanouts[stream].subscribers()

    def wait_for_subscribers(
        self, number: int = 1, *, streams: Iterable[Stream] = UPSTREAM_STREAMS, within_seconds: float = 10
    ) -> None:
        """Waits until at least `number` clients (for 0: no client any more) are subscribed to each of the streams.

        Raises:
            TimeoutError: Not so within that time.
        """
        deadline = time.monotonic() + within_seconds
        for stream in streams:
            if not self._fanouts[stream].wait_for_subscribers(number, deadline):
                now = self.subscribers(stream)
                raise TimeoutError(f"{stream} has {now} subscribers after {within_seconds} s, not {number}")

    def wait_until_sent(self, *, within_seconds: float = 10) -> None:
        """Waits until no event waits for any subscriber.

        Raises:
            TimeoutError: Not so within that time.
        """
        deadline = time.monotonic() + within_seconds
        for stream, fanout in self._fanouts.items():
            if not fanout.wait_until_sent(deadline):
                raise TimeoutError(f"{fanout.counts().waiting} {stream} still wait after {within_seconds} s")

    def counts(self) -> Mapping[Stream, FanoutCounts]:
        """What became of everything published, per stream."""
        return {stream: fanout.counts() for stream, fanout in self._fanouts.items()}

    @property
    def published(self) -> int:
        """Events published on all streams."""
        return sum(counts.published for counts in self.counts().values())

    @property
    def dropped(self) -> int:
        """Events dropped because a subscriber's queue was full, on all streams and for all subscribers."""
        return sum(counts.dropped for counts in self.counts().values())

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not take half of the connections
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", round(self._profile.ping_seconds * 1_000)),
            ("grpc.keepalive_timeout_ms", round(self._profile.ping_timeout_seconds * 1_000)),
            ("grpc.http2.ping_timeout_ms", round(self._profile.ping_timeout_seconds * 1_000)),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
