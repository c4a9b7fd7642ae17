"""The series names and labels under which Prometheus sees the bridge's metrics: what the exporter makes of them."""

from __future__ import annotations

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.core import REGISTRY

from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry.metrics import Instrument, InstrumentKind


def exported() -> dict[str, set[str]]:
    """Series name to label names, of every instrument that the bridge declares."""
    reader = PrometheusMetricReader(disable_target_info=True)
    try:
        provider = MeterProvider([reader], shutdown_on_exit=False)
        for instrument in INSTRUMENTS.values():
            use(provider, instrument)
        registry = CollectorRegistry()
        registry.register(reader._collector)
        found: dict[str, set[str]] = {}
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        provider.shutdown()
        return found
    finally:
        if reader._collector in REGISTRY._collector_to_names:
            REGISTRY.unregister(reader._collector)


def use(provider: MeterProvider, instrument: Instrument) -> None:
    """Makes the instrument and records one value with every attribute."""
    meter = provider.get_meter("otelbridge")
    attributes = dict.fromkeys(instrument.attributes, "x")
    described = (instrument.unit, instrument.description)

    def observe(_: CallbackOptions) -> list[Observation]:
        return [Observation(1, attributes)]

    match instrument.kind:
        case InstrumentKind.COUNTER:
            meter.create_counter(instrument.name, *described).add(1, attributes)
        case InstrumentKind.HISTOGRAM:
            meter.create_histogram(instrument.name, *described).record(1, attributes)
        case InstrumentKind.OBSERVABLE_COUNTER:
            meter.create_observable_counter(instrument.name, [observe], *described)
        case InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER:
            meter.create_observable_up_down_counter(instrument.name, [observe], *described)
        case InstrumentKind.OBSERVABLE_GAUGE:
            meter.create_observable_gauge(instrument.name, [observe], *described)
