"""Settings of the bridge's own spans, metrics and log lines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from otelbridge.setting import section, setting

Exporter = Literal["otlp", "console", "none"]


@section
class SignalSettings:
    """Where one of the bridge's own signals goes by OTLP. Set by the standard `OTEL_EXPORTER_OTLP_*` variables too."""

    exporter: Exporter = setting(
        default="otlp", description="`otlp`, `console` or `none`. `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`."
    )
    protocol: Literal["grpc", "http/protobuf"] = setting(default="grpc", description="OTLP over gRPC or HTTP.")
    endpoint: str = setting(default="", description="URL; empty means the server that the events go to.")
    headers: dict[str, str] = setting(
        default_factory=dict, description="Sent with each request. Values are secrets: never shown.", repr=False
    )
    insecure: bool | None = setting(
        default=None, description="gRPC without TLS, if the endpoint has no scheme (`http://` or `https://`)."
    )
    ca_file: Path | None = setting(default=None, description="CA bundle (PEM).")
    cert_file: Path | None = setting(default=None, description="Client certificate (PEM).")
    key_file: Path | None = setting(default=None, description="Key of the client certificate (PEM).")
    lend_credentials: bool = setting(
        default=False,
        description="Send `send.token_file` and `send.headers_file` here too. Set automatically where the endpoint is derived from `send.endpoint`.",
    )
    compression: Literal["gzip", "none"] = setting(default="gzip", description="Compression of requests.")
    timeout_seconds: float = setting(default=10, ge=0.1, le=3600, description="Deadline of one request.")


@section
class TelemetrySettings:
    """The bridge's own telemetry."""

    disabled: bool = setting(
        default=False, description="No spans and no metrics, neither by OTLP nor on /metrics. `OTEL_SDK_DISABLED`."
    )
    service_name: str = setting(
        default="otelbridge", description="`service.name` of the bridge's own telemetry. `OTEL_SERVICE_NAME`."
    )
    resource_attributes: dict[str, str] = setting(
        default_factory=dict, description="Added to the bridge's own resource. `OTEL_RESOURCE_ATTRIBUTES`."
    )
    traces: SignalSettings = setting(default_factory=SignalSettings)
    metrics: SignalSettings = setting(default_factory=SignalSettings)
    metrics_interval_seconds: float = setting(
        default=60,
        ge=0.01,
        le=86400,
        description="Time between metric exports. `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        default="info", description="Lowest level of the bridge's own log lines. `OTEL_LOG_LEVEL`."
    )
    log_format: Literal["text", "json"] = setting(default="text", description="Format of the log lines on stderr.")
    max_nodes: int = setting(
        default=1000, ge=0, le=1_000_000, description="Most nodes with metric series of their own."
    )
    coverage: bool = setting(
        default=False,
        description="Learn the usual interval of each node, namespace and policy, for `otelbridge coverage`. Needs a restart.",
    )
    alert_policies: bool = setting(
        default=False, description="Add the policy's name to the metric `otelbridge.alerts`."
    )
