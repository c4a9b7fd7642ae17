"""Settings of the status server."""

from __future__ import annotations

from otelbridge.net.address import check_listening_host
from otelbridge.setting import section, setting

DEFAULT_STATUS_PORT = 32799
"""Next to KubeArmor's 32766 and 32767, and used by none of the field's tools."""


@section
class StatusSettings:
    """Probes, metrics and the status page."""

    enabled: bool = setting(default=True, description="Serve probes, metrics and the status page.")
    host: str = setting(
        default="127.0.0.1",
        check=check_listening_host,
        description="Address to listen on; in Kubernetes `::`, every address of either family, so that the kubelet can probe.",
    )
    port: int = setting(
        default=DEFAULT_STATUS_PORT, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    page: bool = setting(default=True, description="Serve /status and the status page beside the probes and /metrics.")
    allowed_hosts: tuple[str, ...] = setting(
        default=(),
        description="Further names in the Host header to answer to, such as the Service's that Prometheus scrapes; addresses and localhost are always answered.",
    )
    show_events: int = setting(
        default=0,
        ge=0,
        le=1000,
        description="How many of the latest events the page shows; they may contain secrets, so none by default.",
    )
    runbook_url: str = setting(
        default="",
        description="Where docs/runbook.md is published, so that the page can link its sections. Empty: they are only named.",
    )
    livez_max_silence_seconds: float = setting(
        default=60, ge=1, le=86400, description="A thread that makes no progress for this long fails /livez."
    )
    ready_grace_seconds: float = setting(
        default=120, ge=0, le=7 * 86400, description="How long a subscription may be down before /readyz fails."
    )
