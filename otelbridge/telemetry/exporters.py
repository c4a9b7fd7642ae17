"""Settings of a signal go in, the SDK's exporter for it comes out; an unreadable certificate names its setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from otelbridge.telemetry.renewing import Headers, Renewed, RenewedMetricExporter, RenewedSpanExporter, no_headers
from otelbridge.telemetry.settings import SignalSettings

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
        case _, "grpc":
            make: Callable[..., SpanExporter] = OTLPSpanExporter
            arguments = _grpc
        case _:
            # requests is imported with it, which costs memory that only those who use HTTP should pay.
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415

            make, arguments = http.OTLPSpanExporter, _http
    files = (signal.ca_file, signal.cert_file, signal.key_file)
    return RenewedSpanExporter(
        Renewed(lambda lent: make(**arguments(signal, place, lent)), headers=headers, files=files)
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
            make: Callable[..., MetricExporter] = OTLPMetricExporter
            arguments = _grpc
        case _:
            from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415 - as above

            make, arguments = http.OTLPMetricExporter, _http
    files = (signal.ca_file, signal.cert_file, signal.key_file)
    return RenewedMetricExporter(
        Renewed(lambda lent: make(**arguments(signal, place, lent)), headers=headers, files=files)
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
