"""The SDK's providers and exporters of spans and metrics; nothing global is set, endings keep their deadline.

The SDK's own shutdown waits for an export that is under way, up to its timeout and beyond: it runs in a thread that is
left behind when the deadline has passed. All threads of the SDK are daemons, so nothing holds up the process.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TextIO, TypeVar
from urllib.parse import urlsplit

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

from otelbridge.net.files import read_bounded
from otelbridge.net.proxy import Proxy, ProxySettings, grpc_options, proxy_for
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.metrics import views
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

Headers = Callable[[], Mapping[str, str]]
"""Those to send now, beside the configured ones; asked before each export, from any thread, and never raises."""
T = TypeVar("T", SpanExporter, MetricExporter)


def no_headers() -> Mapping[str, str]:
    """No further headers."""
    return {}


class Reloading(Generic[T]):
    """The exporter to use now: made with the headers of the moment, and again when they or the files have changed."""

    def __init__(
        self, make: Callable[[Mapping[str, str]], T], *, headers: Headers, files: Sequence[Path | None]
    ) -> None:
        self.source: tuple[Callable[[Mapping[str, str]], T], Headers, Sequence[Path | None]] = make, headers, files
        self._lock = threading.Lock()
        self.made_of = self._look()
        self._idle = False
        self._replaced: list[T] = []
        self.lent: Mapping[str, str] = headers()
        """What the exporter was made with."""
        self.exporter: T = make(self.lent)

    def replace(self, other: Self | None) -> None:
        """Uses the other's exporter from the next time on, or none at all."""
        with self._lock:
            self._idle = other is None
            if other is not None:
                self._replaced.append(self.exporter)
                self.exporter, self.made_of, self.source = other.exporter, other.made_of, other.source
                self.lent = other.lent

    def current(self) -> T | None:
        """The exporter, made anew if it has to be; the present one while the files cannot be used.

        Called by the thread that exports, when it does not: what was replaced ends here, and no export with it.
        """
        with self._lock:
            made_of = self._look()
            if made_of is not None and made_of != self.made_of:
                make, headers, _ = self.source
                with suppress(ValueError):
                    self.lent = headers()
                    new = make(self.lent)
                    self._replaced.append(self.exporter)
                    self.exporter, self.made_of = new, made_of
            replaced, self._replaced = self._replaced, []
            exporter = None if self._idle else self.exporter
        for old in replaced:
            old.shutdown()
        return exporter

    def _look(self) -> tuple[object, ...] | None:
        try:
            return dict(self.source[1]()), *(read_bounded(file) for file in self.source[2] if file)
        except OSError:
            return None


class ReloadingSpanExporter(SpanExporter):
    """The SDK's interface on top of it."""

    def __init__(self, reloading: Reloading[SpanExporter]) -> None:
        self.reloading = reloading

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """With the exporter of the moment; once more where it was replaced meanwhile. Without one they are dropped."""
        failed = None
        while (exporter := self.reloading.current()) is not None and exporter is not failed:
            if exporter.export(spans) is SpanExportResult.SUCCESS:
                return SpanExportResult.SUCCESS
            failed = exporter
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Ends the exporter of the moment, and its waiting between two tries."""
        self.reloading.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back."""
        return self.reloading.exporter.force_flush(timeout_millis)


class ReloadingMetricExporter(MetricExporter):
    """The SDK's interface on top of it."""

    def __init__(self, reloading: Reloading[MetricExporter]) -> None:
        made = reloading.exporter
        super().__init__(made._preferred_temporality, made._preferred_aggregation)  # noqa: SLF001 - as the SDK's readers do
        self.reloading = reloading

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any) -> MetricExportResult:
        """With the exporter of the moment; what fails is in the sums of the next time."""
        exporter = self.reloading.current()
        return exporter.export(metrics_data, timeout_millis, **more) if exporter else MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
        """Ends the exporter of the moment."""
        self.reloading.exporter.shutdown(timeout_millis, **more)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept back."""
        return self.reloading.exporter.force_flush(timeout_millis)


NO_PROXIES = ProxySettings()
SCHEME_PORTS = {"http": 80, "https": 443}


def _proxy(signal: SignalSettings, proxies: ProxySettings) -> Proxy | None:
    """The one between us and the endpoint, by the rules that the events' sender goes by."""
    scheme, separator, _ = signal.endpoint.partition("://")
    parts = urlsplit(signal.endpoint if separator else f"//{signal.endpoint}")
    tls = scheme == "https" if separator else not signal.insecure
    port = parts.port or SCHEME_PORTS["https" if tls else "http"]
    return proxy_for(parts.hostname or "", port, proxies, tls=tls)


def _grpc(signal: SignalSettings, place: str, lent: Mapping[str, str], proxies: ProxySettings) -> dict[str, Any]:
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
        "channel_options": tuple(grpc_options(_proxy(signal, proxies)).items()),
        "compression": grpc.Compression.Gzip if signal.compression == "gzip" else grpc.Compression.NoCompression,
    }


def _http(signal: SignalSettings, place: str, lent: Mapping[str, str], proxies: ProxySettings) -> dict[str, Any]:
    import requests  # noqa: PLC0415 - as above
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - as above

    files = {"certificate_file": "ca_file", "client_key_file": "key_file", "client_certificate_file": "cert_file"}
    for name in files.values():
        _read(getattr(signal, name), f"{place}.{name}")  # the exporter itself would only fail at its first request
    session = requests.Session()
    session.trust_env = False  # the variables are in the settings already, and are read there by all of their forms
    if proxy := _proxy(signal, proxies):
        session.proxies = dict.fromkeys(SCHEME_PORTS, proxy.url)
    return {
        "session": session,
        "endpoint": signal.endpoint,
        "headers": {name.lower(): value for name, value in signal.headers.items()} | dict(lent),
        "timeout": signal.timeout_seconds,
        "compression": Compression(signal.compression),
        **{argument: str(path) if (path := getattr(signal, name)) else None for argument, name in files.items()},
    }


def _read(path: Path | None, place: str) -> bytes | None:
    if path is None:
        return None
    try:
        return read_bounded(path)
    except OSError as error:
        raise ValueError(f"{place}: cannot read {path}: {error.strerror}") from error


MILLISECONDS = 1000
LOGGER = "opentelemetry.otelbridge"
"""Under the SDK's own name, so that the listener for libraries hears it."""


class Exporters(NamedTuple):
    """The exporters that settings ask for, opened and not used yet."""

    settings: TelemetrySettings
    spans: ReloadingSpanExporter | None
    metrics: ReloadingMetricExporter | None

    def secrets(self) -> list[str]:
        """The values of all headers that they send."""
        given = [signal.headers for signal in (self.settings.traces, self.settings.metrics)]
        lent = [exporter.reloading.lent for exporter in (self.spans, self.metrics) if exporter is not None]
        return [value for headers in (*given, *lent) for value in headers.values()]


def open_exporters(
    settings: TelemetrySettings, *, console: TextIO, lent: Mapping[str, Headers], proxies: ProxySettings = NO_PROXIES
) -> Exporters:
    """Opens the exporters that settings ask for, with headers lent to `traces` and `metrics`.

    The loader has put the events' server where no endpoint was given.

    Raises:
        ValueError: a certificate or key cannot be read; names the setting and the file.
    """
    if settings.disabled:
        return Exporters(settings, None, None)
    spans = _reloading(
        settings.traces,
        "traces",
        ConsoleSpanExporter(out=console, formatter=lambda span: span.to_json(indent=None) + "\n"),
        headers=lent.get("traces", no_headers),
        proxies=proxies,
    )
    metrics = _reloading(
        settings.metrics,
        "metrics",
        ConsoleMetricExporter(out=console, formatter=lambda data: data.to_json(indent=None) + "\n"),
        headers=lent.get("metrics", no_headers),
        proxies=proxies,
    )
    return Exporters(
        settings, ReloadingSpanExporter(spans) if spans else None, ReloadingMetricExporter(metrics) if metrics else None
    )


def _reloading(
    signal: SignalSettings, name: str, printer: Any, *, headers: Headers, proxies: ProxySettings
) -> Reloading[Any] | None:
    if signal.exporter == "none":
        return None
    if signal.exporter == "console":
        return Reloading(lambda _: printer, headers=no_headers, files=())
    protocol, arguments = ("grpc", _grpc) if signal.protocol == "grpc" else ("http", _http)
    kind, place = name.removesuffix("s"), f"telemetry.{name}"
    # Imported only where it is used: it takes memory.
    module = import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{kind}_exporter")
    make = module.OTLPSpanExporter if kind == "trace" else module.OTLPMetricExporter
    files = (signal.ca_file, signal.cert_file, signal.key_file)
    return Reloading(lambda lent: make(**arguments(signal, place, lent, proxies)), headers=headers, files=files)


class MetricsPush:
    """Collects and exports the metrics now and then, in a thread that starts with the first exporter.

    The SDK's reader has a thread of its own, whose interval cannot change, and its sums would begin anew with another
    reader.
    """

    def __init__(self, meters: MeterProvider, tell: Tell) -> None:
        self._meters = meters
        self._thread = SupervisedThread(
            "otelbridge-metrics", self._turn, tell=tell, pulse=Pulse("otelbridge-metrics", may_block=True)
        )
        self.pulse = self._thread.pulse
        self._collect: Callable[[], None] = lambda: None
        self._exporter: ReloadingMetricExporter | None = None
        self._reader: PeriodicExportingMetricReader | None = None
        self._interval_seconds = 0.0
        self._changed, self._ended = threading.Event(), threading.Event()

    def use(self, exporter: ReloadingMetricExporter | None, interval_seconds: float) -> None:
        """Exports with it from now on, at that interval; None exports nothing."""
        self._interval_seconds = interval_seconds
        if self._exporter is not None:
            self._exporter.reloading.replace(exporter.reloading if exporter else None)
            self._changed.set()
        elif exporter is not None:
            self._exporter = exporter
            self._reader = PeriodicExportingMetricReader(
                exporter, export_interval_millis=math.inf, export_timeout_millis=math.inf
            )
            self._meters.add_metric_reader(self._reader)
            self._collect = _quietly(self._reader.collect)
            self._thread.start()

    def flush(self) -> None:
        """Exports now; the provider itself flushes no reader that was added later."""
        if self._reader is not None:
            self._reader.force_flush()

    def close(self) -> None:
        """Exports for the last time, and ends the thread."""
        self._ended.set()
        self._changed.set()
        if self._reader is not None:
            self._reader.force_flush()
            self._reader.shutdown()

    def _turn(self) -> bool:
        if self._changed.wait(self._interval_seconds):
            self._changed.clear()
        elif self._exporter is not None and self._exporter.reloading.current() is not None:
            self._collect()
        return not self._ended.is_set()


class Providers:
    """The providers of spans and metrics, and their endings."""

    def __init__(self, exporters: Exporters, *, identity: Mapping[str, str], pull: MetricReader, tell: Tell) -> None:
        """Makes them, and uses the exporters.

        Args:
            exporters: those to begin with.
            tell: hears of faults of the thread that exports metrics.
            identity: resource attributes beside the operator's, which win.
            pull: the reader behind /metrics.
        """
        settings = exporters.settings
        resource = Resource.create({"service.name": settings.service_name, **identity, **settings.resource_attributes})
        self.meters = MeterProvider(
            resource=resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            views=views(),
            shutdown_on_exit=False,
        )
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False, meter_provider=self.meters)
        self._unused_pull: MetricReader | None = pull
        self._push = MetricsPush(self.meters, tell)
        self._spans: ReloadingSpanExporter | None = None
        self.use(exporters)

    def use(self, exporters: Exporters) -> None:
        """Exports with these from now on; spans that wait go there too, and the metrics' sums go on."""
        if self._unused_pull is not None and not exporters.settings.disabled:
            self.meters.add_metric_reader(self._unused_pull)
            self._unused_pull = None
        self._push.use(exporters.metrics, exporters.settings.metrics_interval_seconds)
        if self._spans is not None:
            self._spans.reloading.replace(exporters.spans.reloading if exporters.spans else None)
        elif exporters.spans is not None:
            self._spans = exporters.spans
            self.tracers.add_span_processor(BatchSpanProcessor(self._spans, meter_provider=self.meters))

    @property
    def pulse(self) -> Pulse:
        """The sign of life of the thread that exports metrics."""
        return self._push.pulse

    def flush(self, timeout_seconds: float) -> bool:
        """Exports what waits; False when that was not done in time."""
        return _within(timeout_seconds, self.tracers.force_flush, self._push.flush)

    def close(self, timeout_seconds: float) -> bool:
        """Exports what waits and closes; False when something had to be left behind."""
        done = _within(timeout_seconds, self.tracers.shutdown, self._push.close)
        if not done and self._spans is not None:
            self._spans.shutdown()  # ends the waiting between its tries
        return done


def _within(timeout_seconds: float, *endings: Callable[[], object]) -> bool:
    deadline = time.monotonic() + timeout_seconds
    threads = [threading.Thread(target=_quietly(ending), name="otelbridge-flush", daemon=True) for ending in endings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(export: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            export()
        except Exception as error:  # noqa: BLE001 - the SDK raises bare Exception; it is logged, which our listener tells
            logging.getLogger(LOGGER).warning("Telemetry could not be exported: %s", error)

    return run
