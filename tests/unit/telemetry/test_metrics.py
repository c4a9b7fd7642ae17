from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry import events as e
from otelbridge.telemetry.metrics import Instruments, Weighted, views
from otelbridge.telemetry.names import NODE, SCOPE
from tests.unit.telemetry.examples import example


def points(reader: InMemoryMetricReader) -> dict[str, HistogramDataPoint]:
    data = reader.get_metrics_data()
    assert data is not None
    found = [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
    return {
        metric.name: point
        for metric in found
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint)
    }


def test_one_call_records_as_many_measurements_as_it_stands_for() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=views(), shutdown_on_exit=False)
    histogram = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    histogram.record(0.5)
    histogram.record(Weighted(1.5, 999))
    point = points(reader)["h"]
    assert (point.count, list(point.bucket_counts)) == (1000, [1, 999, 0])
    assert point.sum == pytest.approx(0.5 + 999 * 1.5)
    provider.shutdown()


def test_the_lags_of_events_and_of_deliveries_are_counted_by_event() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=views(), shutdown_on_exit=False)
    instruments = Instruments(provider.get_meter(SCOPE))
    instruments.count(example(e.EventsEncoded, lags=((0.2, 16), (0.24, 4), (40.0, 16))))
    instruments.count(example(e.BatchAccepted, records=500, rejected=1, age_seconds=3.0))
    instruments.flush()
    found = points(reader)
    provider.shutdown()
    received, accepted = found["otelbridge.source.event.lag"], found["otelbridge.delivery.event.lag"]
    assert received.count == 36
    assert received.sum == pytest.approx(0.2 * 16 + 0.24 * 4 + 40 * 16)
    assert received.bucket_counts[INSTRUMENTS["otelbridge.source.event.lag"].buckets.index(0.25)] == 20
    assert accepted.count == 499
    assert accepted.sum == pytest.approx(499 * 3.0)


def test_nodes_that_come_and_go_are_all_shown_while_they_are_there() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=views(), shutdown_on_exit=False)
    instruments = Instruments(provider.get_meter(SCOPE))
    generation = 0
    instruments.observe(
        INSTRUMENTS["otelbridge.source.node.last_seen"],
        lambda: [(1.0, {NODE: f"n{generation}-{i}"}) for i in range(900)],
    )
    for generation in range(5):
        data = reader.get_metrics_data()
        assert data is not None
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        shown = {str((point.attributes or {}).get(NODE)) for point in metric.data.data_points}
        assert shown == {f"n{generation}-{i}" for i in range(900)}
    provider.shutdown()
