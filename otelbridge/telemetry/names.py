"""Declares every metric, span and attribute that the bridge emits about itself; the docs are generated from it.

Names follow OpenTelemetry's rules: no `_total`, units in UCUM, plural only for what can be counted. No attribute ever
takes its values from a process, a path or a pod: what an attacker can choose must not make series.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from otelbridge.event import LOG_SERVICE, STREAMS, UPSTREAM_STREAMS
from otelbridge.telemetry.log import MESSAGES, event_name

SCOPE = "otelbridge"
"""Name of the instrumentation scope of all spans and metrics."""

# --- attributes ---------------------------------------------------------------------------------------------------

STREAM = "kubearmor.stream"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
ERROR_CLASS = "otelbridge.error.class"
STATE = "otelbridge.state"
STATUS_CODE = "rpc.response.status_code"
GAP_CAUSE = "otelbridge.gap.cause"
DROP_REASON = "otelbridge.drop.reason"
ACCOUNT = "otelbridge.ledger.account"
REASON = "otelbridge.reason"
OUTCOME = "otelbridge.delivery.outcome"
HEARTBEAT_METHOD = "otelbridge.heartbeat.method"
SANITIZE_REASON = "otelbridge.sanitize.reason"
CERTIFICATE_USE = "otelbridge.certificate.use"
THREAD = "thread.name"
NODE = "k8s.node.name"
NAMESPACE = "k8s.namespace.name"
WORKLOAD = "kubearmor.workload.name"
OPERATION = "kubearmor.operation"
ACTION = "kubearmor.action"
ALERT_OUTCOME = "kubearmor.outcome"
POLICY = "security_rule.name"
OVERFLOW = "otel.metric.overflow"
"""OpenTelemetry's attribute of the series that stands for all series beyond a limit."""
SERVER = (SERVER_ADDRESS, SERVER_PORT)


def server(address: str) -> Mapping[str, str | int]:
    """`server.address` and `server.port` of a configured `host:port` or URL.

    A port that is missing or no number is left out; brackets round an IPv6 address are dropped, user and query too.
    """
    bare = re.split("[/?#]", address.partition("://")[2] or address, maxsplit=1)[0].rpartition("@")[2]
    host, colon, port = bare.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in host or host.endswith("]")):
        return {SERVER_ADDRESS: host.strip("[]"), SERVER_PORT: int(port)}
    return {SERVER_ADDRESS: bare.strip("[]")}


# --- instruments --------------------------------------------------------------------------------------------------


class InstrumentKind(StrEnum):
    """OpenTelemetry's instruments. An observable one reads another component's plain counters when it is collected."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    OBSERVABLE_COUNTER = "observable counter"
    OBSERVABLE_UP_DOWN_COUNTER = "observable up-down counter"
    OBSERVABLE_GAUGE = "observable gauge"


OBSERVABLE = frozenset(
    {InstrumentKind.OBSERVABLE_COUNTER, InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER, InstrumentKind.OBSERVABLE_GAUGE}
)

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds of a request."""
OUTAGE = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 21.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds of being blind; 21 is the promise for a frozen peer."""
LAG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds that an event is on its way."""
LIFE = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 259200.0, 604800.0, 2592000.0)
"""Seconds of a connection's life, up to a month."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_C, _H = InstrumentKind.COUNTER, InstrumentKind.HISTOGRAM
_OC, _OU, _OG = (
    InstrumentKind.OBSERVABLE_COUNTER,
    InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER,
    InstrumentKind.OBSERVABLE_GAUGE,
)

# fmt: off
_DECLARED = (
    # feed: the subscriptions
    Instrument("otelbridge.source.events", _OC, "{event}", "Events received.", (STREAM, *SERVER)),
    Instrument("otelbridge.source.event.age", _OG, "s", "Time since the last event of a stream.", (STREAM, *SERVER)),
    Instrument("otelbridge.source.event.lag", _H, "s", "From an event's own time stamp to its receipt, at most 16 events of a batch standing for all; 0 where the node's clock is ahead.", (STREAM,), LAG),
    Instrument("otelbridge.source.node.last_seen", _OG, "s", "Unix time of the last event from a node; finds the node that is silent behind a relay.", (NODE,)),
    Instrument("otelbridge.source.nodes", _OU, "{node}", "Nodes heard behind an upstream.", SERVER),
    Instrument("otelbridge.source.silent_nodes", _OU, "{node}", "Those of them that are silent against their habit.", SERVER),
    Instrument("otelbridge.source.unheard.time", _OG, "s", "How long a connection has been watched without any event from any node; 0 once one came, or while there is none.", SERVER),
    Instrument("otelbridge.source.state", _OU, "{state}", "1 for the state that a subscription is in, 0 for the others.", (*SERVER, STATE)),
    Instrument("otelbridge.source.blind.time", _OG, "s", "How long the subscription has not been watching by now; 0 while it is.", SERVER),
    Instrument("otelbridge.source.stream.active", _OU, "{stream}", "Streams that are open.", (STREAM, *SERVER)),
    Instrument("otelbridge.source.stream.ends", _C, "{end}", "Streams that ended without our asking.", (STREAM, *SERVER, STATUS_CODE)),
    Instrument("otelbridge.source.connection.attempts", _C, "{attempt}", "Attempts to subscribe; without `error.type` for those that succeeded.", (*SERVER, ERROR_TYPE, ERROR_CLASS)),
    Instrument("otelbridge.source.connection.duration", _H, "s", "Lives of connections.", (*SERVER, STATUS_CODE), LIFE),
    Instrument("otelbridge.source.heartbeat.duration", _H, "s", "Time that a health check took.", (*SERVER, HEARTBEAT_METHOD), SHORT),
    Instrument("otelbridge.source.heartbeat.misses", _C, "{miss}", "Health checks without an answer.", SERVER),
    Instrument("otelbridge.source.detection.time", _H, "s", "From the last sign of life of a connection to noticing that it was lost.", SERVER, OUTAGE),
    Instrument("otelbridge.source.recovery.time", _H, "s", "From noticing a loss to watching again.", SERVER, OUTAGE),
    Instrument("otelbridge.source.gaps", _C, "{gap}", "Gaps that are over.", (STREAM, GAP_CAUSE)),
    Instrument("otelbridge.source.gap.time", _C, "s", "Time that could not be seen.", (STREAM, GAP_CAUSE)),
    # hand-off, gate, mapping
    Instrument("otelbridge.buffer.size", _OU, "{event}", "Events between the readers and the encoder."),
    Instrument("otelbridge.buffer.limit", _OU, "{event}", "Events that may wait there."),
    Instrument("otelbridge.event.dropped", _OC, "{event}", "Events dropped by the bridge itself, by reason.", (STREAM, DROP_REASON)),
    Instrument("otelbridge.event.sanitized", _OC, "{event}", "Events whose text was mended or cut.", (SANITIZE_REASON,)),
    Instrument("otelbridge.event.redacted", _OC, "{event}", "Events in which a secret was blacked out."),
    Instrument("otelbridge.event.mapping.errors", _C, "{error}", "Events that did not parse as they should; `error.type` is how they travelled on.", (STREAM, ERROR_TYPE)),
    # queue and ledger
    Instrument("otelbridge.queue.size", _OU, "{record}", "Records held in the queue.", (STREAM,)),
    Instrument("otelbridge.queue.usage", _OU, "By", "Bytes that the queue takes on disk."),
    Instrument("otelbridge.queue.limit", _OU, "By", "Bytes that it may take."),
    Instrument("otelbridge.queue.oldest.age", _OG, "s", "Age of the oldest record held; 0 when there is none."),
    Instrument("otelbridge.queue.degraded", _OU, "{state}", "1 while the disk does not take writes."),
    Instrument("otelbridge.queue.dead_letters", _OU, "{letter}", "Dead letters: what the endpoint refused for good, kept for a look."),
    Instrument("otelbridge.ledger.records", _OU, "{record}", "What stands on each account of the ledger; `otelbridge.reason` is the drop's reason or the rule.", (STREAM, ACCOUNT, REASON)),
    Instrument("otelbridge.ledger.residue", _OU, "{record}", "Received minus everything accounted for: 0 when the ledger balances.", (STREAM,)),
    # send
    Instrument("otelbridge.delivery.requests", _C, "{request}", "Answers of the endpoint.", (*SERVER, OUTCOME, ERROR_TYPE)),
    Instrument("otelbridge.delivery.records", _C, "{record}", "Records that the endpoint took.", (STREAM, *SERVER)),
    Instrument("otelbridge.delivery.rejected", _C, "{record}", "Records that the endpoint rejected in a partial success or refused for good.", (STREAM, *SERVER)),
    Instrument("otelbridge.delivery.io", _C, "By", "Bytes of accepted requests, before compression.", SERVER),
    Instrument("otelbridge.delivery.duration", _H, "s", "Time that an accepted request took.", SERVER, SHORT),
    Instrument("otelbridge.delivery.event.lag", _H, "s", "From an event's receipt to the endpoint's yes; each counts as old as the oldest of its request.", (STREAM, *SERVER), LAG),
    Instrument("otelbridge.delivery.delay", _OG, "s", "Delay that the last answer asked for; 0 while records are taken.", SERVER),
    Instrument("otelbridge.delivery.state", _OU, "{state}", "1 for the state that the endpoint is in, 0 for the others.", (*SERVER, STATE)),
    # security, process
    Instrument("otelbridge.certificate.expiry", _OG, "s", "Unix time at which a certificate expires.", (*SERVER, CERTIFICATE_USE)),
    Instrument("otelbridge.telemetry.dropped", _OC, "{event}", "Events and log lines dropped because they came faster than they could be written."),
    Instrument("otelbridge.thread.restarts", _C, "{restart}", "Faults that nobody expected, after which a thread went on.", (THREAD, ERROR_TYPE)),
    Instrument("process.cpu.time", _OC, "s", "CPU time of the process.", ("cpu.mode",)),
    Instrument("process.memory.usage", _OU, "By", "Resident memory of the process."),
    Instrument("process.thread.count", _OU, "{thread}", "Threads of the process."),
    Instrument("process.unix.file_descriptor.count", _OU, "{file_descriptor}", "Open file descriptors of the process."),
    # what KubeArmor sees
    Instrument("otelbridge.alerts", _OC, "{alert}", "Alerts by workload, the node's own without one; at most 2,000 series, then one with `otel.metric.overflow` per operation, action and outcome. `telemetry.alert_policies` adds the policy's name.", (NAMESPACE, WORKLOAD, OPERATION, ACTION, ALERT_OUTCOME, POLICY, OVERFLOW)),
    Instrument("otelbridge.throttle.activations", _C, "{activation}", "Times that KubeArmor itself stopped reporting a container's alerts.", (NAMESPACE,)),
)
# fmt: on

INSTRUMENTS: Mapping[str, Instrument] = {instrument.name: instrument for instrument in _DECLARED}

SUBSCRIPTION_STATES = ("idle", "connecting", "watching", "suspect", "waiting", "holding", "draining", "closed")
"""The feed's states, in its own words; a test holds the two together."""
DELIVERY_STATES = ("idle", "delivering", "delayed", "held")

# --- spans --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpanName:
    """One kind of span."""

    name: str
    kind: str
    description: str
    attributes: tuple[str, ...]


RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
CONNECTION_ID = "otelbridge.connection.id"
ATTEMPT = "otelbridge.attempt"
EVENTS = "otelbridge.events"
LAST_EVENT = "otelbridge.last_event.time"
MISSES = "otelbridge.heartbeat.misses"

_RPC = (RPC_SYSTEM, RPC_METHOD, STATUS_CODE, *SERVER, ERROR_TYPE)

CONNECT = "otelbridge.connect"
CONNECTION = "otelbridge.connection"
STEPS: Mapping[str, str] = {
    "resolve": "otelbridge.connect.resolve",
    "connect": "otelbridge.connect.tcp",
    "tls": "otelbridge.connect.tls",
    "health": "feeder.LogService/HealthCheck",
    "subscribe": "otelbridge.connect.subscribe",
}
OTHER_STEP = "otelbridge.connect.step"
WATCH: Mapping[str, str] = {stream.value: f"{LOG_SERVICE}/{STREAMS[stream].method}" for stream in UPSTREAM_STREAMS}

SPANS = (
    SpanName(
        CONNECT,
        "internal",
        "One attempt to subscribe, linked to the attempt before it.",
        (*SERVER, ATTEMPT, CONNECTION_ID, STATUS_CODE, ERROR_TYPE, ERROR_CLASS),
    ),
    SpanName(STEPS["resolve"], "internal", "Looking the name up.", (*SERVER, ERROR_TYPE)),
    SpanName(STEPS["connect"], "internal", "Opening the connection.", (*SERVER, ERROR_TYPE)),
    SpanName(STEPS["tls"], "internal", "Shaking hands.", (*SERVER, ERROR_TYPE)),
    SpanName(STEPS["health"], "client", "The first health check.", _RPC),
    SpanName(STEPS["subscribe"], "internal", "Opening the streams.", (*SERVER, ERROR_TYPE)),
    SpanName(OTHER_STEP, "internal", "Any other step.", (*SERVER, ERROR_TYPE)),
    SpanName(
        CONNECTION,
        "internal",
        "The life of a connection, written at its end; its span events are the changes of state and the missed heartbeats.",
        (*SERVER, CONNECTION_ID, STATUS_CODE, ERROR_TYPE, EVENTS, LAST_EVENT),
    ),
    *(
        SpanName(method, "client", f"The life of the stream of {stream}, written at its end.", (*_RPC, STREAM, EVENTS))
        for stream, method in WATCH.items()
    ),
)

STATE_CHANGED, HEARTBEAT_MISSED = "otelbridge.state_changed", "otelbridge.heartbeat_missed"
SPAN_EVENTS: Mapping[str, tuple[str, ...]] = {STATE_CHANGED: (STATE, REASON), HEARTBEAT_MISSED: (MISSES, REASON)}
"""Events of the span of a connection, and their attributes."""


_SUFFIX_BY_UNIT = {"s": "_seconds", "By": "_bytes"}
"""Units that the Prometheus exporter puts into a name; annotations such as `{event}` are left out (a plain `1` would become `_ratio` in some translations)."""
_COUNTERS = frozenset({InstrumentKind.COUNTER, InstrumentKind.OBSERVABLE_COUNTER})


def prometheus_name(instrument: Instrument) -> str:
    """The name on /metrics: what a dashboard asks for. A histogram's has `_bucket`, `_sum` and `_count` beside it."""
    total = "_total" if instrument.kind in _COUNTERS else ""
    return instrument.name.replace(".", "_") + _SUFFIX_BY_UNIT.get(instrument.unit, "") + total


def prometheus_label(attribute: str) -> str:
    """The label that an attribute becomes on /metrics."""
    return attribute.replace(".", "_")


def metrics_table_markdown() -> str:
    """One row per metric."""
    rows = (
        (
            f"`{i.name}`",
            f"`{prometheus_name(i)}`",
            i.kind.value,
            f"`{i.unit}`",
            ", ".join(f"`{a}`" for a in i.attributes),
            i.description,
        )
        for i in INSTRUMENTS.values()
    )
    return _table(("metric", "on /metrics", "instrument", "unit", "attributes", "meaning"), rows)


def spans_table_markdown() -> str:
    """One row per kind of span."""
    rows = (
        (f"`{span.name}`", span.kind, ", ".join(f"`{a}`" for a in span.attributes), span.description) for span in SPANS
    )
    return _table(("span", "kind", "attributes", "meaning"), rows)


def log_lines_table_markdown() -> str:
    """One row per sentence that the bridge can log."""
    rows = (
        (f"`{event_name(kind)}`", row.level.name.lower(), row.sentence, ", ".join(f"`{r}`" for r in row.reason))
        for kind, rows in MESSAGES.items()
        for row in rows
    )
    return _table(("event", "level", "sentence", "limited by"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
