"""/metrics against OpenTelemetry's own Prometheus exporter: the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otelbridge.telemetry.exposition import PullReader

Observe = Callable[[CallbackOptions], Iterable[Observation]]
RESOURCE = Resource({"service.name": "a\nb", "process.command_args": ["x", 'y"z'], "n": 5, "ok": True})
VALUES = (0, 1, -1, 7, 0.1, 1e-9, 123456, 1234567, 1234567.25, 10_000_000, 2**53, 1.5e300, 1e21, -1e21, math.inf)


def texts(make: Callable[[Meter], None]) -> tuple[str, str]:
    """Ours and theirs, of the same metrics."""
    ours, registry = PullReader(), CollectorRegistry()
    theirs = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider([ours, theirs], resource=RESOURCE, shutdown_on_exit=False)
    make(provider.get_meter("otelbridge"))
    try:
        return ours.text().decode(), generate_latest(registry).decode()
    finally:
        provider.shutdown()


def observing(*values: float, **attributes: str) -> list[Observe]:
    return [lambda _: [Observation(value, {**attributes, "at": str(i)}) for i, value in enumerate(values)]]


def counters(meter: Meter) -> None:
    counter = meter.create_counter("otelbridge.events.seen", "{event}", 'how "many"\\ \n are there')
    counter.add(5, {"k8s.node.name": 'a"b\\c\nd', "é-": "ü", "list": ["a", "b"], "flag": True})
    counter.add(2**40)
    meter.create_counter("bytes.total.io", "By", "a size").add(1_048_576, {"x": "y"})


def gauges(meter: Meter) -> None:
    meter.create_observable_gauge("a.gauge", observing(*VALUES, zone="a"), "s", "a time")
    meter.create_observable_gauge("queue.bytes", observing(3), "By", "its unit is in its name")
    meter.create_observable_gauge("no.unit", observing(3), "1", "none")
    meter.create_observable_gauge("no.values", [lambda _: []], "s", "nothing there")
    meter.create_up_down_counter("up.down", "{thing}", "both ways").add(-3)
    meter.create_observable_up_down_counter("up.down.seen", observing(1, 2), "{thing}", "both ways")
    meter.create_observable_counter("seen", observing(1, 2.5), "s", "seconds seen")


def histograms(meter: Meter) -> None:
    histogram = meter.create_histogram(
        "took", "s", "how long", explicit_bucket_boundaries_advisory=[0.005, 1, 10, 2.5e7]
    )
    for value in (0.001, 0.5, 3, 1e9):
        histogram.record(value, {"rpc": "a"})
    histogram.record(2)


def nothing(_: Meter) -> None:
    return


@pytest.mark.parametrize("make", [counters, gauges, histograms, nothing])
def test_the_text_is_the_one_of_opentelemetrys_exporter(make: Callable[[Meter], None]) -> None:
    ours, theirs = texts(make)
    assert ours.splitlines() == theirs.splitlines()


def test_names_that_begin_with_a_digit_and_half_characters_do_not_make_all_metrics_unreadable() -> None:
    reader = PullReader()
    provider = MeterProvider([reader], resource=Resource({"1st": "a", "half": "\ud800"}), shutdown_on_exit=False)
    provider.get_meter("otelbridge").create_counter("seen").add(1, {"2nd": "b"})
    families = list(text_string_to_metric_families(reader.text().decode()))
    provider.shutdown()
    assert [sample.labels for family in families for sample in family.samples] == [
        {"_1st": "a", "half": "?"},
        {"_2nd": "b"},
    ]


def test_attributes_that_become_one_label_lose_no_value() -> None:
    reader = PullReader()
    provider = MeterProvider(
        [reader], resource=Resource({"a_b": "2", "a.b": "1", "a-b": "0", "c": "3"}), shutdown_on_exit=False
    )
    provider.get_meter("otelbridge").create_counter("seen").add(1, {"x.y": "m", "x_y": 5})
    text = reader.text().decode()
    provider.shutdown()
    assert 'target_info{a_b="0;1;2",c="3"} 1.0' in text
    assert 'seen_total{x_y="m;5"} 1.0' in text
