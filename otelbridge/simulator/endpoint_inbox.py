"""Keeps what the scripted endpoint received: records, spans and metrics, or in fast mode only counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        number = sum(len(items) for *_, items in _scopes(request.signal, request.body)) - rejected
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
        """Waits until so many items of a signal were taken; False after the timeout."""
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
            ReceivedSpan(resource, scope, span)
            for request in self.requests("traces")
            for resource, scope, spans in _scopes("traces", request.body)
            for span in spans
        ]

    def metrics(self) -> list[ReceivedMetric]:
        """All kept metrics, one entry per export of each."""
        return [
            ReceivedMetric(resource, scope, metric)
            for request in self.requests("metrics")
            for resource, scope, metrics in _scopes("metrics", request.body)
            for metric in metrics
        ]


def logs_in(body: bytes) -> list[ReceivedLog]:
    """The records of an encoded request for logs."""
    return [
        ReceivedLog(resource, scope, record) for resource, scope, records in _scopes("logs", body) for record in records
    ]


_REQUESTS: Mapping[str, tuple[Any, str, str, str]] = {
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
"""By signal: the request, and the fields that lead to its items."""


def _scopes(signal: str, body: bytes) -> Iterator[tuple[Resource, InstrumentationScope, Sequence[Any]]]:
    """The items of each scope of a request, with the scope and its resource."""
    kind, resources, scopes, items = _REQUESTS[signal]
    for per_resource in getattr(kind.FromString(body), resources):
        for per_scope in getattr(per_resource, scopes):
            yield per_resource.resource, per_scope.scope, getattr(per_scope, items)


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
