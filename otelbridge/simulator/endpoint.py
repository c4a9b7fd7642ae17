"""An OTLP endpoint to run against: takes logs, traces and metrics over gRPC and HTTP, and answers by a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.simulator.endpoint_answers import Answer, Answers, Request, Status, in_turn, sized
from otelbridge.simulator.endpoint_servers import OtlpHttpServer, Script, start_grpc
from otelbridge.simulator.listening import ServerTls

T = TypeVar("T")
MIB = 1024 * 1024
POLL_SECONDS = 0.05
"""How soon the HTTP listener notices that it shall stop."""


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
    """Keeps what was taken, or with `keep` False only counts it. Thread-safe: servers put in, tests wait and read."""

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
        return [span for request in self.requests("traces") for span in _received(ReceivedSpan, "traces", request.body)]

    def metrics(self) -> list[ReceivedMetric]:
        """All kept metrics, one entry per export of each."""
        requests = self.requests("metrics")
        return [metric for request in requests for metric in _received(ReceivedMetric, "metrics", request.body)]


def logs_in(body: bytes) -> list[ReceivedLog]:
    """The records of an encoded request for logs."""
    return _received(ReceivedLog, "logs", body)


def _received(kind: Callable[[Resource, InstrumentationScope, Any], T], signal: str, body: bytes) -> list[T]:
    return [kind(resource, scope, item) for resource, scope, items in _scopes(signal, body) for item in items]


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


class OtlpEndpoint:
    """Listens from the start (or `start()` after `stop()`) on real sockets; use it as a context manager.

    Args:
        grpc_port: 0 takes a free port, None speaks no gRPC.
        http_port: 0 takes a free port, None speaks no HTTP.
        answers: asked for each request that has the right token; or answers for the log requests in turn, then Ok.
        keep: False only counts what arrives (fast mode).
        token: a bearer token that each request must carry, or UNAUTHENTICATED / 401.
        max_request_bytes: larger requests are refused, as the Collector does (its limit for gRPC is the default).
        show: is shown each request that was taken.
    """

    def __init__(
        self,
        grpc_port: int | None = 0,
        http_port: int | None = 0,
        *,
        host: str = "127.0.0.1",
        answers: Answers | Iterable[Answer] = (),
        keep: bool = True,
        token: str = "",
        tls: ServerTls | None = None,
        max_request_bytes: int = 4 * MIB,
        workers: int = 8,
        show: Callable[[Request], None] = lambda _: None,
    ) -> None:
        self._host, self._grpc_port, self._http_port = host, grpc_port, http_port
        self._tls = tls
        self._max_request_bytes, self._workers = max_request_bytes, workers
        self.inbox = Inbox(keep=keep)
        self._show = show
        self.token = token
        self.answers: Answers = answers if callable(answers) else in_turn(answers)
        self.seen = 0
        """Requests that arrived, whatever was answered."""
        self._seen_lock = threading.Lock()
        self._stopping = threading.Event()
        self._running = threading.Event()
        self._grpc: grpc.Server | None = None
        self._http: OtlpHttpServer | None = None
        self._http_thread: threading.Thread | None = None
        self.start()

    @property
    def grpc_endpoint(self) -> str:
        """`http://host:port`, or https."""
        return f"{self._scheme}://{self._host}:{self._grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """`http://host:port`, or https: the base, without /v1/logs."""
        return f"{self._scheme}://{self._host}:{self._http_port}"

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def start(self) -> None:
        """Listens (again, on the same ports)."""
        self._stopping.clear()
        self._running.set()
        script = Script(self._judge, self._take, self._stopping.wait)
        if self._grpc_port is not None:
            self._grpc, self._grpc_port = start_grpc(
                address=f"{self._host}:{self._grpc_port}",
                script=script,
                tls=self._tls,
                max_request_bytes=self._max_request_bytes,
                workers=self._workers,
            )
        if self._http_port is not None:
            self._http = OtlpHttpServer(
                (self._host, self._http_port),
                script=script,
                tls=self._tls,
                max_request_bytes=self._max_request_bytes,
            )
            self._http_port = self._http.server_address[1]
            self._http_thread = threading.Thread(
                target=self._http.serve_forever, args=(POLL_SECONDS,), name="simulator-otlp-http"
            )
            self._http_thread.start()

    def stop(self) -> None:
        """Stops listening and breaks what is under way: connections are refused until `start()`.

        What was taken can still be read.
        """
        self._stopping.set()
        self._running.set()
        if self._grpc is not None:
            self._grpc.stop(None).wait()
            self._grpc = None
        if self._http is not None and self._http_thread is not None:
            self._http.shutdown()
            self._http.end_connections()
            self._http.server_close()
            self._http_thread.join()
            self._http = self._http_thread = None

    def pause(self) -> None:
        """Goes on listening but answers nothing, like a frozen process, until `resume()`."""
        self._running.clear()

    def resume(self) -> None:
        """Answers again, those that waited first."""
        self._running.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def counts(self) -> InboxCounts:
        """How much was taken so far; also in fast mode."""
        return self.inbox.counts()

    def log_records(self) -> list[ReceivedLog]:
        """All log records taken, with their resources and scopes."""
        return self.inbox.logs()

    def spans(self) -> list[ReceivedSpan]:
        """All spans taken."""
        return self.inbox.spans()

    def metrics(self) -> list[ReceivedMetric]:
        """All metrics taken, one entry per export of each."""
        return self.inbox.metrics()

    def wait_for_records(self, number: int, within: float) -> list[ReceivedLog]:
        """Waits until at least so many log records were taken, and returns all of them (none in fast mode).

        Raises:
            TimeoutError: there are fewer after `within` seconds.
        """
        if not self.inbox.wait_for("logs", number, within_seconds=within):
            raise TimeoutError(f"{self.counts().records} of {number} log records within {within} s")
        return self.log_records()

    def _judge(self, request: Request) -> Answer:
        with self._seen_lock:
            self.seen += 1
        self._running.wait()
        if self._stopping.is_set():
            return Status(code=grpc.StatusCode.UNAVAILABLE, details="the endpoint stopped")
        if self.token and request.metadata.get("authorization") != f"Bearer {self.token}":
            return Status(code=grpc.StatusCode.UNAUTHENTICATED, details="missing or wrong bearer token")
        return sized(self.answers(request), request)

    def _take(self, request: Request, rejected: int) -> None:
        self.inbox.take(request, rejected=rejected)
        self._show(request)
