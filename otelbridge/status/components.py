"""The components of one bridge, and the observable metrics that are read from their own state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from otelbridge.feed.buffer import Buffer
from otelbridge.feed.feed import Feed
from otelbridge.feed.model import StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import AlertCount
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.pipeline import Pipeline
from otelbridge.queue.queue import DurableQueue
from otelbridge.send.circuit_breaker import EndpointState
from otelbridge.send.sender import Sender
from otelbridge.send.workers import Workers
from otelbridge.status.answers import QueueGrowth
from otelbridge.telemetry import names
from otelbridge.telemetry.metrics import Observed, Reading, of_ledger
from otelbridge.telemetry.telemetry import Telemetry

NANOSECONDS = 1_000_000_000
LEDGER_INSTRUMENTS = ("otelbridge.ledger.records", "otelbridge.ledger.residue", "otelbridge.event.dropped")


@dataclass(slots=True, kw_only=True)
class Components:
    """In the order in which an event walks through them; a reload replaces mapper, workers and sender."""

    feed: Feed
    buffer: Buffer
    mapper: Mapper
    pipeline: Pipeline
    recent_events: RecentEvents | None
    """None unless the operator wants to see events."""
    queue: DurableQueue
    queue_max_bytes: int
    queue_growth: QueueGrowth
    workers: Workers
    sender: Sender
    telemetry: Telemetry


def certificates_in_use(components: Components) -> Iterator[tuple[str, str, int]]:
    """Per server that is spoken to with certificate files: its name, what for, and when the first of them expires."""
    for status in components.feed.subscriptions():
        if status.certificate_expires_unix_seconds is not None:
            yield status.upstream, "kubearmor", status.certificate_expires_unix_seconds
    expires = components.sender.certificate_expires_unix_seconds
    if expires is not None:
        yield components.sender.endpoint, "endpoint", expires


def bind_metrics(components: Components) -> None:
    """Binds every observable instrument that telemetry does not feed by itself."""
    for of in (of_subscriptions, _of_the_walk, _of_the_queue, of_the_endpoint):
        for name, reading in of(components).items():
            components.telemetry.observe(name, reading)


def of_subscriptions(components: Components) -> dict[str, Reading]:
    """What the feed says of each upstream and stream."""

    def each(figure: Callable[[SubscriptionStatus], float]) -> Reading:
        return lambda: [(figure(status), names.server(status.upstream)) for status in components.feed.subscriptions()]

    def each_stream(figure: Callable[[StreamStatus], float | None]) -> Reading:
        return lambda: [
            (value, {names.STREAM: name.value, **names.server(status.upstream)})
            for status in components.feed.subscriptions()
            for name, stream in status.streams.items()
            if (value := figure(stream)) is not None
        ]

    def each_state() -> Observed:
        return [
            (int(state is status.state), {**names.server(status.upstream), names.STATE: state.value})
            for status in components.feed.subscriptions()
            for state in SubscriptionState
        ]

    return {
        "otelbridge.source.state": each_state,
        "otelbridge.source.blind.time": each(lambda status: _seconds_since(status.blind_since_unix_nano) or 0.0),
        "otelbridge.source.unheard.time": each(lambda status: _seconds_since(status.unheard_since_unix_nano) or 0.0),
        "otelbridge.source.nodes": each(lambda status: status.nodes_seen),
        "otelbridge.source.silent_nodes": each(lambda status: len(status.silent_nodes)),
        "otelbridge.source.stream.active": each_stream(lambda stream: int(stream.state is StreamState.WATCHING)),
        "otelbridge.source.events": each_stream(lambda stream: stream.events),
        "otelbridge.source.event.age": each_stream(lambda stream: _seconds_since(stream.last_event_unix_nano)),
        "otelbridge.source.node.last_seen": lambda: [
            (seen / NANOSECONDS, {names.NODE: node}) for (_, node), seen in components.feed.nodes_last_seen().items()
        ],
    }


def of_the_endpoint(components: Components) -> dict[str, Reading]:
    """What send says of the endpoint."""

    def states() -> Observed:
        status = components.workers.status()
        return [
            (int(state is status.breaker.state), {**names.server(status.endpoint), names.STATE: state.value})
            for state in EndpointState
        ]

    def delay() -> Observed:
        status = components.workers.status()
        return [(status.breaker.delay_seconds, names.server(status.endpoint))]

    return {"otelbridge.delivery.state": states, "otelbridge.delivery.delay": delay}


def _of_the_walk(components: Components) -> dict[str, Reading]:
    pipeline, buffer, tally = components.pipeline, components.buffer, components.mapper.tally
    return {
        "otelbridge.buffer.size": lambda: [(buffer.waiting_events, {})],
        "otelbridge.buffer.limit": lambda: [(buffer.max_events, {})],
        "otelbridge.event.sanitized": lambda: [
            (tally.sanitized, {names.SANITIZE_REASON: "utf8"}),
            (tally.truncated, {names.SANITIZE_REASON: "truncated"}),
        ],
        "otelbridge.event.redacted": lambda: [(pipeline.redacted, {})],
        "otelbridge.alerts": lambda: [_alerts(count) for count in tally.alert_counts()],
    }


def _of_the_queue(components: Components) -> dict[str, Reading]:
    queue = components.queue
    return {
        "otelbridge.queue.size": lambda: [
            (records, {names.STREAM: stream.value}) for stream, records in queue.depth().by_stream.items()
        ],
        "otelbridge.queue.usage": lambda: [(queue.depth().bytes, {})],
        "otelbridge.queue.limit": lambda: [(components.queue_max_bytes, {})],
        "otelbridge.queue.oldest.age": lambda: [(_seconds_since(queue.depth().oldest_received_unix_nano) or 0.0, {})],
        "otelbridge.queue.degraded": lambda: [(int(queue.depth().degraded), {})],
        "otelbridge.queue.dead_letters": lambda: [(queue.depth().dead_letters, {})],
        **{name: partial(_ledger, components, name) for name in LEDGER_INSTRUMENTS},
        "otelbridge.certificate.expiry": lambda: [
            (expires, {**names.server(server), names.CERTIFICATE_USE: use})
            for server, use, expires in certificates_in_use(components)
        ],
    }


def _seconds_since(unix_nano: int | None) -> float | None:
    """None where there is no such moment."""
    return max(0.0, (time.time_ns() - unix_nano) / NANOSECONDS) if unix_nano else None


def _ledger(components: Components, instrument: str) -> Observed:
    ledger, held = components.queue.balance()
    return of_ledger(ledger.postings(), ledger.residue(held))[instrument]


def _alerts(count: AlertCount) -> tuple[int, Mapping[str, str | int]]:
    operation, action, outcome, policy = count.kind
    kind = {names.OPERATION: operation, names.ACTION: action, names.ALERT_OUTCOME: outcome}
    if count.workload is None:
        return count.alerts, {**kind, names.OVERFLOW: True}
    namespace, workload = count.workload
    place = {names.NAMESPACE: namespace, names.WORKLOAD: workload, names.POLICY: policy}
    return count.alerts, {**kind, **{key: value for key, value in place.items() if value}}
