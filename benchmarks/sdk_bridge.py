"""The yardstick: the bridge that one would write first, on the SDK's log pipeline and default stream reading.

It does what the tutorial says: iterate over the stub's stream, put the fields into a log record's attributes, hand it
to a LoggerProvider with a BatchLogRecordProcessor and the OTLP/gRPC exporter. No disk, no reconnect, no ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
import time
from datetime import datetime
from typing import Any

import grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from otelbridge.pb import kubearmor_pb2, kubearmor_pb2_grpc

# As attributes that otelbridge writes too, so that both send about as much.
ATTRIBUTES = {
    "NamespaceName": "k8s.namespace.name",
    "PodName": "k8s.pod.name",
    "ContainerName": "k8s.container.name",
    "ContainerID": "container.id",
    "ContainerImage": "container.image.name",
    "HostName": "k8s.node.name",
    "ClusterName": "k8s.cluster.name",
    "Labels": "kubearmor.labels",
    "HostPID": "process.pid",
    "HostPPID": "process.parent_pid",
    "PID": "process.vpid",
    "UID": "process.real_user.id",
    "ProcessName": "process.executable.path",
    "ParentProcessName": "kubearmor.process.parent.executable.path",
    "PolicyName": "security_rule.name",
    "Severity": "kubearmor.severity",
    "Tags": "kubearmor.tags",
    "Message": "security_rule.description",
    "Type": "kubearmor.type",
    "Source": "process.command_line",
    "Operation": "kubearmor.operation",
    "Resource": "kubearmor.resource",
    "Data": "kubearmor.data",
    "Enforcer": "kubearmor.enforcer",
    "Action": "kubearmor.action",
    "Result": "kubearmor.result",
    "Cwd": "process.working_directory",
    "TTY": "kubearmor.tty",
}


def unix_nano(updated_time: str) -> int:
    """The event's own time."""
    return int(datetime.fromisoformat(updated_time).timestamp() * 1_000_000) * 1000


def carry(events: Any, logger: Any) -> None:
    """Every event of a stream becomes a log record, until the stream is cancelled."""
    with contextlib.suppress(grpc.RpcError):
        for event in events:
            emit(event, logger)


def emit(event: Any, logger: Any) -> None:
    """One event becomes a log record."""
    attributes = {attribute: value for field, attribute in ATTRIBUTES.items() if (value := getattr(event, field, None))}
    logger.emit(
        LogRecord(
            timestamp=unix_nano(event.UpdatedTime),
            observed_timestamp=time.time_ns(),
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"{event.Operation} {event.Resource} by {event.Source}: {event.Result}",
            attributes=attributes,
            event_name=f"kubearmor.{type(event).__name__.lower()}",  # alert or log
        )
    )


def main() -> None:
    """Bridges until SIGTERM."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("upstream")
    arguments.add_argument("endpoint")
    given = arguments.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    provider = LoggerProvider(resource=Resource.create({"service.name": "kubearmor"}))
    provider.add_log_record_processor(
        BatchLogRecordProcessor(
            OTLPLogExporter(endpoint=given.endpoint, insecure=True, compression=grpc.Compression.Gzip),
            schedule_delay_millis=200,
            max_queue_size=1_000_000,  # so that it is measured by its work, not by what it drops
            max_export_batch_size=4096,
        )
    )
    logger = provider.get_logger("sdk-bridge")
    channel = grpc.insecure_channel(given.upstream)
    stub = kubearmor_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]  # as protoc writes it
    streams = (
        stub.WatchAlerts(kubearmor_pb2.RequestMessage(Filter="policy")),
        stub.WatchLogs(kubearmor_pb2.RequestMessage(Filter="system")),
    )
    for stream in streams:
        threading.Thread(target=carry, args=(stream, logger), daemon=True).start()
    stop.wait()
    for stream in streams:
        stream.cancel()
    provider.shutdown()
    channel.close()


if __name__ == "__main__":
    main()
