"""Numbers: a happening goes in, the increments of counters and the values of histograms come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from otelbridge.event import GapCause
from otelbridge.telemetry import happenings as h
from otelbridge.telemetry import names as n

NANOSECONDS = 1_000_000_000


class Count(NamedTuple):
    """So much for one instrument: added to a counter, recorded by a histogram."""

    instrument: str
    amount: float
    attributes: Mapping[str, str | int]


def _attempted(told: h.ConnectionAttempted) -> Iterator[Count]:
    failure = {} if told.status_code == "OK" else {n.ERROR_TYPE: told.status_code, n.ERROR_CLASS: told.error_class}
    yield Count("otelbridge.source.connection.attempts", 1, {**n.server(told.upstream), **failure})


def _lost(told: h.StreamLost) -> Iterator[Count]:
    attributes = {n.STREAM: told.stream.value, **n.server(told.upstream), n.STATUS_CODE: told.status_code}
    yield Count("otelbridge.source.stream.ends", 1, attributes)


def _ended(told: h.ConnectionEnded) -> Iterator[Count]:
    seconds = (told.ended_unix_nano - told.started_unix_nano) / NANOSECONDS
    attributes = {**n.server(told.upstream), n.STATUS_CODE: told.status_code}
    yield Count("otelbridge.source.connection.duration", max(seconds, 0.0), attributes)


def _answered(told: h.HeartbeatAnswered) -> Iterator[Count]:
    attributes = {**n.server(told.upstream), n.HEARTBEAT_METHOD: told.method}
    yield Count("otelbridge.source.heartbeat.duration", told.seconds, attributes)


def _missed(told: h.HeartbeatMissed) -> Iterator[Count]:
    yield Count("otelbridge.source.heartbeat.misses", 1, n.server(told.upstream))


def _gap(told: h.GapEnded) -> Iterator[Count]:
    gap = told.gap
    attributes = {n.STREAM: gap.stream.value, n.GAP_CAUSE: gap.cause.value}
    yield Count("otelbridge.source.gaps", 1, attributes)
    seconds = (gap.ended_unix_nano - gap.started_unix_nano) / NANOSECONDS
    yield Count("otelbridge.source.gap.time", max(seconds, 0.0), attributes)
    if gap.cause is GapCause.THROTTLED:
        yield Count("kubearmor.throttle.activations", 1, {n.NAMESPACE: gap.namespace})


def _damaged(told: h.EventDamaged) -> Iterator[Count]:
    yield Count("otelbridge.event.mapping.errors", told.events, {n.STREAM: told.stream.value, n.ERROR_TYPE: told.how})


def _accepted(told: h.BatchAccepted) -> Iterator[Count]:
    server = n.server(told.endpoint)
    stream = {n.STREAM: told.stream.value, **server}
    yield Count("otelbridge.delivery.requests", 1, {**server, n.OUTCOME: "partial" if told.rejected else "accepted"})
    yield Count("otelbridge.delivery.records", told.records - told.rejected, stream)
    yield Count("otelbridge.delivery.io", told.request_bytes, server)
    yield Count("otelbridge.delivery.duration", told.seconds, server)
    if told.rejected:
        yield Count("otelbridge.delivery.rejected", told.rejected, stream)


def _refused(told: h.BatchRefused) -> Iterator[Count]:
    yield from _answer("refused")(told)
    attributes = {n.STREAM: told.stream.value, **n.server(told.endpoint)}
    yield Count("otelbridge.delivery.rejected", told.records, attributes)


def _answer(outcome: str) -> Callable[[Any], Iterator[Count]]:
    """Counts an answer of the endpoint that took nothing."""

    def count(told: h.DeliveryDelayed | h.DeliveryHeld | h.BatchRefused) -> Iterator[Count]:
        attributes = {**n.server(told.endpoint), n.OUTCOME: outcome, n.ERROR_TYPE: told.code}
        yield Count("otelbridge.delivery.requests", 1, attributes)

    return count


def _split(told: h.BatchSplit) -> Iterator[Count]:
    yield Count("otelbridge.delivery.requests", 1, {**n.server(told.endpoint), n.OUTCOME: "split"})


def _detected(told: h.LossDetected) -> Iterator[Count]:
    yield Count("otelbridge.source.detection.time", told.seconds, n.server(told.upstream))


def _recovered(told: h.UpstreamRecovered) -> Iterator[Count]:
    yield Count("otelbridge.source.recovery.time", told.seconds, n.server(told.upstream))


COUNTS: Mapping[type, Callable[[Any], Iterator[Count]]] = {
    h.ConnectionAttempted: _attempted,
    h.StreamLost: _lost,
    h.ConnectionEnded: _ended,
    h.LossDetected: _detected,
    h.UpstreamRecovered: _recovered,
    h.HeartbeatAnswered: _answered,
    h.HeartbeatMissed: _missed,
    h.GapEnded: _gap,
    h.EventDamaged: _damaged,
    h.BatchAccepted: _accepted,
    h.DeliveryDelayed: _answer("delayed"),
    h.DeliveryHeld: _answer("held"),
    h.BatchSplit: _split,
    h.BatchRefused: _refused,
}


def counts(happening: h.Happening) -> Iterator[Count]:
    """What a happening adds to the metrics; nothing for types that are not counted."""
    count = COUNTS.get(type(happening))
    return iter(()) if count is None else count(happening)
