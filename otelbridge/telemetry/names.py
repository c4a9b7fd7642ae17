"""Names the attributes and spans that the bridge emits about itself.

Names follow OpenTelemetry's rules: no `_total`, units in UCUM, plural only for what can be counted. No attribute ever
takes its values from a process, a path or a pod: what an attacker can choose must not make series.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
CONNECTION_ID = "otelbridge.connection.id"
ATTEMPT = "otelbridge.attempt"
EVENTS = "otelbridge.events"
LAST_EVENT = "otelbridge.last_event.time"
MISSES = "otelbridge.heartbeat.misses"

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

STATE_CHANGED, HEARTBEAT_MISSED = "otelbridge.state_changed", "otelbridge.heartbeat_missed"
