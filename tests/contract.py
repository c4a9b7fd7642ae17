"""Checks what tests see against the published contract, `docs/registry/`: names, types and kinds."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from docs.registry_files import EVENT_NAMES, TYPES
from otelbridge.mapping.fields import Type
from otelbridge.mapping.request import SCOPE_NAME
from otelbridge.telemetry.names import INSTRUMENTS, SCOPE, SPANS

_TEMPLATES = tuple(key + "." for key, kind in TYPES.items() if kind is Type.STRING_TEMPLATE)
_KINDS = {
    "string_value": Type.STRING, "int_value": Type.INT, "double_value": Type.DOUBLE, "bool_value": Type.BOOLEAN,
}  # fmt: skip
_OURS = ("kubearmor.", "otelbridge.", "security_rule.", "process.", "file.", "network.")
_SPAN_NAMES = frozenset(span.name for span in SPANS)


def type_of(value: AnyValue) -> Type | None:
    """The value's type in the registry's words; None for one that no attribute of ours may have."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        texts = all(item.WhichOneof("value") == "string_value" for item in value.array_value.values)
        return Type.STRINGS if texts else None
    return _KINDS.get(kind or "")


def breaches(pairs: Iterable[KeyValue], *, given: bool = False) -> list[str]:
    """Attributes that the registry does not have, or has with another type.

    Args:
        pairs: the attributes.
        given: an operator may have added some, of other namespaces than ours.
    """
    found = []
    for pair in pairs:
        wanted = Type.STRING if pair.key.startswith(_TEMPLATES) else TYPES.get(pair.key)
        if wanted is None and given and not pair.key.startswith(_OURS):
            continue
        if wanted is None or type_of(pair.value) is not wanted:
            found.append(f"{pair.key} is {type_of(pair.value)}, and {wanted or 'nothing'} in the registry")
    return found


def record_breaches(record: LogRecord) -> list[str]:
    """What a record has that its event may not have."""
    unknown = [] if record.event_name in EVENT_NAMES else [f"event {record.event_name}"]
    return unknown + breaches(record.attributes)


def breaches_in_logs(body: bytes) -> set[str]:
    """Of a request; records of other scopes are not ours."""
    found: set[str] = set()
    for per_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for per_scope in per_resource.scope_logs:
            if per_scope.scope.name == SCOPE_NAME:
                found.update(breaches(per_resource.resource.attributes, given=True))
                found.update(breaches(per_scope.scope.attributes))
                for record in per_scope.log_records:
                    found.update(record_breaches(record))
    return found


def breaches_in_spans(body: bytes) -> set[str]:
    """Of a request."""
    return {
        breach
        for per_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for per_scope in per_resource.scope_spans
        if per_scope.scope.name == SCOPE
        for span in per_scope.spans
        for breach in (
            *([] if span.name in _SPAN_NAMES else [f"span {span.name}"]),
            *breaches(span.attributes),
        )
    }


def breaches_in_metrics(body: bytes) -> set[str]:
    """Of a request."""
    return {
        breach
        for per_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for per_scope in per_resource.scope_metrics
        if per_scope.scope.name == SCOPE
        for metric in per_scope.metrics
        for breach in metric_breaches(metric)
    }


def metric_breaches(metric: Metric) -> list[str]:
    """What a metric has that its instrument may not have."""
    instrument = INSTRUMENTS.get(metric.name)
    if instrument is None:
        return [f"metric {metric.name}"]
    points = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
    wrong = [] if metric.unit == instrument.unit else [f"{metric.name} is in {metric.unit}, not {instrument.unit}"]
    for point in points:
        wrong += breaches(point.attributes)
        wrong += [f"{metric.name} has {pair.key}" for pair in point.attributes if pair.key not in instrument.attributes]
    return wrong
