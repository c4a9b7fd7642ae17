"""The gRPC half of the scripted OTLP endpoint: one generic handler for the three services."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelbridge.simulator import endpoint_answers as answer_kinds
from otelbridge.simulator.endpoint_answers import GRPC_OF_HTTP, Answer, Request

METHODS: Mapping[str, str] = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
BIND_SECONDS = 5
"""A port just given up by an earlier server of ours is asked for again for so long."""

Judge = Callable[[Request], Answer]
Take = Callable[[Request, int], None]
"""Called with a request that was taken and the number of its records that were not."""
Wait = Callable[[float], bool]
"""Waits for so many seconds, or until the endpoint stops: then it returns True."""


def partial_success(signal: str, rejected: int, message: str) -> bytes:
    """An encoded response of a signal's service that took all but some records."""
    match signal:
        case "logs":
            logs = ExportLogsServiceResponse()
            logs.partial_success.rejected_log_records, logs.partial_success.error_message = rejected, message
            return logs.SerializeToString()
        case "traces":
            spans = ExportTraceServiceResponse()
            spans.partial_success.rejected_spans, spans.partial_success.error_message = rejected, message
            return spans.SerializeToString()
        case _:
            metrics = ExportMetricsServiceResponse()
            metrics.partial_success.rejected_data_points, metrics.partial_success.error_message = rejected, message
            return metrics.SerializeToString()


def start_grpc(
    *,
    host: str,
    port: int,
    judge: Judge,
    take: Take,
    wait: Wait,
    credentials: grpc.ServerCredentials | None,
    max_request_bytes: int,
    workers: int,
) -> tuple[grpc.Server, int]:
    """Starts a server on `port` (0 takes a free one) and returns it with the port."""

    def export(body: bytes, context: grpc.ServicerContext, signal: str) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return _answered(Request(signal, body, metadata, "grpc"), context, judge=judge, take=take, wait=wait)

    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="simulator-otlp-grpc")
    server = grpc.server(
        pool,
        # Without so_reuseport=0 two servers could share a port, and a test's requests end up in another test's server.
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_request_bytes)],
    )
    server.add_generic_rpc_handlers((_Services(export),))
    return server, _bound(server, f"{host}:{port}", credentials)


def _bound(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            server.start()
            return int(port)


class _Services(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Hands every Export of the three services to one function, as bytes."""

    def __init__(self, export: Callable[[bytes, grpc.ServicerContext, str], bytes]) -> None:
        self._handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                lambda body, context, signal=signal: export(body, context, signal)
            )
            for method, signal in METHODS.items()
        }

    def service(self, call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(call_details.method)


def _answered(request: Request, context: grpc.ServicerContext, *, judge: Judge, take: Take, wait: Wait) -> bytes:
    match judge(request):
        case answer_kinds.Ok() | answer_kinds.Raw():
            return _taken(request, context, take)
        case answer_kinds.Partial(rejected=rejected, message=message, refusal=refusal):
            take(request, rejected)
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
            if wait(seconds) or not context.is_active():
                _refuse(context, grpc.StatusCode.UNAVAILABLE, "the endpoint stopped")
            return _taken(request, context, take)
        case answer_kinds.Reset():
            context.cancel()
        case answer_kinds.LoseAnswer():
            take(request, 0)
            context.cancel()
    return b""


def _taken(request: Request, context: grpc.ServicerContext, take: Take) -> bytes:
    try:
        take(request, 0)
    except DecodeError as error:
        _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"not an OTLP request: {error}")
    return b""


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError("abort raises")
