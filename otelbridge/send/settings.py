"""Settings of the OTLP endpoint that the events go to, and what its address means: host, port, path and TLS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from otelbridge.net.address import (
    CORRECT_NAME,
    HIGHEST_PORT,
    NO_NAME,
    AddressError,
    authority,
    can_be_looked_up,
    check_server_name,
)
from otelbridge.net.proxy import ProxySettings
from otelbridge.setting import section, setting

MIB = 1024 * 1024


@section
class SendSettings:
    """Where the records go, and how. The `OTEL_EXPORTER_OTLP_*` variables (and their `_LOGS_` forms) set these too."""

    protocol: Literal["grpc", "http/protobuf", "console"] = setting(
        default="grpc", description="`grpc` or `http/protobuf` for OTLP; `console` writes OTLP JSON lines to stdout."
    )
    endpoint: str = setting(
        default="",
        description="URL of the endpoint; empty means http://localhost:4317 for gRPC, http://localhost:4318/v1/logs for HTTP. For HTTP it is used unchanged.",
    )
    traces_endpoint: str = setting(
        default="",
        description="URL that the spans of `mapping.process_traces` go to; empty means `send.endpoint`, with /v1/traces in place of /v1/logs for HTTP. Headers, token and certificates are the same.",
    )
    insecure: bool | None = setting(
        default=None, description="gRPC without TLS, if the endpoint has no scheme (`http://` or `https://`)."
    )
    headers: dict[str, str] = setting(
        default_factory=dict, description="Sent with each request. Values are secrets: never shown.", repr=False
    )
    headers_file: Path | None = setting(
        default=None, description="A file of further headers, `name=value` per line; read again when it changes."
    )
    token_file: Path | None = setting(
        default=None,
        description="A bearer token for the `authorization` header; read again when it changes and on 401.",
    )
    allow_plaintext_credentials: bool = setting(
        default=False, description="Send credentials over an unencrypted connection."
    )
    compression: Literal["gzip", "none"] = setting(default="gzip", description="Compression of requests.")
    timeout_seconds: float = setting(
        default=10,
        ge=0.1,
        le=45,
        description="Deadline of one request; keep it below `status.livez_max_silence_seconds`.",
    )
    proxy: ProxySettings = setting(default_factory=ProxySettings)
    ca_file: Path | None = setting(default=None, description="CA bundle (PEM) that the endpoint is checked against.")
    cert_file: Path | None = setting(default=None, description="Client certificate (PEM), for mutual TLS.")
    key_file: Path | None = setting(default=None, description="Key of the client certificate (PEM).")
    server_name: str = setting(
        default="",
        check=check_server_name,
        description="Name to expect in the endpoint's certificate, where it is not the endpoint's host.",
    )
    max_request_bytes: int = setting(
        default=MIB, ge=16 * 1024, le=64 * MIB, description="Batches are joined up to this size (uncompressed)."
    )
    max_request_records: int = setting(
        default=8192, ge=1, le=1_000_000, description="Batches are joined up to this many records."
    )
    linger_seconds: float = setting(
        default=0.2,
        ge=0,
        le=60,
        description="Longest time that records, already on disk, wait for others to fill a request; 0 sends at once.",
    )
    alert_linger_seconds: float = setting(
        default=0.06, ge=0, le=60, description="The same for alerts and gaps; `linger_seconds` where that is less."
    )
    concurrency: int = setting(default=2, ge=1, le=64, description="Requests in flight at once.")
    ordered: bool = setting(
        default=False,
        description="One request in flight per stream, so that its records arrive in order; only records that the endpoint refuses are overtaken.",
    )
    retry_initial_seconds: float = setting(
        default=1,
        ge=0.01,
        le=3600,
        description="First delay after a retryable answer (doubled each time, full jitter).",
    )
    retry_max_seconds: float = setting(default=60, ge=0.01, le=3600, description="Longest of these delays.")
    server_delay_max_seconds: float = setting(
        default=600, ge=0.01, le=86400, description="Longest delay honoured when a server asks for one."
    )
    hold_initial_seconds: float = setting(
        default=30,
        ge=0.01,
        le=86400,
        description="First delay after an answer that needs an operator.",
    )
    hold_max_seconds: float = setting(default=300, ge=0.01, le=86400, description="Longest of these delays.")
    replay_rate_factor: float = setting(
        default=4,
        ge=0,
        le=10_000,
        description="After an outage the backlog is sent at most this many times as fast as new records arrive; 0 means without limit.",
    )


OTLP_GRPC_PORT = 4317
OTLP_HTTP_PORT = 4318
LOGS_PATH, TRACES_PATH = "/v1/logs", "/v1/traces"
DEFAULT_ENDPOINTS = {
    "grpc": f"http://localhost:{OTLP_GRPC_PORT}",
    "http/protobuf": f"http://localhost:{OTLP_HTTP_PORT}",
}
"""By protocol; a signal's path follows for HTTP."""
SCHEME_PORTS = {"http": 80, "https": 443}


class SendSettingsError(ValueError):
    """A setting of `send` cannot work. Names the setting, its value (never a secret one) and the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect to."""

    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    path: str
    tls: bool

    @property
    def authority(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return authority(self.host, self.port)

    @property
    def url(self) -> str:
        """For people: without credentials or query, which may be secrets."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path.partition('?')[0]}"

    @property
    def loopback(self) -> bool:
        """Whether it is this very machine, by its address or as `localhost`: nobody on the network can listen."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def send_target(settings: SendSettings) -> Target:
    """Where the records go.

    Raises:
        SendSettingsError: as `parse_target`, naming the setting and its value.
    """
    protocol = settings.protocol
    given = settings.endpoint or DEFAULT_ENDPOINTS[protocol] + (LOGS_PATH if protocol != "grpc" else "")
    try:
        return parse_target(given, protocol, insecure=settings.insecure)
    except AddressError as error:
        # Neither a password nor a query is shown: both may be secrets.
        shown = "" if "@" in given else f" is {given.partition('?')[0]!r}, which"
        raise SendSettingsError(f"send.endpoint{shown} {error}") from None


def for_traces(settings: SendSettings) -> SendSettings:
    """The settings by which spans are sent: to their own endpoint, one request at a time.

    Raises:
        SendSettingsError: the endpoint of the records does not tell that of the spans.
    """
    endpoint = settings.traces_endpoint or settings.endpoint
    if settings.protocol == "http/protobuf" and not settings.traces_endpoint:
        records = endpoint or DEFAULT_ENDPOINTS[settings.protocol] + LOGS_PATH
        if not records.endswith(LOGS_PATH):
            raise SendSettingsError(
                f"send.endpoint does not end with {LOGS_PATH}, so it does not tell where spans go. "
                "Set send.traces_endpoint, or mapping.process_traces to false."
            )
        endpoint = records.removesuffix(LOGS_PATH) + TRACES_PATH
    return replace(settings, endpoint=endpoint, concurrency=1)


def parse_target(text: str, protocol: str, *, insecure: bool | None) -> Target:
    """Takes an endpoint apart: a URL, or for gRPC also `host:port`; then it is TLS, unless `insecure` is set.

    Raises:
        AddressError: the scheme is none of http and https (or missing, for HTTP); there is no host; or no port, or a
            path, for gRPC.
    """
    default = DEFAULT_ENDPOINTS[protocol]
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in SCHEME_PORTS:
        raise AddressError(f"has the scheme {scheme}", "Write http:// (plaintext) or https:// (TLS).")
    if not separator and protocol != "grpc":
        raise AddressError("has no scheme", f"Write http://{text} or https://{text}.")
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"is not a valid URL: {error}", f"Write, for example, {default}.") from None
    if not host or any(character.isspace() for character in text):
        raise AddressError("has no host", f"Write, for example, {default}.")
    if not can_be_looked_up(host):
        raise AddressError(NO_NAME, CORRECT_NAME)
    if "@" in parts.netloc:
        raise AddressError("carries a user or password", "Use send.token_file or send.headers_file for credentials.")
    if port == 0:
        raise AddressError("has the port 0", f"Give a number from 1 to {HIGHEST_PORT}.")
    tls = scheme == "https" if separator else not insecure
    if protocol != "grpc":
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable():
            raise AddressError("has other characters than a URL behind its host", "Write them as %XX, as UTF-8.")
        return Target(host=host, port=port or SCHEME_PORTS[scheme], path=path, tls=tls)
    if port is None:
        said = (f"{scheme}{separator}" if separator else "") + authority(host, OTLP_GRPC_PORT)
        raise AddressError("has no port", f"OTLP over gRPC usually listens on {OTLP_GRPC_PORT}: write {said}.")
    if parts.path not in ("", "/"):
        raise AddressError(
            f"has the path {parts.path}, but gRPC knows none", "Leave it out, or set the protocol to http/protobuf."
        )
    return Target(host=host, port=port, path="", tls=tls)
