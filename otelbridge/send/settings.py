"""Settings of the OTLP endpoint that the events go to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otelbridge.net.proxy import ProxySettings

MIB = 1024 * 1024


class SendSettings(BaseModel):
    """Where the records go, and how. The `OTEL_EXPORTER_OTLP_*` variables (and their `_LOGS_` forms) set these too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["grpc", "http/protobuf", "console"] = Field(
        default="grpc", description="OTLP over gRPC, OTLP over HTTP, or OTLP JSON lines on stdout."
    )
    endpoint: str = Field(
        default="",
        description="URL of the endpoint; empty means http://localhost:4317 for gRPC, http://localhost:4318/v1/logs for HTTP. Used as it is for HTTP.",
    )
    insecure: bool | None = Field(
        default=None, description="gRPC without TLS, where the endpoint has no scheme to say so."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with each request. Values are secrets: never shown.", repr=False
    )
    headers_file: Path | None = Field(
        default=None, description="A file of further headers, `name=value` per line; read again when it changes."
    )
    token_file: Path | None = Field(
        default=None,
        description="A bearer token for the `authorization` header; read again when it changes and on 401.",
    )
    allow_plaintext_credentials: bool = Field(
        default=False, description="Send credentials over an unencrypted connection."
    )
    compression: Literal["gzip", "none"] = Field(default="gzip", description="Compression of requests.")
    timeout_seconds: float = Field(
        default=10,
        ge=0.1,
        le=45,
        description="Deadline of one request; below the silence after which /livez takes a thread for dead.",
    )
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    ca_file: Path | None = Field(default=None, description="CA bundle (PEM) that the endpoint is checked against.")
    cert_file: Path | None = Field(default=None, description="Client certificate (PEM), for mutual TLS.")
    key_file: Path | None = Field(default=None, description="Key of the client certificate (PEM).")
    server_name: str = Field(
        default="", description="Name to expect in the endpoint's certificate, where it is not the one dialled."
    )
    max_request_bytes: int = Field(
        default=MIB, ge=16 * 1024, le=64 * MIB, description="Batches are joined up to this size (uncompressed)."
    )
    max_request_records: int = Field(
        default=8192, ge=1, le=1_000_000, description="Batches are joined up to so many records."
    )
    linger_seconds: float = Field(
        default=0.2,
        ge=0,
        le=60,
        description="Longest time that records, which are on disk by then, wait for others to share a request with; 0 sends at once.",
    )
    alert_linger_seconds: float = Field(
        default=0.05, ge=0, le=60, description="The same for alerts and gaps; `linger_seconds` where that is less."
    )
    concurrency: int = Field(default=2, ge=1, le=64, description="Requests in flight at once.")
    ordered: bool = Field(
        default=False,
        description="One request in flight per stream, so that its records arrive in order; only a record that the endpoint fails at is overtaken.",
    )
    retry_initial_seconds: float = Field(
        default=1,
        ge=0.01,
        le=3600,
        description="First delay after a retryable answer (doubled each time, full jitter).",
    )
    retry_max_seconds: float = Field(default=60, ge=0.01, le=3600, description="Longest of these delays.")
    server_delay_max_seconds: float = Field(
        default=600, ge=0.01, le=86400, description="Longest delay honoured when a server asks for one."
    )
    hold_initial_seconds: float = Field(
        default=30,
        ge=0.01,
        le=86400,
        description="First delay after an answer that only an operator can cure.",
    )
    hold_max_seconds: float = Field(default=300, ge=0.01, le=86400, description="Longest of these delays.")
    replay_rate_factor: float = Field(
        default=4,
        ge=0,
        le=10_000,
        description="After an outage the backlog is sent at most so many times as fast as new records arrive; 0 means without limit.",
    )
