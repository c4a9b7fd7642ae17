"""Calls of `feeder.LogService` in, answers out, as a `Manners` says; each event leaves as the very bytes published."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.fanout import Fanout, Subscriber
from otelbridge.simulator.manners import Ending, Health, Manners

SERVICE = "feeder.LogService"
METHODS = {Stream.ALERTS: "WatchAlerts", Stream.LOGS: "WatchLogs", Stream.MESSAGES: "WatchMessages"}
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
            METHODS[stream]: grpc.unary_stream_rpc_method_handler(
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
            grpc.method_handlers_generic_handler(SERVICE, methods),
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
            self._remember(METHODS[stream], context)
            if opening := self._manners().openings.get(stream):
                _end(context, opening)
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
                _end(context, item)
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
            context.abort(manner.code, manner.details)
        self._hang_while_frozen(context, hang=manner is Health.HANG)
        nonce = request.nonce
        if manner is Health.WRONG_NONCE:
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


def _end(context: grpc.ServicerContext, ending: Ending) -> None:
    if ending.code is not grpc.StatusCode.OK:
        context.abort(ending.code, ending.details)
