"""Spans of connections, written when they end, with their true times.

A stream lives for days, and a span that is open cannot be seen. So one short span is written per attempt, with its
steps as children and a link to the attempt before; and when a stream or a connection ends, its whole life is written.
All spans of one connection are one trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, Tracer

from otelbridge.telemetry import events as e
from otelbridge.telemetry import names as n
from otelbridge.telemetry.log import timestamp

EVENTS_PER_CONNECTION = 64
"""Changes of state and missed heartbeats kept for a connection's span; the latest stay."""

Attributes = Mapping[str, str | int]


@dataclass(slots=True)
class _Connection:
    """What is remembered of a connection until its spans can be written."""

    upstream: str
    context: SpanContext | None = None
    """Of its attempt's span; None while the attempt goes on (its streams may open before)."""
    opened: dict[str, int] = field(default_factory=dict)
    """When each stream opened, Unix nanoseconds."""
    events: deque[tuple[int, str, Attributes]] = field(default_factory=lambda: deque(maxlen=EVENTS_PER_CONNECTION))


class Spans:
    """Writes the spans. Used by one thread."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._attempts: dict[str, SpanContext] = {}
        """By upstream: the latest attempt, which the next one links to."""
        self._connections: dict[str, _Connection] = {}
        """By connection, for new certificates open a second one of an upstream before the first is closed."""
        self._write: Mapping[type, Callable[[Any, int], None]] = {
            e.ConnectionAttempted: self._attempted,
            e.StateChanged: self._changed,
            e.HeartbeatMissed: self._missed,
            e.StreamOpened: self._opened,
            e.StreamLost: self._lost,
            e.ConnectionEnded: self._ended,
        }

    def apply(self, event: e.Event, unix_nano: int) -> None:
        """Writes what can be written now, remembers the rest."""
        write = self._write.get(type(event))
        if write is not None:
            write(event, unix_nano)

    def _attempted(self, event: e.ConnectionAttempted, _now: int) -> None:
        before = self._attempts.get(event.upstream)
        server = n.server(event.upstream)
        failed = event.status_code != "OK"
        span = self._tracer.start_span(
            n.CONNECT,
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=SpanKind.INTERNAL,
            attributes={
                **server,
                n.ATTEMPT: event.attempt,
                n.CONNECTION_ID: event.connection_id,
                n.STATUS_CODE: event.status_code,
                **({n.ERROR_TYPE: event.status_code, n.ERROR_CLASS: event.error_class} if failed else {}),
            },
            links=[Link(before)] if before else [],
            start_time=event.started_unix_nano,
        )
        self._attempts[event.upstream] = span.get_span_context()
        connection = self._connections.pop(event.connection_id, None) or _Connection(event.upstream)
        if not failed:
            connection.context = span.get_span_context()
            self._connections[event.connection_id] = connection
        parent = trace.set_span_in_context(span)
        for step in event.steps:
            name = n.STEPS.get(step.name, n.OTHER_STEP)
            is_call = name in _CALLS
            child = self._tracer.start_span(
                name,
                context=parent,
                kind=SpanKind.CLIENT if is_call else SpanKind.INTERNAL,
                attributes={
                    **server,
                    **(_rpc(name, event.status_code if step.error else "OK") if is_call else {}),
                    **({n.ERROR_TYPE: event.status_code} if step.error else {}),
                },
                start_time=step.started_unix_nano,
            )
            if step.error:
                child.set_status(Status(StatusCode.ERROR, step.error))
            child.end(step.ended_unix_nano)
        if failed:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(event.ended_unix_nano)

    def _changed(self, event: e.StateChanged, now: int) -> None:
        self._note(event.upstream, now, n.STATE_CHANGED, {n.STATE: event.after, n.REASON: event.why})
        if event.after == "closed":
            self._attempts.pop(event.upstream, None)

    def _missed(self, event: e.HeartbeatMissed, now: int) -> None:
        self._note(event.upstream, now, n.HEARTBEAT_MISSED, {n.MISSES: event.misses, n.REASON: event.why})

    def _note(self, upstream: str, now: int, name: str, attributes: Attributes) -> None:
        for connection in self._connections.values():
            if connection.upstream == upstream:
                connection.events.append((now, name, attributes))

    def _opened(self, event: e.StreamOpened, now: int) -> None:
        connection = self._connections.setdefault(event.connection_id, _Connection(event.upstream))
        connection.opened[event.stream.value] = now

    def _lost(self, event: e.StreamLost, now: int) -> None:
        connection = self._connections.get(event.connection_id)
        if connection and connection.context:
            started = connection.opened.pop(event.stream.value, now)
            self._watched(connection, event.stream.value, event, times=(started, now), events=event.events)

    def _ended(self, event: e.ConnectionEnded, _now: int) -> None:
        connection = self._connections.pop(event.connection_id, None)
        if connection is None or connection.context is None:
            return
        for stream, started in connection.opened.items():
            times = started, max(started, event.ended_unix_nano)
            self._watched(connection, stream, event, times=times, events=event.events.get(stream, 0))
        span = self._tracer.start_span(
            n.CONNECTION,
            context=_under(connection),
            kind=SpanKind.INTERNAL,
            attributes={
                **n.server(event.upstream),
                n.CONNECTION_ID: event.connection_id,
                n.STATUS_CODE: event.status_code,
                n.EVENTS: sum(event.events.values()),
                **({n.LAST_EVENT: timestamp(event.last_event_unix_nano)} if event.last_event_unix_nano else {}),
                **({} if event.planned else {n.ERROR_TYPE: event.status_code}),
            },
            start_time=event.started_unix_nano,
        )
        for unix_nano, name, attributes in connection.events:
            span.add_event(name, attributes, unix_nano)
        if not event.planned:
            span.set_status(Status(StatusCode.ERROR, event.detail))
        span.end(event.ended_unix_nano)

    def _watched(
        self,
        connection: _Connection,
        stream: str,
        end: e.StreamLost | e.ConnectionEnded,
        *,
        times: tuple[int, int],
        events: int,
    ) -> None:
        """Writes the span of a stream, which ended by itself or with its connection."""
        method = n.WATCH.get(stream)
        if method is None:
            return
        planned = isinstance(end, e.ConnectionEnded) and end.planned
        span = self._tracer.start_span(
            method,
            context=_under(connection),
            kind=SpanKind.CLIENT,
            attributes={
                **n.server(connection.upstream),
                **_rpc(method, end.status_code),
                n.STREAM: stream,
                n.EVENTS: events,
                **({} if planned else {n.ERROR_TYPE: end.status_code}),
            },
            start_time=times[0],
        )
        if not planned:
            span.set_status(Status(StatusCode.ERROR, end.detail))
        span.end(times[1])


_CALLS = frozenset({n.STEPS["health"]})
"""Steps that are one call, so spans of kind CLIENT."""


def _under(connection: _Connection) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(connection.context or trace.INVALID_SPAN_CONTEXT))


def _rpc(method: str, status_code: str) -> Attributes:
    return {n.RPC_SYSTEM: "grpc", n.RPC_METHOD: method, n.STATUS_CODE: status_code}
