"""The SDK's providers and exporters of spans and metrics; nothing global is set, endings keep their deadline.

The SDK's own shutdown waits for an export that is under way, up to its timeout and beyond: it runs in a thread that is
left behind when the deadline has passed. All threads of the SDK are daemons, so nothing holds up the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

import grpc
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult

from otelbridge.telemetry.metrics import weighted_histograms
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings

Headers = Callable[[], Mapping[str, str]]
"""Those to send now, beside the configured ones; asked before each export, from any thread, and never raises."""
T = TypeVar("T", SpanExporter, MetricExporter)


def no_headers() -> Mapping[str, str]:
    """No further headers."""
    return {}


class Reloading(Generic[T]):
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


class ReloadingSpanExporter(SpanExporter):
    """The SDK's interface on top of it."""

    def __init__(self, reloading: Reloading[SpanExporter]) -> None:
        self._reloading = reloading

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """With the exporter of the moment."""
        return self._reloading.current().export(spans)

    def shutdown(self) -> None:
        """Ends the exporter of the moment, and its waiting between two tries."""
        self._reloading.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back."""
        return self._reloading.exporter.force_flush(timeout_millis)


class ReloadingMetricExporter(MetricExporter):
    """The SDK's interface on top of it."""

    def __init__(self, reloading: Reloading[MetricExporter]) -> None:
        made = reloading.exporter
        super().__init__(made._preferred_temporality, made._preferred_aggregation)  # noqa: SLF001 - as the SDK's readers do
        self._reloading = reloading

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any) -> MetricExportResult:
        """With the exporter of the moment."""
        return self._reloading.current().export(metrics_data, timeout_millis, **more)

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
        """Ends the exporter of the moment."""
        self._reloading.exporter.shutdown(timeout_millis, **more)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept back."""
        return self._reloading.exporter.force_flush(timeout_millis)


DEFAULT_GRPC_ENDPOINT = "http://localhost:4317"
DEFAULT_HTTP_ENDPOINT = "http://localhost:4318"


def addressed(signal: SignalSettings, path: str) -> SignalSettings:
    """The settings with OTLP's own default endpoint where there is none; the loader has put the events' server there.

    Args:
        signal: what the operator said about the signal.
        path: `/v1/traces` or `/v1/metrics`, for HTTP.
    """
    default = DEFAULT_GRPC_ENDPOINT if signal.protocol == "grpc" else DEFAULT_HTTP_ENDPOINT + path
    return signal if signal.endpoint else signal.model_copy(update={"endpoint": default})


def span_exporter(
    signal: SignalSettings, *, place: str, console: TextIO, headers: Headers = no_headers
) -> SpanExporter | None:
    """The exporter of spans, None for `none`.

    Args:
        signal: what the operator said about the signal.
        place: where, for errors.
        console: where the console's exporter writes.
        headers: further headers, asked before each export.

    Raises:
        ValueError: a certificate or key cannot be read; the message names `place` and the file.
    """
    match signal.exporter, signal.protocol:
        case "none", _:
            return None
        case "console", _:
            return ConsoleSpanExporter(out=console, formatter=lambda span: span.to_json(indent=None) + "\n")
        # Each is imported where it is used: it is memory that only those should pay who use it.
        case _, "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc  # noqa: PLC0415

            make: Callable[..., SpanExporter] = by_grpc.OTLPSpanExporter
            arguments = _grpc
        case _:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http  # noqa: PLC0415

            make, arguments = by_http.OTLPSpanExporter, _http
    files = (signal.ca_file, signal.cert_file, signal.key_file)
    return ReloadingSpanExporter(
        Reloading(lambda lent: make(**arguments(signal, place, lent)), headers=headers, files=files)
    )


def metric_exporter(
    signal: SignalSettings, *, place: str, console: TextIO, headers: Headers = no_headers
) -> MetricExporter | None:
    """The exporter of metrics, None for `none`; the arguments are those of `span_exporter`.

    Raises:
        ValueError: a certificate or key cannot be read; the message names `place` and the file.
    """
    match signal.exporter, signal.protocol:
        case "none", _:
            return None
        case "console", _:
            return ConsoleMetricExporter(out=console, formatter=lambda data: data.to_json(indent=None) + "\n")
        case _, "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as by_grpc  # noqa: PLC0415 - as above

            make: Callable[..., MetricExporter] = by_grpc.OTLPMetricExporter
            arguments = _grpc
        case _:
            from opentelemetry.exporter.otlp.proto.http import metric_exporter as by_http  # noqa: PLC0415 - as above

            make, arguments = by_http.OTLPMetricExporter, _http
    files = (signal.ca_file, signal.cert_file, signal.key_file)
    return ReloadingMetricExporter(
        Reloading(lambda lent: make(**arguments(signal, place, lent)), headers=headers, files=files)
    )


def _grpc(signal: SignalSettings, place: str, lent: Mapping[str, str]) -> dict[str, Any]:
    scheme = signal.endpoint.partition("://")[0]
    insecure = {"http": True, "https": False}.get(scheme, bool(signal.insecure))
    credentials = None
    if not insecure:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_read(signal.ca_file, f"{place}.ca_file"),
            private_key=_read(signal.key_file, f"{place}.key_file"),
            certificate_chain=_read(signal.cert_file, f"{place}.cert_file"),
        )
    return {
        "endpoint": signal.endpoint,
        "insecure": insecure,
        "credentials": credentials,
        "headers": {name.lower(): value for name, value in signal.headers.items()} | dict(lent),
        "timeout": signal.timeout_seconds,
        "compression": grpc.Compression.Gzip if signal.compression == "gzip" else grpc.Compression.NoCompression,
    }


def _http(signal: SignalSettings, place: str, lent: Mapping[str, str]) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - as above

    files = {"certificate_file": "ca_file", "client_key_file": "key_file", "client_certificate_file": "cert_file"}
    for name in files.values():
        _read(getattr(signal, name), f"{place}.{name}")  # the exporter itself would only fail at its first request
    return {
        "endpoint": signal.endpoint,
        "headers": {name.lower(): value for name, value in signal.headers.items()} | dict(lent),
        "timeout": signal.timeout_seconds,
        "compression": Compression(signal.compression),
        **{argument: getattr(signal, name) or None for argument, name in files.items()},
    }


def _read(path: str, place: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{place}: cannot read {path}: {error.strerror}") from error


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
            readers,
            resource=resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            views=[weighted_histograms()],
            shutdown_on_exit=False,
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
