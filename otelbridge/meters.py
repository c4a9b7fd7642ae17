"""Binds the metrics that are read when they are collected to the plain counters of the rooms."""

from __future__ import annotations

import time
from functools import partial

from otelbridge.rooms import Rooms, certificates_in_use
from otelbridge.telemetry import names
from otelbridge.telemetry.metrics import Observed, Reading, of_ledger

NANOS_PER_SECOND = 1_000_000_000
LEDGER_INSTRUMENTS = ("otelbridge.ledger.records", "otelbridge.ledger.residue", "otelbridge.event.dropped")


def bind(rooms: Rooms) -> None:
    """Binds every observable instrument that telemetry does not feed by itself."""
    readings: dict[str, Reading] = {
        "otelbridge.source.events": lambda: _received(rooms),
        "otelbridge.source.event.age": lambda: _event_ages(rooms),
        "otelbridge.source.event.lag": lambda: [
            (lag / NANOS_PER_SECOND, {names.STREAM: stream.value}) for stream, lag in rooms.encoder.lag_nanos.items()
        ],
        "otelbridge.source.node.last_seen": lambda: [
            (seen / NANOS_PER_SECOND, {names.NODE: node}) for (_, node), seen in rooms.feed.nodes_last_seen().items()
        ],
        "otelbridge.source.nodes": lambda: [
            (status.nodes_seen, names.server(status.upstream)) for status in rooms.feed.subscriptions()
        ],
        "otelbridge.source.nodes.silent": lambda: [
            (len(status.silent_nodes), names.server(status.upstream)) for status in rooms.feed.subscriptions()
        ],
        "otelbridge.source.unheard.time": lambda: _unheard(rooms),
        "otelbridge.handoff.size": lambda: [(rooms.handoff.waiting_events, {})],
        "otelbridge.handoff.limit": lambda: [(rooms.handoff.max_events, {})],
        "otelbridge.event.sanitized": lambda: [
            (rooms.mapper.tally.sanitized, {names.SANITIZE_REASON: "utf8"}),
            (rooms.mapper.tally.truncated, {names.SANITIZE_REASON: "truncated"}),
        ],
        "otelbridge.event.redacted": lambda: [(rooms.encoder.redacted, {})],
        "otelbridge.queue.size": lambda: _held(rooms),
        "otelbridge.queue.usage": lambda: [(rooms.queue.depth().bytes, {})],
        "otelbridge.queue.limit": lambda: [(rooms.settings.queue.max_bytes, {})],
        "otelbridge.queue.oldest.age": lambda: [(_oldest_age_seconds(rooms), {})],
        "otelbridge.queue.degraded": lambda: [(int(rooms.queue.depth().degraded), {})],
        "otelbridge.queue.dead_letters": lambda: [(rooms.queue.depth().dead_letters, {})],
        "otelbridge.certificate.expiry": lambda: _certificates(rooms),
        "kubearmor.alerts": lambda: _alerts(rooms),
        **{name: partial(_ledger, rooms, name) for name in LEDGER_INSTRUMENTS},
    }
    for name, reading in readings.items():
        rooms.telemetry.observe(name, reading)


def _ledger(rooms: Rooms, instrument: str) -> Observed:
    ledger, held = rooms.queue.balance()
    return of_ledger(ledger.postings(), ledger.residue(held))[instrument]


def _received(rooms: Rooms) -> Observed:
    return [
        (stream.events, {names.STREAM: name.value, **names.server(subscription.upstream)})
        for subscription in rooms.feed.subscriptions()
        for name, stream in subscription.streams.items()
    ]


def _unheard(rooms: Rooms) -> Observed:
    now = time.time_ns()
    return [
        (
            max(0.0, (now - (status.unheard_since_unix_nano or now)) / NANOS_PER_SECOND),
            names.server(status.upstream),
        )
        for status in rooms.feed.subscriptions()
    ]


def _event_ages(rooms: Rooms) -> Observed:
    now = time.time_ns()
    return [
        (
            (now - stream.last_event_unix_nano) / NANOS_PER_SECOND,
            {names.STREAM: name.value, **names.server(subscription.upstream)},
        )
        for subscription in rooms.feed.subscriptions()
        for name, stream in subscription.streams.items()
        if stream.last_event_unix_nano
    ]


def _held(rooms: Rooms) -> Observed:
    return [(records, {names.STREAM: stream.value}) for stream, records in rooms.queue.depth().by_stream.items()]


def _oldest_age_seconds(rooms: Rooms) -> float:
    oldest = rooms.queue.depth().oldest_received_unix_nano
    return 0.0 if oldest is None else max(0.0, (time.time_ns() - oldest) / NANOS_PER_SECOND)


def _certificates(rooms: Rooms) -> Observed:
    return [
        (expires, {**names.server(server), names.CERTIFICATE_USE: use})
        for server, use, expires in certificates_in_use(rooms)
    ]


def _alerts(rooms: Rooms) -> Observed:
    """Alerts by kind; the policy is left out, and its counts added up, unless the operator asked for it."""
    with_policy = rooms.settings.telemetry.alert_policies
    sums: dict[tuple[str, ...], int] = {}
    for kind, count in rooms.mapper.alert_counts().items():
        series = kind if with_policy else kind[:-1]
        sums[series] = sums.get(series, 0) + count
    attributes = (names.NAMESPACE, "kubearmor.operation", "kubearmor.action", "kubearmor.outcome", "security_rule.name")
    return [(count, dict(zip(attributes, series, strict=False))) for series, count in sums.items()]
