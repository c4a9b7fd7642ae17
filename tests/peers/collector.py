"""The genuine OpenTelemetry Collector: OTLP in, every record that it took found again in a file."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.simulator.endpoint import ReceivedLog
from tests.peers.kube_api import start_kube_api
from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports

BINARY = ROOT / "build" / "otelcol"

LENGTH = struct.Struct(">I")
"""The file exporter writes each message after its length in four bytes, the first one highest."""


def collector_binary() -> Path:
    """The Collector; the test ends here when it was not built."""
    return required(BINARY, name="the genuine Collector", cure="tests/collector/build")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorPorts:
    """Where a Collector listens; the same after a restart."""

    grpc: int
    http: int
    health: int


class CollectorProcess:
    """A Collector with OTLP receivers and a file that its logs go to. It answers a request once the file has it."""

    def __init__(self, binary: Path, folder: Path, *, ports: CollectorPorts, extra: Mapping[str, Any]) -> None:
        self.ports = ports
        self._logs = folder / "logs.otlp"
        configs = {"collector.yaml": base_config(ports, self._logs), "extra.yaml": dict(extra)}
        argv = [str(binary)]
        for name, config in configs.items():
            (folder / name).write_text(yaml.safe_dump(config), encoding="utf-8")
            argv += ["--config", str(folder / name)]
        url = f"http://127.0.0.1:{ports.health}/"
        self.process = PeerProcess(argv, output=folder / "collector.log", is_up=lambda: answers_ok(url))

    @property
    def grpc_endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT with gRPC."""
        return f"http://127.0.0.1:{self.ports.grpc}"

    @property
    def http_endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT with HTTP: the base, without /v1/logs."""
        return f"http://127.0.0.1:{self.ports.http}"

    def restart(self) -> None:
        """Ends kindly and starts again on the same ports, with the same file."""
        self.process.stop()
        self.process.start()

    def log_records(self) -> list[ReceivedLog]:
        """All log records taken since the first start, in the order of the file."""
        return [
            ReceivedLog(per_resource.resource, per_scope.scope, record)
            for request in messages(self._logs)
            for per_resource in request.resource_logs
            for per_scope in per_resource.scope_logs
            for record in per_scope.log_records
        ]


def messages(file: Path) -> Iterator[ExportLogsServiceRequest]:
    """The messages of a file that the file exporter writes; one that is not written out yet is left."""
    data = memoryview(file.read_bytes() if file.exists() else b"")
    at = 0
    while at + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, at)
        start, at = at + LENGTH.size, at + LENGTH.size + length
        if at > len(data):
            return
        yield ExportLogsServiceRequest.FromString(bytes(data[start:at]))


def base_config(ports: CollectorPorts, logs: Path) -> dict[str, Any]:
    """OTLP in on both protocols, logs into a file, and a health check."""
    return {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{ports.grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{ports.http}"},
                }
            }
        },
        "exporters": {
            # A rotation (that never comes) turns the file's buffer off: what was answered for survives a SIGKILL.
            "file": {"path": str(logs), "format": "proto", "rotation": {"max_megabytes": 100_000}},
        },
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{ports.health}"}},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    }


@contextmanager
def start_collector(folder: Path, *, extra: Mapping[str, Any] | None = None) -> Iterator[CollectorProcess]:
    """A running Collector, ended with the context.

    Args:
        folder: for its files; it must exist.
        extra: merged over the base configuration, by the Collector itself.
    """
    grpc, http, health = free_ports(3)
    ports = CollectorPorts(grpc=grpc, http=http, health=health)
    collector = CollectorProcess(collector_binary(), folder, ports=ports, extra=extra or {})
    collector.process.start()
    try:
        yield collector
    finally:
        collector.process.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A Collector that runs files of k8s/collector."""

    process: PeerProcess
    grpc_endpoint: str
    http_endpoint: str


@contextmanager
def start_pipeline(
    folder: Path,
    *configs: Path,
    env: Mapping[str, str],
    pods: Sequence[Mapping[str, Any]] = (),
    grpc_port: int | None = None,
) -> Iterator[Pipeline]:
    """A Collector that runs configuration files as they are but for its ports, ended with the context.

    Args:
        folder: for its queue and output.
        configs: merged in this order.
        env: what the files want to know.
        pods: those that Kubernetes knows.
        grpc_port: where it takes OTLP/gRPC; None takes a free one.
    """
    folder.mkdir(exist_ok=True)
    free, http, health = free_ports(3)
    grpc = grpc_port or free
    protocols = {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{http}"}}
    override = {
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": {"k8s_attributes": {"wait_for_metadata": True}},
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "service": {"telemetry": {"metrics": {"level": "none"}}},
    }
    (folder / "ports.yaml").write_text(yaml.safe_dump(override), encoding="utf-8")
    argv = [str(collector_binary())]
    for config in (*configs, folder / "ports.yaml"):
        argv += ["--config", str(config)]
    with start_kube_api(folder, {"pods": pods}) as kubeconfig:
        process = PeerProcess(
            argv,
            output=folder / "pipeline.log",
            is_up=lambda: answers_ok(f"http://127.0.0.1:{health}/"),
            env={
                "KUBE_AUTH": "kubeConfig",
                "KUBECONFIG": str(kubeconfig),
                "QUEUE_DIRECTORY": str(folder / "collector-queue"),
                **env,
            },
        )
        process.start()
        try:
            yield Pipeline(
                process=process,
                grpc_endpoint=f"http://127.0.0.1:{grpc}",
                http_endpoint=f"http://127.0.0.1:{http}",
            )
        finally:
            process.stop()


def validate(*configs: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What the Collector says of configuration files that are merged in this order; nothing is started.

    Args:
        env: the whole environment, for `${env:NAME}` in the files.
    """
    arguments = [part for config in configs for part in ("--config", str(config))]
    return subprocess.run(
        [collector_binary(), "validate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=dict(env),
    )
