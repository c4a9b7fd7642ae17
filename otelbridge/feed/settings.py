"""Settings of the subscriptions to KubeArmor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from otelbridge.event import Stream, UpstreamStream
from otelbridge.net.address import check_server_name
from otelbridge.net.proxy import ProxySettings
from otelbridge.setting import section, setting

DEFAULT_ENDPOINT = "localhost:32767"


@section
class FeedTlsSettings:
    """TLS towards KubeArmor. The files are read again whenever their content changes."""

    enabled: bool = setting(default=False, description="Use TLS. KubeArmor's own default is plaintext.")
    ca_file: Path | None = setting(default=None, description="CA bundle (PEM) that the server is checked against.")
    cert_file: Path | None = setting(default=None, description="Client certificate (PEM), for mutual TLS.")
    key_file: Path | None = setting(default=None, description="Key of the client certificate (PEM).")
    server_name: str = setting(
        default="",
        check=check_server_name,
        description="Name to expect in the server's certificate, where it is not the host in `feed.endpoints`.",
    )


@section
class KeepaliveSettings:
    """HTTP/2 keepalive of the connection itself."""

    time_seconds: float = setting(
        default=15,
        ge=10,
        le=3600,
        description="Ping after this much silence. Below 10 s a relay (which pings every 5 s) would answer too_many_pings.",
    )
    timeout_seconds: float = setting(
        default=5, ge=0.1, le=600, description="A connection whose ping is unanswered for this long is closed."
    )


@section
class HeartbeatSettings:
    """The HealthCheck call on the stream's own channel."""

    interval_seconds: float = setting(
        default=15, ge=0.1, le=3600, description="Time between health checks, give or take 10 %."
    )
    timeout_seconds: float = setting(default=5, ge=0.1, le=600, description="Deadline of one health check.")


@section
class RetrySettings:
    """The backoff of delays between connection attempts: equal jitter, doubling."""

    initial_seconds: float = setting(
        default=1, ge=0.01, le=3600, description="First delay of the backoff between attempts to connect."
    )
    max_seconds: float = setting(default=30, ge=0.01, le=3600, description="Longest delay of this backoff.")
    healthy_after_seconds: float = setting(
        default=30, ge=0, le=86400, description="A stream that was open for this long resets the backoff."
    )
    operator_initial_seconds: float = setting(
        default=30, ge=0.01, le=86400, description="First delay after an error that only an operator can cure."
    )
    operator_max_seconds: float = setting(
        default=300, ge=0.01, le=86400, description="Longest delay after such an error."
    )
    initial_spread_seconds: float = setting(
        default=0,
        ge=0,
        le=3600,
        description="The first connection attempt is delayed by a random part of this, so that a DaemonSet does not connect all at once.",
    )


@section
class FeedSettings:
    """Where KubeArmor is and what to subscribe to."""

    endpoints: tuple[str, ...] = setting(
        default=(DEFAULT_ENDPOINT,),
        min_length=1,
        description="Relays or nodes, `host:port`; one subscription each. Port 32767 where none is given.",
    )
    resolve: Literal["first", "all"] = setting(
        default="first",
        description="`first` opens one subscription per name; `all` opens one per address behind it (a headless service), and follows the name as it changes.",
    )
    roads: bool = setting(
        default=False,
        description="The endpoints carry the same events (two relays; a relay and nodes): each event is delivered once, and events that one endpoint does not send are counted as its loss.",
    )
    roads_window_seconds: float = setting(
        default=60, ge=1, le=600, description="How far one endpoint may lag behind another, with `feed.roads`."
    )
    streams: tuple[UpstreamStream, ...] = setting(
        default=(Stream.ALERTS, Stream.LOGS, Stream.MESSAGES),
        min_length=1,
        description="Which of alerts, logs and messages to subscribe to.",
    )
    tls: FeedTlsSettings = setting(default_factory=FeedTlsSettings)
    proxy: ProxySettings = setting(default_factory=ProxySettings)
    keepalive: KeepaliveSettings = setting(default_factory=KeepaliveSettings)
    heartbeat: HeartbeatSettings = setting(default_factory=HeartbeatSettings)
    retry: RetrySettings = setting(default_factory=RetrySettings)
    max_message_bytes: int = setting(
        default=16 * 1024 * 1024,
        ge=4 * 1024 * 1024,
        le=256 * 1024 * 1024,
        description="Largest event accepted; a larger one ends its stream, which is reopened.",
    )
    buffer_max_events: int = setting(
        default=100_000,
        ge=1_000,
        le=10_000_000,
        description="Most events that wait between a reader and the disk; more are dropped, counted and reported as a gap.",
    )
    read_pause_seconds: float = setting(
        default=0.035,
        ge=0,
        le=0.1,
        description="At 40 to 5,000 events/s a reader pauses for this long once it has read everything, or for a quarter of `send.linger_seconds` where that is less, at least 0.025, and then reads several events at once; 0 reads each as it comes.",
    )
    single_threaded_streams: bool = setting(
        default=True, description="Read streams with grpcio's cheaper (experimental) single-threaded mode."
    )
