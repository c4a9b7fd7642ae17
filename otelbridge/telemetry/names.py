"""Declares the attributes and spans that the bridge emits about itself, and the docs' tables of spans and log lines.

Names follow OpenTelemetry's rules: no `_total`, units in UCUM, plural only for what can be counted. No attribute ever
takes its values from a process, a path or a pod: what an attacker can choose must not make series.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otelbridge.event import LOG_SERVICE, STREAMS, UPSTREAM_STREAMS

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
COVERAGE_KIND = "otelbridge.coverage.kind"
COVERAGE_ANSWER = "otelbridge.coverage.answer"
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
    SpanName(STEPS["resolve"], "internal", "The DNS lookup.", (*SERVER, ERROR_TYPE)),
    SpanName(STEPS["connect"], "internal", "The TCP connection.", (*SERVER, ERROR_TYPE)),
    SpanName(STEPS["tls"], "internal", "The TLS handshake.", (*SERVER, ERROR_TYPE)),
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
