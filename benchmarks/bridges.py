"""What is measured, as command lines: otelbridge in its ways of sending, the yardsticks, and the genuine Collector."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.programs import GO_BRIDGE

Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """One thing that carries events; `kind` is otelbridge, sdk or go."""

    name: str
    kind: str = "otelbridge"
    protocol: str = "grpc"
    compression: str = "gzip"
    sections: Sections = field(default_factory=dict)
    """Settings over the defaults."""
    through_collector: bool = False
    """It feeds a Collector with a persistent queue, and that the endpoint."""
    two_roads: bool = False
    """It has two subscriptions to the same events, and delivers each once."""


GRPC_GZIP = Bridge(name="gRPC, gzip")
GRPC_NONE = Bridge(name="gRPC, none", compression="none")
HTTP_GZIP = Bridge(name="HTTP, gzip", protocol="http/protobuf")
HTTP_NONE = Bridge(name="HTTP, none", protocol="http/protobuf", compression="none")
SDK = Bridge(name="SDK bridge: gRPC, gzip, no queue on disk", kind="sdk")
GO = Bridge(name="Go bridge: gRPC, gzip, no queue on disk", kind="go")
BEFORE_COLLECTOR = Bridge(name="gRPC, gzip, into the Collector", through_collector=True)


def command(bridge: Bridge, folder: Path, *, upstream: str, endpoint: str, status_port: int) -> list[str]:
    """How to start a bridge; its files go into the folder.

    Args:
        bridge: which one.
        folder: for settings and queue.
        upstream: KubeArmor, `host:port`.
        endpoint: URL of the OTLP endpoint, for the bridge's protocol.
        status_port: of otelbridge.
    """
    if bridge.kind == "go":
        return [str(GO_BRIDGE), upstream, endpoint.removeprefix("http://")]
    if bridge.kind == "sdk":
        script = Path(__file__).with_name("sdk_bridge.py")
        return [sys.executable, str(script), upstream, endpoint.removeprefix("http://")]
    sections: dict[str, dict[str, Any]] = {
        "feed": {"endpoints": [upstream]},
        "queue": {"directory": str(folder / "queue")},
        "send": {"endpoint": endpoint, "protocol": bridge.protocol, "compression": bridge.compression},
        "status": {"port": status_port},
    }
    if bridge.two_roads:  # one server by two names: to the bridge these are two upstreams
        second = f"localhost:{upstream.rpartition(':')[2]}"
        sections["feed"] = {"endpoints": [upstream, second], "roads": True}
    if bridge.protocol == "http/protobuf":  # the bridge's own telemetry goes to another path of the same server
        own = {"protocol": "http/protobuf", "endpoint": endpoint.replace("/v1/logs", "/v1/own")}
        sections["telemetry"] = {"traces": own, "metrics": own}
    for name, section in bridge.sections.items():
        sections[name] = {**sections.get(name, {}), **section}
    file = folder / "bridge.yaml"  # JSON is YAML too
    file.write_text(json.dumps(sections), encoding="utf-8")
    return [str(Path(sys.executable).with_name("otelbridge")), "run", "--config", str(file)]


def collector_config(folder: Path, *, listen: str, health: str, endpoint: str) -> Path:
    """OTLP in, OTLP out with gzip (its default), and between them the persistent queue that its documentation names."""
    storage = folder / "collector-queue"
    storage.mkdir()
    config = {
        "extensions": {
            "file_storage": {"directory": str(storage)},
            "health_check": {"endpoint": health},
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": listen}}}},
        "exporters": {
            "otlp": {
                "endpoint": endpoint,
                "tls": {"insecure": True},
                "sending_queue": {"storage": "file_storage", "queue_size": 10_000},
            }
        },
        "service": {
            "extensions": ["file_storage", "health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp"]}},
        },
    }
    file = folder / "collector.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return file
