"""The components of one bridge, and the observable metrics that are read from their own state."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from otelbridge.event import NANOSECONDS
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.feed import Feed
from otelbridge.feed.model import StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import AlertCount, AlertKind, Workload
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.pipeline import Pipeline
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.queue import DurableQueue
from otelbridge.send.circuit_breaker import EndpointState
from otelbridge.send.sender import Sender
from otelbridge.send.workers import Workers
from otelbridge.status.answers import QueueGrowth
from otelbridge.telemetry import names
from otelbridge.telemetry.coverage import Coverage, CoverageAnswer, Subject, SubjectKind
from otelbridge.telemetry.metrics import COUNTED, OWN, Instrument, InstrumentKind, Observed
from otelbridge.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from otelbridge.feed.roads import Loss, Roads


@dataclass(slots=True, kw_only=True)
class Components:
    """All components, in the order of an event's path; a reload replaces mapper, workers and sender."""

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
    trace_workers: Workers | None
    """Those that carry spans, where there are or were some."""
    sender: Sender
    telemetry: Telemetry
    alert_policies: bool
    """Whether the metric of alerts tells policies apart."""
    coverage: Coverage | None
    """None unless the operator wants it."""
    roads: Roads | None
    """None unless the upstreams are roads to the same events."""

    def all_workers(self) -> list[Workers]:
        """Of both signals."""
        return [self.workers, *([self.trace_workers] if self.trace_workers is not None else [])]


def certificates_in_use(components: Components) -> Iterator[tuple[str, str, int]]:
    """Per server that is spoken to with certificate files: its name, what for, and when the first of them expires."""
    for status in components.feed.subscriptions():
        if status.certificate_expires_unix_seconds is not None:
            yield status.upstream, "kubearmor", status.certificate_expires_unix_seconds
    expires = components.sender.certificate_expires_unix_seconds
    if expires is not None:
        yield components.sender.endpoint, "endpoint", expires


From = Callable[[Components], Observed]
"""Reads what an instrument shows; from any thread, when metrics are collected."""


def _one(figure: Callable[[Components], float]) -> From:
    return lambda components: [(figure(components), {})]


def _each(figure: Callable[[SubscriptionStatus], float]) -> From:
    return lambda components: [
        (figure(status), names.server(status.upstream)) for status in components.feed.subscriptions()
    ]


def _each_stream(figure: Callable[[StreamStatus], float | None]) -> From:
    return lambda components: [
        (value, {names.STREAM: name.value, **names.server(status.upstream)})
        for status in components.feed.subscriptions()
        for name, stream in status.streams.items()
        if (value := figure(stream)) is not None
    ]


def _subscription_states(components: Components) -> Observed:
    return [
        (int(state is status.state), {**names.server(status.upstream), names.STATE: state.value})
        for status in components.feed.subscriptions()
        for state in SubscriptionState
    ]


def _nodes_last_seen(components: Components) -> Observed:
    seen = components.feed.nodes_last_seen()
    return [(unix_nano / NANOSECONDS, {names.NODE: node}) for node, unix_nano in seen.items()]


def _sanitized(components: Components) -> Observed:
    tally = components.mapper.tally
    return [
        (tally.sanitized, {names.SANITIZE_REASON: "utf8"}),
        (tally.truncated, {names.SANITIZE_REASON: "truncated"}),
    ]


def _held(components: Components) -> Observed:
    held = components.queue.depth().streams
    return [(records, {names.STREAM: stream.value}) for stream, records in held.items()]


def _accounts(components: Components) -> Observed:
    return [
        (
            records,
            {names.STREAM: stream.value, names.ACCOUNT: account.value, **({names.REASON: reason} if reason else {})},
        )
        for stream, account, reason, records in components.queue.ledger().postings()
    ]


def _dropped(components: Components) -> Observed:
    return [
        (records, {names.STREAM: stream.value, names.DROP_REASON: reason})
        for stream, account, reason, records in components.queue.ledger().postings()
        if account is Account.DROPPED
    ]


def _residue(components: Components) -> Observed:
    ledger, held = components.queue.balance()
    return [(left, {names.STREAM: stream.value}) for stream, left in ledger.residue(held).items()]


def _delay(components: Components) -> Observed:
    status = components.workers.status()
    return [(status.breaker.delay_seconds, names.server(status.endpoint))]


def _endpoint_states(components: Components) -> Observed:
    status = components.workers.status()
    return [
        (int(state is status.breaker.state), {**names.server(status.endpoint), names.STATE: state.value})
        for state in EndpointState
    ]


def _open_processes(components: Components) -> Observed:
    processes = components.mapper.processes
    return [(len(processes.tree), {})] if processes is not None else []


def _certificates(components: Components) -> Observed:
    return [
        (expires, {**names.server(server), names.CERTIFICATE_USE: use})
        for server, use, expires in certificates_in_use(components)
    ]


def _alerts(components: Components) -> Observed:
    counts = components.mapper.tally.alert_counts()
    if not components.alert_policies:  # coverage may have told them apart
        merged: Counter[tuple[Workload | None, AlertKind]] = Counter()
        for workload, kind, alerts in counts:
            merged[workload, (*kind[:3], "")] += alerts
        counts = [AlertCount(workload, kind, alerts) for (workload, kind), alerts in merged.items()]
    return [_alert_count(count) for count in counts]


def heard_of(components: Components) -> dict[Subject, float]:
    """Of each node, namespace and policy, something that changes with every event of it."""
    nodes = components.feed.nodes_last_seen()
    found: Counter[Subject] = Counter({Subject(SubjectKind.NODE, node): seen for node, seen in nodes.items()})
    tally = components.mapper.tally
    apart = [(one.workload[0], one.kind[3], one.alerts) for one in tally.alert_counts() if one.workload is not None]
    beyond = [(*where, alerts) for where, alerts in tally.beyond.copy().items()]
    for namespace, policy, alerts in apart + beyond:
        if namespace:
            found[Subject(SubjectKind.NAMESPACE, namespace)] += alerts
        if policy:
            found[Subject(SubjectKind.POLICY, policy)] += alerts
    return dict(found)


def _covered(components: Components) -> Observed:
    if components.coverage is None:
        return []
    reports = components.coverage.reports(time.time())
    found = Counter((report.subject.kind, report.answer) for report in reports)
    return [
        (found[kind, answer], {names.COVERAGE_KIND: kind.value, names.COVERAGE_ANSWER: answer.value})
        for kind in SubjectKind
        for answer in CoverageAnswer
    ]


def _losses(figure: Callable[[Loss], int]) -> From:
    return lambda components: [
        (figure(loss), {**names.server(upstream), **({names.NODE: node} if node else {})})
        for (upstream, node), loss in (components.roads.losses.copy().items() if components.roads else ())
        if loss.carried
    ]


def _alert_count(count: AlertCount) -> tuple[int, Mapping[str, str | int]]:
    operation, action, outcome, policy = count.kind
    kind = {names.OPERATION: operation, names.ACTION: action, names.ALERT_OUTCOME: outcome}
    if count.workload is None:
        return count.alerts, {**kind, names.OVERFLOW: True}
    namespace, workload = count.workload
    place = {names.NAMESPACE: namespace, names.WORKLOAD: workload, names.POLICY: policy}
    return count.alerts, {**kind, **{key: value for key, value in place.items() if value}}


def _seconds_since(unix_nano: int | None) -> float | None:
    """None where there is no such moment."""
    return max(0.0, (time.time_ns() - unix_nano) / NANOSECONDS) if unix_nano else None


_C, _U = InstrumentKind.OBSERVABLE_COUNTER, InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER
_G = InstrumentKind.OBSERVABLE_GAUGE

# fmt: off
OBSERVED: Mapping[Instrument, From] = {
    Instrument("otelbridge.source.events", _C, "{event}", "Events received.", (names.STREAM, *names.SERVER)): _each_stream(lambda stream: stream.events),
    Instrument("otelbridge.source.event.age", _G, "s", "Time since the last event of a stream.", (names.STREAM, *names.SERVER)): _each_stream(lambda stream: _seconds_since(stream.last_event_unix_nano)),
    Instrument("otelbridge.source.node.last_seen", _G, "s", "Unix time of the last event from a node; finds the node that is silent behind a relay.", (names.NODE,)): _nodes_last_seen,
    Instrument("otelbridge.source.nodes", _U, "{node}", "Nodes that have sent events through an upstream.", names.SERVER): _each(lambda status: status.nodes_seen),
    Instrument("otelbridge.source.silent_nodes", _U, "{node}", "Nodes behind an upstream that have been silent for longer than is usual for them.", names.SERVER): _each(lambda status: len(status.silent_nodes)),
    Instrument("otelbridge.coverage.subjects", _U, "{subject}", "Nodes, namespaces and policies, by whether their silence is usual; with `telemetry.coverage`.", (names.COVERAGE_KIND, names.COVERAGE_ANSWER)): _covered,
    Instrument("otelbridge.source.compared", _C, "{event}", "Events that arrived by another road while this one was connected, counted when their window is over; with `feed.roads`.", (*names.SERVER, names.NODE)): _losses(lambda loss: loss.compared),
    Instrument("otelbridge.source.missed", _C, "{event}", "Compared events that did not arrive by this road: what it has lost.", (*names.SERVER, names.NODE)): _losses(lambda loss: loss.missed),
    Instrument("otelbridge.source.unknown", _C, "{event}", "Events that arrived by other roads only, while this one could not be judged: it was disconnected, or too many ids were waiting.", (*names.SERVER, names.NODE)): _losses(lambda loss: loss.unknown),
    Instrument("otelbridge.source.unheard.time", _G, "s", "How long a connection has been open without an event from any node; 0 once one has arrived, or without a connection.", names.SERVER): _each(lambda status: _seconds_since(status.unheard_since_unix_nano) or 0.0),
    Instrument("otelbridge.source.state", _U, "{state}", "1 for the state that a subscription is in, 0 for the others.", (*names.SERVER, names.STATE)): _subscription_states,
    Instrument("otelbridge.source.blind.time", _G, "s", "How long the subscription has been unable to receive events; 0 while it receives them.", names.SERVER): _each(lambda status: _seconds_since(status.blind_since_unix_nano) or 0.0),
    Instrument("otelbridge.source.stream.active", _U, "{stream}", "Streams that are open.", (names.STREAM, *names.SERVER)): _each_stream(lambda stream: int(stream.state is StreamState.WATCHING)),
    Instrument("otelbridge.buffer.size", _U, "{event}", "Events between the readers and the encoder."): _one(lambda components: components.buffer.waiting_events),
    Instrument("otelbridge.buffer.limit", _U, "{event}", "Most events that may wait there."): _one(lambda components: components.buffer.max_events),
    Instrument("otelbridge.under_way.usage", _U, "By", "Bytes under way in memory: received and not yet on disk, in requests, and what gRPC may read ahead."): _one(lambda components: components.buffer.under_way_bytes()),
    Instrument("otelbridge.under_way.limit", _U, "By", "Most bytes that may be under way: `bridge.under_way_max_bytes`."): _one(lambda components: components.buffer.budget.max_bytes),
    Instrument("otelbridge.event.dropped", _C, "{event}", "Events dropped by the bridge itself, by reason.", (names.STREAM, names.DROP_REASON)): _dropped,
    Instrument("otelbridge.event.sanitized", _C, "{event}", "Events with text that was repaired or truncated.", (names.SANITIZE_REASON,)): _sanitized,
    Instrument("otelbridge.event.redacted", _C, "{event}", "Events in which a secret was blacked out."): _one(lambda components: components.pipeline.redacted),
    Instrument("otelbridge.queue.size", _U, "{record}", "Records held in the queue.", (names.STREAM,)): _held,
    Instrument("otelbridge.queue.usage", _U, "By", "Bytes that the queue takes on disk."): _one(lambda components: components.queue.depth().bytes),
    Instrument("otelbridge.queue.limit", _U, "By", "Most bytes that the queue may take."): _one(lambda components: components.queue_max_bytes),
    Instrument("otelbridge.queue.oldest.age", _G, "s", "Age of the oldest record held; 0 when there is none."): _one(lambda components: _seconds_since(components.queue.depth().oldest_received_unix_nano) or 0.0),
    Instrument("otelbridge.queue.degraded", _U, "{state}", "1 while the disk does not accept writes."): _one(lambda components: int(components.queue.depth().degraded)),
    Instrument("otelbridge.queue.dead_letters", _U, "{letter}", "Dead letters: requests that the endpoint refused for good, kept for inspection."): _one(lambda components: components.queue.depth().dead_letters),
    Instrument("otelbridge.ledger.records", _U, "{record}", "Records on each account of the ledger; `otelbridge.reason` is the drop's reason or the rule.", (names.STREAM, names.ACCOUNT, names.REASON)): _accounts,
    Instrument("otelbridge.ledger.residue", _U, "{record}", "Received minus everything accounted for: 0 when the ledger balances.", (names.STREAM,)): _residue,
    Instrument("otelbridge.delivery.delay", _G, "s", "Delay that the last answer asked for; 0 while records are accepted.", names.SERVER): _delay,
    Instrument("otelbridge.delivery.state", _U, "{state}", "1 for the state that the endpoint is in, 0 for the others.", (*names.SERVER, names.STATE)): _endpoint_states,
    Instrument("otelbridge.traces.processes", _U, "{process}", "Processes seen in events whose span has not been made yet; with `mapping.process_traces`."): _open_processes,
    Instrument("otelbridge.certificate.expiry", _G, "s", "Unix time at which a certificate expires.", (*names.SERVER, names.CERTIFICATE_USE)): _certificates,
    Instrument("otelbridge.alerts", _C, "{alert}", "Alerts by workload, the node's own without one; at most 2,000 series, then one with `otel.metric.overflow` per operation, action and outcome. `telemetry.alert_policies` adds the policy's name.", (names.NAMESPACE, names.WORKLOAD, names.OPERATION, names.ACTION, names.ALERT_OUTCOME, names.POLICY, names.OVERFLOW)): _alerts,
}
"""Read from the components' own state when metrics are collected."""
# fmt: on

INSTRUMENTS: Mapping[str, Instrument] = {declared.name: declared for declared in (*COUNTED, *OBSERVED, *OWN)}
"""All metrics of the bridge."""


def bind_metrics(components: Components) -> None:
    """Binds every observable instrument that telemetry does not feed by itself."""
    for instrument, reading in OBSERVED.items():
        components.telemetry.observe(instrument, partial(reading, components))
