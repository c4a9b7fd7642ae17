"""Checks what tests see against the published contract, `docs/registry/`: names, types and kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from docs.declared import PROCESS_EVENT_KEYS, PROCESS_SPAN_KEYS, SPAN_EVENTS, SPANS, Type
from docs.registry_files import EVENT_NAMES, TYPES
from k8s.dashboards.queries import prometheus_label, prometheus_name
from otelbridge.mapping.wire import SCOPE_NAME
from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry.metrics import InstrumentKind
from otelbridge.telemetry.names import OVERFLOW, SCOPE

_TEMPLATES = tuple(key + "." for key, kind in TYPES.items() if kind is Type.STRING_TEMPLATE)
_KINDS = {
    "string_value": Type.STRING, "int_value": Type.INT, "double_value": Type.DOUBLE, "bool_value": Type.BOOLEAN,
}  # fmt: skip
_OURS = ("kubearmor.", "otelbridge.", "security_rule.", "process.", "file.", "network.")
_SPANS = {span.name: span for span in SPANS}
_DATA = {
    InstrumentKind.COUNTER: ("sum", True),
    InstrumentKind.OBSERVABLE_COUNTER: ("sum", True),
    InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER: ("sum", False),
    InstrumentKind.OBSERVABLE_GAUGE: ("gauge", None),
    InstrumentKind.HISTOGRAM: ("histogram", None),
}
_TEXT_TYPES = {
    InstrumentKind.COUNTER: "counter",
    InstrumentKind.OBSERVABLE_COUNTER: "counter",
    InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER: "gauge",
    InstrumentKind.OBSERVABLE_GAUGE: "gauge",
    InstrumentKind.HISTOGRAM: "histogram",
}
_BY_SERIES = {prometheus_name(instrument): instrument for instrument in INSTRUMENTS.values()}
_PROMETHEUS_LABELS = frozenset({"__name__", "instance", "job", "le"})


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


def process_span_breaches(span: Span) -> list[str]:
    """What the span of a process has that it may not have."""
    strange = [pair.key for pair in span.attributes if pair.key not in PROCESS_SPAN_KEYS]
    strange += [pair.key for event in span.events for pair in event.attributes if pair.key not in PROCESS_EVENT_KEYS]
    strange += [event.name for event in span.events if event.name not in EVENT_NAMES]
    return strange + breaches(span.attributes) + [b for event in span.events for b in breaches(event.attributes)]


def breaches_in_spans(body: bytes) -> set[str]:
    """Of a request."""
    found: set[str] = set()
    for per_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for per_scope in per_resource.scope_spans:
            judge = _SPAN_JUDGES.get(per_scope.scope.name)
            if judge is not None:
                found.update(breaches(per_resource.resource.attributes, given=True))
                for span in per_scope.spans:
                    found.update(judge(span))
    return found


def span_breaches(span: Span) -> list[str]:
    """What a span has that its kind may not have."""
    declared = _SPANS.get(span.name)
    if declared is None:
        return [f"span {span.name}"]
    wrong = breaches(span.attributes)
    if Span.SpanKind.Name(span.kind) != f"SPAN_KIND_{declared.kind.upper()}":
        wrong.append(f"{span.name} is not of kind {declared.kind}")
    wrong += [f"{span.name} has {pair.key}" for pair in span.attributes if pair.key not in declared.attributes]
    for event in span.events:
        allowed = SPAN_EVENTS.get(event.name)
        wrong += breaches(event.attributes)
        if allowed is None:
            wrong.append(f"event {event.name}")
        else:
            wrong += [f"{event.name} has {pair.key}" for pair in event.attributes if pair.key not in allowed]
    return wrong


_SPAN_JUDGES = {SCOPE: span_breaches, SCOPE_NAME: process_span_breaches}


def breaches_in_metrics(body: bytes) -> set[str]:
    """Of a request."""
    found: set[str] = set()
    for per_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for per_scope in per_resource.scope_metrics:
            if per_scope.scope.name == SCOPE:
                found.update(breaches(per_resource.resource.attributes, given=True))
                for metric in per_scope.metrics:
                    found.update(metric_breaches(metric))
    return found


def metric_breaches(metric: Metric) -> list[str]:
    """What a metric has that its instrument may not have."""
    instrument = INSTRUMENTS.get(metric.name)
    if instrument is None:
        return [f"metric {metric.name}"]
    data = metric.WhichOneof("data") or "gauge"
    points = getattr(metric, data)
    wrong = [] if metric.unit == instrument.unit else [f"{metric.name} is in {metric.unit}, not {instrument.unit}"]
    if (data, getattr(points, "is_monotonic", None)) != _DATA[instrument.kind]:
        wrong.append(f"{metric.name} is no {instrument.kind}")
    for point in points.data_points:
        wrong += breaches(point.attributes)
        wrong += [
            f"{metric.name} has {pair.key}"
            for pair in point.attributes
            if pair.key not in (*instrument.attributes, OVERFLOW)
        ]
    return wrong


def breaches_in_text(text: str) -> set[str]:
    """Of what /metrics says."""
    found: set[str] = set()
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        if name == "target_info":
            continue
        instrument = _BY_SERIES.get(name)
        if instrument is None:
            found.add(f"series {name}")
        elif family.type != _TEXT_TYPES[instrument.kind]:
            found.add(f"{name} is a {family.type}, and a {instrument.kind} in the registry")
        else:
            found.update(label for one in family.samples for label in label_breaches(name, one.labels))
    return found


def label_breaches(series: str, labels: Iterable[str]) -> list[str]:
    """Labels that a series of ours may not have; those that Prometheus gives are nobody's."""
    name = re.sub("_(bucket|sum|count)$", "", series)
    instrument = _BY_SERIES.get(series) or _BY_SERIES.get(name)
    if instrument is None:
        return [f"series {series}"] if series.startswith("otelbridge_") else []
    allowed = {prometheus_label(attribute) for attribute in (*instrument.attributes, OVERFLOW)} | _PROMETHEUS_LABELS
    return [f"{series} has {label}" for label in labels if label not in allowed]
