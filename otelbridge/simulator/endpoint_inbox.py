"""Keeps what the scripted endpoint received: records, spans and metrics, or in fast mode only counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.simulator.endpoint_answers import Request


class ReceivedLog(NamedTuple):
    """A log record with where it came from."""

    resource: Resource
    scope: InstrumentationScope
    record: LogRecord


class ReceivedSpan(NamedTuple):
    """A span with where it came from."""

    resource: Resource
    scope: InstrumentationScope
    span: Span


class ReceivedMetric(NamedTuple):
    """A metric with where it came from."""

    resource: Resource
    scope: InstrumentationScope
    metric: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxCounts:
    """How much the endpoint took."""

    requests: int
    records: int
    spans: int
    metrics: int
    request_bytes: int
    """Of all requests, uncompressed."""
    last_unix_nano: int
    """When it took the last one, 0 for never."""


class Inbox:
    """Thread-safe: servers put requests in, tests wait for records and read them.

    Args:
        keep: False only counts, so that memory and CPU stay small however much arrives.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._numbers = {"logs": 0, "traces": 0, "metrics": 0}
        self._request_count = 0
        self._bytes = 0
        self._last = 0

    def take(self, request: Request, *, rejected: int = 0) -> None:
        """Counts a request and, unless in fast mode, keeps it.

        Raises:
            google.protobuf.message.DecodeError: the request is not what its signal says.
        """
        number = _NUMBER_OF[request.signal](request.body) - rejected
        with self._changed:
            self._numbers[request.signal] += number
            self._request_count += 1
            self._bytes += len(request.body)
            self._last = time.time_ns()
            if self._keep:
                self._requests.append(request)
            self._changed.notify_all()

    def counts(self) -> InboxCounts:
        """How much was taken so far."""
        with self._changed:
            return InboxCounts(
                requests=self._request_count,
                records=self._numbers["logs"],
                spans=self._numbers["traces"],
                metrics=self._numbers["metrics"],
                request_bytes=self._bytes,
                last_unix_nano=self._last,
            )

    def wait_for(self, signal: str, number: int, *, within_seconds: float) -> bool:
        """True as soon as so many items of a signal were taken, False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._numbers[signal] >= number, timeout=within_seconds)

    def requests(self, signal: str) -> list[Request]:
        """The kept requests of a signal, in the order of arrival."""
        with self._changed:
            return [request for request in self._requests if request.signal == signal]

    def clear(self) -> None:
        """Forgets everything taken so far."""
        with self._changed:
            self._requests.clear()
            self._numbers = dict.fromkeys(self._numbers, 0)
            self._request_count = self._bytes = self._last = 0

    def logs(self) -> list[ReceivedLog]:
        """All kept log records."""
        return [log for request in self.requests("logs") for log in logs_in(request.body)]

    def spans(self) -> list[ReceivedSpan]:
        """All kept spans."""
        return [
            ReceivedSpan(per_resource.resource, per_scope.scope, span)
            for request in self.requests("traces")
            for per_resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
            for per_scope in per_resource.scope_spans
            for span in per_scope.spans
        ]

    def metrics(self) -> list[ReceivedMetric]:
        """All kept metrics, one entry per export of each."""
        return [
            ReceivedMetric(per_resource.resource, per_scope.scope, metric)
            for request in self.requests("metrics")
            for per_resource in ExportMetricsServiceRequest.FromString(request.body).resource_metrics
            for per_scope in per_resource.scope_metrics
            for metric in per_scope.metrics
        ]


def logs_in(body: bytes) -> list[ReceivedLog]:
    """The records of an encoded request for logs."""
    return [
        ReceivedLog(per_resource.resource, per_scope.scope, record)
        for per_resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for per_scope in per_resource.scope_logs
        for record in per_scope.log_records
    ]


def attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """OTLP attributes as a dictionary of plain values."""
    return {pair.key: plain(pair.value) for pair in pairs}


def plain(value: AnyValue) -> object:
    """An OTLP AnyValue as a plain Python value."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case _:
            return getattr(value, kind)


def _records_in(body: bytes) -> int:
    return sum(
        len(per_scope.log_records)
        for per_resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for per_scope in per_resource.scope_logs
    )


def _spans_in(body: bytes) -> int:
    return sum(
        len(per_scope.spans)
        for per_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for per_scope in per_resource.scope_spans
    )


def _metrics_in(body: bytes) -> int:
    return sum(
        len(per_scope.metrics)
        for per_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for per_scope in per_resource.scope_metrics
    )


_NUMBER_OF = {"logs": _records_in, "traces": _spans_in, "metrics": _metrics_in}
