"""Encoded requests with numbered records, for tests that need something to deliver."""

from __future__ import annotations

import time

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.event import RecordGap, Stream
from otelbridge.queue.model import Batch
from otelbridge.simulator.endpoint import ReceivedLog
from otelbridge.telemetry.events import GapEnded, Tell


def gaps_told_by(tell: Tell) -> RecordGap:
    """A gap sink that only tells: for components that stand alone."""
    return lambda gap: tell(GapEnded(gap=gap))


def request_of(*bodies: str, node: str = "node-1", padding: int = 0) -> bytes:
    """An encoded request with one record per body, each with so many bytes of padding in an attribute."""
    request = ExportLogsServiceRequest()
    per_resource = request.resource_logs.add()
    per_resource.resource.attributes.add(key="host.name").value.string_value = node
    per_scope = per_resource.scope_logs.add()
    per_scope.scope.name = "tests"
    for body in bodies:
        record = per_scope.log_records.add(time_unix_nano=1, event_name="test")
        record.body.string_value = body
        if padding:
            record.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


def batch_of(*bodies: str, stream: Stream = Stream.ALERTS, age_seconds: float = 0, padding: int = 0) -> Batch:
    """A batch with one record per body."""
    return Batch(
        stream=stream,
        request=request_of(*bodies, padding=padding),
        records=len(bodies),
        oldest_received_unix_nano=time.time_ns() - int(age_seconds * 1e9),
    )


def bodies_of(logs: list[ReceivedLog]) -> list[str]:
    """The bodies of received records, in the order of arrival."""
    return [log.record.body.string_value for log in logs]


def count_records(request: bytes) -> int:
    """The number of log records in an encoded request."""
    decoded = ExportLogsServiceRequest.FromString(request)
    return sum(len(scope.log_records) for resource in decoded.resource_logs for scope in resource.scope_logs)
