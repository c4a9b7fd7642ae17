from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from otelbridge.setting import section_from
from otelbridge.telemetry import events as e
from otelbridge.telemetry.settings import TelemetrySettings
from otelbridge.telemetry.telemetry import Telemetry
from tests.unit.telemetry.examples import example
from tests.waiting import eventually

NOTHING_LISTENS = "http://127.0.0.1:9"


class Backend:
    """What an OTLP backend was sent: names of spans and metrics, headers, the resource."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.metrics: set[str] = set()
        self.headers: dict[str, str] = {}
        self.resource: dict[str, str] = {}

    def take_traces(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resource = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.spans += [span.name for scope in resource.scope_spans for span in scope.spans]

    def take_metrics(self, request: metrics_service_pb2.ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    """The gRPC side."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Export(  # noqa: N802 - gRPC's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._backend.headers = {str(key): str(value) for key, value in context.invocation_metadata()}
        self._backend.take_traces(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """The gRPC side."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Export(  # noqa: N802 - gRPC's name
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, _context: grpc.ServicerContext
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        self._backend.take_metrics(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def grpc_endpoint(backend: Backend) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(backend), server)  # type: ignore[no-untyped-call]
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(backend), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.fixture
def http_endpoint(backend: Backend) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            backend.headers = {key.lower(): value for key, value in self.headers.items()}
            if self.path == "/v1/traces":
                backend.take_traces(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                backend.take_metrics(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            self.send_response(200 if self.path in {"/v1/traces", "/v1/metrics"} else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _open(stderr: io.StringIO, **settings: object) -> Telemetry:
    return Telemetry(
        section_from(TelemetrySettings, settings),
        version="1.2.3",
        instance_id="instance-1",
        stderr=stderr,
    )


def _tell_of_a_life(telemetry: Telemetry) -> None:
    telemetry.tell(example(e.ConnectionAttempted, status_code="OK"))
    telemetry.tell(example(e.StreamOpened, connection_id="word"))
    telemetry.tell(example(e.ConnectionEnded))
    telemetry.tell(example(e.BatchAccepted))


def _arrived(backend: Backend) -> None:
    assert set(backend.spans) >= {"otelbridge.connect", "otelbridge.connection", "feeder.LogService/WatchLogs"}
    assert backend.metrics >= {"otelbridge.source.connection.attempts", "otelbridge.delivery.records"}
    assert backend.resource["service.name"] == "otelbridge"
    assert backend.resource["service.version"] == "1.2.3"
    assert backend.resource["service.instance.id"] == "instance-1"
    assert backend.resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_lent_credentials_are_those_of_the_moment(
    backend: Backend, grpc_endpoint: str, http_endpoint: str, protocol: str
) -> None:
    endpoint = grpc_endpoint if protocol == "grpc" else f"{http_endpoint}/v1/traces"
    now, stderr = {"authorization": "Bearer first-token"}, io.StringIO()
    telemetry = Telemetry(
        section_from(
            TelemetrySettings, {"traces": {"protocol": protocol, "endpoint": endpoint}, "metrics": {"exporter": "none"}}
        ),
        version="1",
        instance_id="i",
        stderr=stderr,
        lent={"traces": lambda: now},
    )
    for token in ("first-token", "second-token"):
        now = {"authorization": f"Bearer {token}"}
        _tell_of_a_life(telemetry)
        assert telemetry.flush(10)
        assert backend.headers["authorization"] == f"Bearer {token}"
    telemetry.close(5)
    assert "token" not in stderr.getvalue()


def test_spans_and_metrics_go_out_by_grpc(backend: Backend, grpc_endpoint: str) -> None:
    signal = {"endpoint": grpc_endpoint, "headers": {"Authorization": "Bearer x"}}
    telemetry = _open(
        io.StringIO(),
        traces=signal,
        metrics=signal,
        resource_attributes={"deployment.environment.name": "test"},
    )
    _tell_of_a_life(telemetry)

    assert telemetry.flush(10)
    _arrived(backend)
    assert backend.headers["authorization"] == "Bearer x"
    telemetry.close(5)


def test_spans_and_metrics_go_out_by_http(backend: Backend, http_endpoint: str) -> None:
    means = {"protocol": "http/protobuf", "compression": "none", "headers": {"x-key": "k"}}
    telemetry = _open(
        io.StringIO(),
        traces={"endpoint": f"{http_endpoint}/v1/traces", **means},
        metrics={"endpoint": f"{http_endpoint}/v1/metrics", **means},
        resource_attributes={"deployment.environment.name": "test"},
    )
    _tell_of_a_life(telemetry)
    telemetry.close(10)

    _arrived(backend)
    assert backend.headers["x-key"] == "k"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_is_away_neither_delays_the_end_nor_floods_the_log(protocol: str) -> None:
    before, stderr = set(threading.enumerate()), io.StringIO()
    signal = {"endpoint": NOTHING_LISTENS, "protocol": protocol}
    telemetry = _open(stderr, traces=signal, metrics=signal, metrics_interval_seconds=0.05)
    for _ in range(50):
        _tell_of_a_life(telemetry)
    eventually(lambda: "A library" in stderr.getvalue(), why="nobody says that the endpoint is away")

    began = time.monotonic()
    telemetry.close(1)
    assert time.monotonic() - began < 2
    assert sum("opentelemetry" in line for line in stderr.getvalue().splitlines()) < 20
    eventually(
        lambda: set(threading.enumerate()) <= before, within_seconds=30, why="what goes on trying ends by itself"
    )


def test_disabled_sends_nothing_and_metrics_say_so(backend: Backend, grpc_endpoint: str) -> None:
    signal = {"endpoint": grpc_endpoint}
    telemetry = _open(io.StringIO(), traces=signal, metrics=signal, disabled=True)
    _tell_of_a_life(telemetry)

    assert telemetry.flush(5)
    assert telemetry.prometheus().startswith(b"# Metrics are off")
    telemetry.close(5)
    assert not backend.spans
    assert not backend.metrics


def test_the_console_exporters_write_json_lines_beside_the_log() -> None:
    stderr = io.StringIO()
    telemetry = _open(stderr, traces={"exporter": "console"}, metrics={"exporter": "console"})
    _tell_of_a_life(telemetry)
    telemetry.close(5)

    lines = stderr.getvalue().splitlines()
    assert any(line.startswith("{") and '"otelbridge.connect"' in line for line in lines)
    assert any(line.startswith("{") and '"otelbridge.delivery.records"' in line for line in lines)
