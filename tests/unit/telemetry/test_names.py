from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs import declared, tables
from k8s.dashboards.queries import prometheus_label, prometheus_name
from otelbridge.status.components import INSTRUMENTS, OBSERVED
from otelbridge.telemetry import events as e
from otelbridge.telemetry import names as n
from otelbridge.telemetry.metrics import (
    COUNTS,
    OBSERVABLE,
    InstrumentKind,
    counts,
)
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings
from otelbridge.telemetry.telemetry import Telemetry
from tests.unit.telemetry.examples import TYPES, example

QUIET = SignalSettings(exporter="none")
VARIANTS: list[e.Event] = [
    *(example(kind) for kind in TYPES),
    example(e.ConnectionAttempted, status_code="OK"),
    example(e.BatchAccepted, rejected=0),
    example(e.BatchAccepted, records=10, rejected=2),
    example(e.DeliveryHeld),
    example(e.BatchAccepted),
]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    opened = Telemetry(
        TelemetrySettings(traces=QUIET, metrics=QUIET), version="1", instance_id="i", stderr=io.StringIO()
    )
    yield opened
    opened.close(2)


@pytest.mark.parametrize("kind", COUNTS)
def test_what_is_counted_is_declared_with_its_attributes(kind: type) -> None:
    for happening in (one for one in VARIANTS if type(one) is kind):
        for name, amount, attributes, _ in counts(happening):
            declared = INSTRUMENTS[name]
            assert declared.kind in {InstrumentKind.COUNTER, InstrumentKind.HISTOGRAM}
            assert set(attributes) <= set(declared.attributes)
            assert amount >= 0


def test_every_counter_and_histogram_that_is_declared_is_counted_somewhere() -> None:
    counted = {count.instrument for happening in VARIANTS for count in counts(happening)}

    assert counted == {i.name for i in INSTRUMENTS.values() if i.kind not in OBSERVABLE}


def test_every_name_on_metrics_is_the_one_in_the_table(telemetry: Telemetry) -> None:
    for instrument in OBSERVED:
        attributes = dict.fromkeys(instrument.attributes, "x")
        telemetry.observe(instrument, lambda attributes=attributes: [(1, attributes)])  # type: ignore[misc]
    for happening in VARIANTS:
        telemetry.tell(happening)
    assert telemetry.settle(5)

    found = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in text_string_to_metric_families(telemetry.prometheus().decode())
    }
    found.pop("target_info")
    assert set(found) == {prometheus_name(i) for i in INSTRUMENTS.values()}
    for instrument in INSTRUMENTS.values():
        assert found[prometheus_name(instrument)] <= {prometheus_label(a) for a in instrument.attributes}


def test_what_is_counted_cannot_be_observed(telemetry: Telemetry) -> None:
    with pytest.raises(ValueError, match="not observable"):
        telemetry.observe(INSTRUMENTS["otelbridge.source.gaps"], list)


def test_an_instrument_has_one_reader(telemetry: Telemetry) -> None:
    size = INSTRUMENTS["otelbridge.buffer.size"]
    telemetry.observe(size, lambda: [(1, {})])

    with pytest.raises(ValueError, match="bound already"):
        telemetry.observe(size, lambda: [(2, {})])


def test_names_follow_the_conventions() -> None:
    for instrument in INSTRUMENTS.values():
        assert not instrument.name.endswith("_total")
        assert instrument.name == instrument.name.lower()
        assert instrument.description.endswith(".")
        assert instrument.unit in {"s", "By", "1"} or instrument.unit.startswith("{")
        assert (instrument.kind is InstrumentKind.HISTOGRAM) == bool(instrument.buckets)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("relay:32767", {"server.address": "relay", "server.port": 32767}),
        ("10.0.0.1:80", {"server.address": "10.0.0.1", "server.port": 80}),
        ("[2001:db8::1]:443", {"server.address": "2001:db8::1", "server.port": 443}),
        ("2001:db8::1", {"server.address": "2001:db8::1"}),
        ("http://collector:4318/v1/logs", {"server.address": "collector", "server.port": 4318}),
        ("https://otlp.example.com/v1/logs", {"server.address": "otlp.example.com"}),
        ("console", {"server.address": "console"}),
        ("", {"server.address": ""}),
    ],
)
def test_an_address_is_taken_apart(address: str, expected: dict[str, object]) -> None:
    assert n.server(address) == expected


def test_the_tables_have_a_row_for_each_name() -> None:
    metrics, spans = tables.metrics(), tables.spans()

    assert all(f"| `{name}` |" in metrics for name in INSTRUMENTS)
    assert all(f"| `{span.name}` |" in spans for span in declared.SPANS)
    assert "`otelbridge_source_gap_time_seconds_total`" in metrics
