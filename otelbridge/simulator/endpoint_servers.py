"""The scripted OTLP endpoint's two servers: gRPC, and a small threaded one for HTTP, for all three signals."""

from __future__ import annotations

import gzip
import json
import math
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelbridge.simulator import endpoint_answers as answer_kinds
from otelbridge.simulator.endpoint_answers import GRPC_OF_HTTP, HTTP_OF_GRPC, Answer, Request
from otelbridge.simulator.listening import ServerTls, listen

SERVICES: Mapping[str, str] = {
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}


class Script(NamedTuple):
    """What a server asks about each request."""

    judge: Callable[[Request], Answer]
    take: Callable[[Request, int], None]
    """Called with a request that was taken and the number of its records that were not."""
    wait: Callable[[float], bool]
    """Waits for so many seconds, or until the endpoint stops: then it returns True."""


_RESPONSES: Mapping[str, tuple[Any, str]] = {
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
"""By signal: the response, and what its partial success counts."""


def partial_success(signal: str, rejected: int, message: str) -> bytes:
    """An encoded response of a signal's service that took all but some records."""
    kind, counted = _RESPONSES[signal]
    response = kind()
    response.partial_success.error_message = message
    setattr(response.partial_success, counted, rejected)
    return bytes(response.SerializeToString())


def start_grpc(
    *, address: str, script: Script, tls: ServerTls | None, max_request_bytes: int, workers: int
) -> tuple[grpc.Server, int]:
    """Starts a server on `host:port` (port 0 takes a free one) and returns it with the port."""

    def export(body: bytes, context: grpc.ServicerContext, *, signal: str) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return _answered(Request(signal, body, metadata, "grpc"), context, script)

    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="simulator-otlp-grpc")
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_request_bytes)]
    handlers = [
        grpc.method_handlers_generic_handler(
            service, {"Export": grpc.unary_unary_rpc_method_handler(partial(export, signal=signal))}
        )
        for service, signal in SERVICES.items()
    ]
    return listen(partial(grpc.server, pool, handlers, options=options), address, tls, again=True)


def _answered(request: Request, context: grpc.ServicerContext, script: Script) -> bytes:
    match script.judge(request):
        case answer_kinds.Ok() | answer_kinds.Raw():
            return _taken(request, context, script)
        case answer_kinds.Partial(rejected=rejected, message=message, refusal=refusal):
            script.take(request, rejected)
            if refusal:
                _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, refusal)
            return partial_success(request.signal, rejected, message)
        case answer_kinds.Status() as status:
            if status.retry_delay_seconds is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", answer_kinds.status_details(status)),))
            _refuse(context, status.code, status.details)
        case answer_kinds.Http(status=http_status, body=body):
            _refuse(context, GRPC_OF_HTTP.get(http_status, grpc.StatusCode.UNKNOWN), body.decode(errors="replace"))
        case answer_kinds.Hang(seconds=seconds):
            if script.wait(seconds) or not context.is_active():
                _refuse(context, grpc.StatusCode.UNAVAILABLE, "the endpoint stopped")
            return _taken(request, context, script)
        case answer_kinds.Reset():
            context.cancel()
        case answer_kinds.LoseAnswer():
            script.take(request, 0)
            context.cancel()
    return b""


def _taken(request: Request, context: grpc.ServicerContext, script: Script) -> bytes:
    try:
        script.take(request, 0)
    except DecodeError as error:
        _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"not an OTLP request: {error}")
    return b""


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError("abort raises")


PATHS: Mapping[str, str] = {"/v1/logs": "logs", "/v1/traces": "traces", "/v1/metrics": "metrics"}
PROTOBUF = "application/x-protobuf"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a linger time of 0: closing sends RST instead of FIN."""


class OtlpHttpServer(ThreadingHTTPServer):
    """The listening socket, and what its handlers need. Closing it ends idle keep-alive connections too."""

    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], *, script: Script, tls: ServerTls | None, max_request_bytes: int
    ) -> None:
        super().__init__(address, _Handler)
        self.script = script
        self.max_request_bytes = max_request_bytes
        self._tls = tls.for_http() if tls else None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Runs in the connection's own thread, so that a slow TLS handshake holds up nobody else."""
        with self._lock:
            self._open.add(request)
        connection = request
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(request, server_side=True)
                with self._lock:
                    self._open.add(connection)
            super().finish_request(connection, client_address)
        finally:
            with self._lock:
                self._open -= {request, connection}
            if connection is not request:
                connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or fails the handshake, is everyday business here."""

    def end_connections(self) -> None:
        """Wakes the handlers that wait for a next request."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it went away by itself meanwhile


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OtlpHttpServer

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        raw = self.rfile.read(length)
        signal = PATHS.get(self.path)
        if signal is None:
            self._answer(404, b"no such path")
            return
        try:
            body = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
        except (OSError, EOFError, zlib.error):
            self._answer(400, b"not gzip")
            return
        if len(body) > self.server.max_request_bytes:
            self._answer(413, b"request body too large")
            return
        metadata = {name.lower(): value for name, value in self.headers.items()}
        self._judged(Request(signal, body, metadata, "http"))

    def _judged(self, request: Request) -> None:
        match self.server.script.judge(request):
            case answer_kinds.Ok():
                self._taken(request)
            case answer_kinds.Raw(answer=answer, taken=taken, rejected=rejected):
                if taken:
                    self.server.script.take(request, rejected)
                self.wfile.write(answer)
                self.close_connection = True
            case answer_kinds.Partial(rejected=rejected, refusal=refusal) if refusal:
                self.server.script.take(request, rejected)
                self._answer(400, refusal.encode(), {"Content-Type": "text/plain"})
            case answer_kinds.Partial(rejected=rejected, message=message):
                self._taken(request, rejected=rejected, answer=partial_success(request.signal, rejected, message))
            case answer_kinds.Status() as status:
                delay = status.retry_delay_seconds
                headers = {} if delay is None else {"Retry-After": str(math.ceil(delay))}
                details = status_pb2.Status(code=status.code.value[0], message=status.details).SerializeToString()
                self._answer(HTTP_OF_GRPC.get(status.code, 500), details, headers)
            case answer_kinds.Http(status=http_status, headers=headers, body=body):
                self._answer(http_status, body, headers)
            case answer_kinds.Hang(seconds=seconds):
                if self.server.script.wait(seconds):
                    self._reset()
                else:
                    self._taken(request)
            case answer_kinds.Reset():
                self._reset()
            case answer_kinds.LoseAnswer():
                self.server.script.take(request, 0)
                self._reset()

    def _taken(self, request: Request, *, rejected: int = 0, answer: bytes = b"") -> None:
        try:
            self.server.script.take(request, rejected)
        except DecodeError as error:
            self._answer(400, f"not an OTLP request: {error}".encode())
            return
        if request.metadata.get("content-type", "") == "application/json":
            answer = json.dumps({}).encode()
        self._answer(200, answer)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": PROTOBUF} | dict(headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the parameter is inherited
        """Nothing: what arrives is in the inbox."""
