"""Serves KubeArmor's LogService on a real socket: publishes events to subscribers, and plays faults."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import grpc
from grpc_health.v1 import health_pb2

from otelbridge.event import LOG_SERVICE, STREAMS, UPSTREAM_STREAMS, Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.fanout import Fanout, FanoutCounts, Subscriber
from otelbridge.simulator.listening import why_not
from otelbridge.simulator.manners import RELAY, Ending, HealthAnswer, Manners, Profile, ServerTls

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
    """The answering side of the simulator; it lives through the restarts of the server that it is plugged into."""

    def __init__(self, fanouts: Mapping[Stream, Fanout], manners: Callable[[], Manners]) -> None:
        self._fanouts = fanouts
        self._manners = manners
        self._thawed = threading.Event()
        self._thawed.set()
        self.calls: deque[Call] = deque(maxlen=CALLS_REMEMBERED)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What a `grpc.Server` is to serve."""
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
        """Answers nothing and sends nothing from now on. The library below still acknowledges HTTP/2 pings."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Goes on where `freeze` stopped."""
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
            subscriber = Subscriber(context.peer())
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
REBIND_SECONDS = 10.0
"""How long a later `start` tries to get the port back: somebody's outgoing connection may have borrowed it."""
REBIND_PAUSE_SECONDS = 0.05


class Encodable(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """The encoded message."""
        ...


class Relay:
    """A relay, or a node, of KubeArmor.

    All methods may be called from any thread; `start`, `stop` and `kill` by one at a time.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one at the first start, and later starts take the same.
        profile: `RELAY` or `NODE`: queue lengths and server pings.
        manners: What it answers; may be replaced at any time by setting the attribute.
        tls: Certificate files for TLS and mutual TLS.
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
        try:
            self._server, self._port = self._bind(self._threads)
        except OSError:
            self._threads.shutdown()
            raise
        self._had_port = True
        self._server.start()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """`host:port`, known from the first start on."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def publish(self, stream: Stream, event: bytes | Encodable) -> None:
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

    def _bind(self, threads: ThreadPoolExecutor) -> tuple[grpc.Server, int]:
        deadline = time.monotonic() + (REBIND_SECONDS if self._had_port else 0)
        while True:
            server = grpc.server(threads, handlers=self._service.handlers(), options=self._options())
            try:
                return server, self._listen(server)
            except OSError:
                server.stop(None)
                raise
            except RuntimeError as error:
                server.stop(None)
                if time.monotonic() >= deadline:
                    cause = why_not(self.endpoint) or ("certificate and key do not fit" if self._tls else str(error))
                    raise OSError(f"cannot listen on {self.endpoint}: {cause}") from error
            time.sleep(REBIND_PAUSE_SECONDS)

    def _listen(self, server: grpc.Server) -> int:
        if self._tls is None:
            return int(server.add_insecure_port(self.endpoint))
        client_ca = self._tls.client_ca_file
        credentials = grpc.ssl_server_credentials(
            [(self._tls.key_file.read_bytes(), self._tls.cert_file.read_bytes())],
            root_certificates=client_ca.read_bytes() if client_ca else None,
            require_client_auth=client_ca is not None,
        )
        return int(server.add_secure_port(self.endpoint, credentials))

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
