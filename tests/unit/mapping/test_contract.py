"""The names that records may have: few, typed, and none the beginning of another."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from docs.declared import ATTRIBUTES, SPANS, Type
from docs.registry_files import BY_SPECIFICATION, TYPES, files
from otelbridge.status.components import INSTRUMENTS
from tests.contract import breaches, breaches_in_text, metric_breaches, span_breaches


def test_no_key_is_the_beginning_of_another() -> None:
    keys = sorted(TYPES, key=lambda key: key.split("."))
    assert [(one, other) for one, other in pairwise(keys) if other.startswith(f"{one}.")] == []


def test_every_key_is_declared_once_and_fits_every_back_end() -> None:
    keys = [one.key for one in ATTRIBUTES]
    assert len(keys) == len(set(keys))
    taken = {"event_name", "severity_number", "severity_text", "trace_id", "span_id", "scope.name", "scope.version"}
    assert not taken & set(keys)
    assert all(key == key.lower() and key.isascii() and len(key) <= 64 for key in keys)


def test_every_example_is_of_its_type() -> None:
    kinds = {Type.STRING: str, Type.INT: int, Type.DOUBLE: float, Type.STRINGS: list, Type.STRING_TEMPLATE: str}
    for one in ATTRIBUTES:
        assert one.type is Type.BOOLEAN or isinstance(one.example, kinds[one.type]), one.key


def test_metrics_and_spans_use_declared_attributes_only() -> None:
    used = {key for one in INSTRUMENTS.values() for key in one.attributes}
    used |= {key for one in SPANS for key in one.attributes}
    assert used <= set(TYPES)


def test_the_registry_defines_what_is_ours_and_refers_to_the_rest() -> None:
    documents = [yaml.load(text, Loader=yaml.CSafeLoader) for text in files().values()]
    groups = [group for document in documents for group in document.get("groups", ())]
    ids = [group["id"] for group in groups]
    assert len(ids) == len(set(ids))
    attributes = [attribute for group in groups for attribute in group["attributes"]]
    defined = {attribute["id"] for attribute in attributes if "id" in attribute}
    referred = {attribute["ref"] for attribute in attributes if "ref" in attribute}
    assert referred == set(TYPES) - {"otelbridge.instance"} | {"otelbridge.instance"} & referred
    assert defined == {key for key in TYPES if key.startswith(("kubearmor.", "otelbridge."))} | BY_SPECIFICATION


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('# TYPE otelbridge_queue_size gauge\notelbridge_queue_size{kubearmor_stream="logs"} 1\n', set()),
        ('# TYPE otelbridge_queue_size gauge\notelbridge_queue_size{pod="p"} 1\n', {"otelbridge_queue_size has pod"}),
        ("# TYPE otelbridge_moods gauge\notelbridge_moods 1\n", {"series otelbridge_moods"}),
        (
            "# TYPE otelbridge_queue_size counter\notelbridge_queue_size_total 1\n",
            {"series otelbridge_queue_size_total"},
        ),
        (
            "# TYPE otelbridge_source_gaps_total gauge\notelbridge_source_gaps_total 1\n",
            {"otelbridge_source_gaps_total is a gauge, and a counter in the registry"},
        ),
    ],
)
def test_the_check_notices_a_series_or_a_label_on_metrics(text: str, found: set[str]) -> None:
    assert breaches_in_text(text) == found


def test_the_check_notices_what_a_span_may_not_have() -> None:
    span = Span(name="otelbridge.connect", kind=Span.SPAN_KIND_CLIENT)
    span.attributes.add(key="otelbridge.attempt").value.string_value = "1"
    span.attributes.add(key="kubearmor.stream").value.string_value = "alerts"
    span.events.add(name="otelbridge.mood_changed")
    assert span_breaches(span) == [
        "otelbridge.attempt is string, and int in the registry",
        "otelbridge.connect is not of kind internal",
        "otelbridge.connect has kubearmor.stream",
        "event otelbridge.mood_changed",
    ]
    assert span_breaches(Span(name="otelbridge.mood")) == ["span otelbridge.mood"]


def test_the_check_notices_what_a_metric_may_not_be() -> None:
    metric = Metric(name="otelbridge.queue.size", unit="1")
    metric.gauge.data_points.add().attributes.add(key="k8s.node.name").value.string_value = "n"
    assert metric_breaches(metric) == [
        "otelbridge.queue.size is in 1, not {record}",
        "otelbridge.queue.size is no observable up-down counter",
        "otelbridge.queue.size has k8s.node.name",
    ]


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("kubearmor.action", AnyValue(string_value="x"), True),
        ("kubearmor.action", AnyValue(int_value=1), False),
        ("kubearmor.tags", AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x")])), True),
        ("kubearmor.tags", AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)])), False),
        ("kubearmor.mood", AnyValue(string_value="x"), False),
        ("k8s.pod.label.app", AnyValue(string_value="x"), True),
        ("kubearmor.unknown_fields", AnyValue(bytes_value=b"x"), False),
    ],
)
def test_the_check_notices_a_key_or_a_type_that_is_not_in_the_registry(key: str, value: AnyValue, fits: bool) -> None:
    assert (breaches([KeyValue(key=key, value=value)]) == []) is fits
