"""Settings go in, the SDK's two providers come out; nothing global is set, and endings keep their deadline.

The SDK's own shutdown waits for an export that is under way, up to its timeout and beyond: it runs in a thread that is
left behind when the deadline has passed. All threads of the SDK are daemons, so nothing holds up the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otelbridge.telemetry.exporters import addressed, metric_exporter, span_exporter
from otelbridge.telemetry.renewing import Headers, no_headers
from otelbridge.telemetry.settings import TelemetrySettings

MILLISECONDS = 1000
LOGGER = "opentelemetry.otelbridge"
"""Under the SDK's own name, so that the listener for libraries hears it."""


class Providers:
    """The providers of spans and metrics, and their endings."""

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        identity: Mapping[str, str],
        pull: MetricReader,
        console: TextIO,
        lent: Mapping[str, Headers],
    ) -> None:
        """Opens them.

        Args:
            settings: what the operator said.
            identity: resource attributes beside the operator's, which win.
            pull: the reader behind /metrics.
            console: where the `console` exporters write.
            lent: further headers, for `traces` and `metrics`.

        Raises:
            ValueError: a certificate or key cannot be read.
        """
        resource = Resource.create({"service.name": settings.service_name, **identity, **settings.resource_attributes})
        traces = addressed(settings.traces, "/v1/traces")
        metrics = addressed(settings.metrics, "/v1/metrics")
        self._span_exporter: SpanExporter | None = None
        readers: list[MetricReader] = []
        if not settings.disabled:
            self._span_exporter = span_exporter(
                traces, place="telemetry.traces", console=console, headers=lent.get("traces", no_headers)
            )
            readers.append(pull)
            push = metric_exporter(
                metrics, place="telemetry.metrics", console=console, headers=lent.get("metrics", no_headers)
            )
            if push is not None:
                readers.append(
                    PeriodicExportingMetricReader(
                        push,
                        export_interval_millis=settings.metrics_interval_seconds * MILLISECONDS,
                        export_timeout_millis=metrics.timeout_seconds * MILLISECONDS,
                    )
                )
        self.meters = MeterProvider(
            readers, resource=resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False, meter_provider=self.meters)
        if self._span_exporter is not None:
            self.tracers.add_span_processor(BatchSpanProcessor(self._span_exporter, meter_provider=self.meters))

    def flush(self, timeout_seconds: float) -> bool:
        """Exports what waits; False when that was not done in time."""
        return _within(timeout_seconds, self.tracers.force_flush, self.meters.force_flush)

    def close(self, timeout_seconds: float) -> bool:
        """Exports what waits and closes; False when something had to be left behind."""
        done = _within(
            timeout_seconds,
            self.tracers.shutdown,
            lambda: self.meters.shutdown(timeout_millis=timeout_seconds * MILLISECONDS),
        )
        if not done and self._span_exporter is not None:
            self._span_exporter.shutdown()  # ends the waiting between its tries
        return done


def _within(timeout_seconds: float, *endings: Callable[[], object]) -> bool:
    deadline = time.monotonic() + timeout_seconds
    threads = [threading.Thread(target=_quietly(ending), name="otelbridge-flush", daemon=True) for ending in endings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(ending: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            ending()
        except Exception as error:  # noqa: BLE001 - the SDK raises bare Exception; it is logged, which our listener tells
            logging.getLogger(LOGGER).warning("Telemetry could not be flushed: %s", error)

    return run
