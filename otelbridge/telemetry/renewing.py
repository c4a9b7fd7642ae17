"""Exporters of the SDK, made anew when the headers or the files that they were made with are others.

The SDK's exporters take headers and certificates once, for their whole life; tokens and certificates live for less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

Headers = Callable[[], Mapping[str, str]]
"""Those to send now, beside the configured ones; asked before each export, from any thread, and never raises."""
T = TypeVar("T", SpanExporter, MetricExporter)


def no_headers() -> Mapping[str, str]:
    """No further headers."""
    return {}


class Renewed(Generic[T]):
    """The exporter to use now.

    Args:
        make: makes one with these headers, reading the files.
        headers: the headers to make it with.
        files: what it is made of beside them.
    """

    def __init__(self, make: Callable[[Mapping[str, str]], T], *, headers: Headers, files: Sequence[str]) -> None:
        self._make: Callable[[Mapping[str, str]], T] = make
        self._headers, self._files = headers, [Path(file) for file in files if file]
        self._lock = threading.Lock()
        self._made_of = self._look()
        self.exporter: T = make(headers())

    def current(self) -> T:
        """The exporter, made anew if it has to be; the present one while the files cannot be used."""
        with self._lock:
            made_of = self._look()
            if made_of is None or made_of == self._made_of:
                return self.exporter
            try:
                new = self._make(self._headers())
            except ValueError:
                return self.exporter
            old, self.exporter, self._made_of = self.exporter, new, made_of
        old.shutdown()
        return new

    def _look(self) -> tuple[object, ...] | None:
        try:
            return dict(self._headers()), *(file.read_bytes() for file in self._files)
        except OSError:
            return None


class RenewedSpanExporter(SpanExporter):
    """The SDK's interface on top of it."""

    def __init__(self, renewed: Renewed[SpanExporter]) -> None:
        self._renewed = renewed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """With the exporter of the moment."""
        return self._renewed.current().export(spans)

    def shutdown(self) -> None:
        """Ends the exporter of the moment, and its waiting between two tries."""
        self._renewed.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back."""
        return self._renewed.exporter.force_flush(timeout_millis)


class RenewedMetricExporter(MetricExporter):
    """The SDK's interface on top of it."""

    def __init__(self, renewed: Renewed[MetricExporter]) -> None:
        made = renewed.exporter
        super().__init__(made._preferred_temporality, made._preferred_aggregation)  # noqa: SLF001 - as the SDK's readers do
        self._renewed = renewed

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any) -> MetricExportResult:
        """With the exporter of the moment."""
        return self._renewed.current().export(metrics_data, timeout_millis, **more)

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
        """Ends the exporter of the moment."""
        self._renewed.exporter.shutdown(timeout_millis, **more)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept back."""
        return self._renewed.exporter.force_flush(timeout_millis)
