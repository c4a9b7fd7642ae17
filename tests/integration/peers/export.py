"""Sends log records to an OTLP endpoint as any client would: without anything of the bridge."""

from __future__ import annotations

import time
import urllib.request

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

TIMEOUT_SECONDS = 10


def request_of(number: int, *, event_name: str) -> ExportLogsServiceRequest:
    """A request with so many records, each with a number of its own in its body and attributes."""
    request = ExportLogsServiceRequest()
    per_resource = request.resource_logs.add()
    per_resource.resource.attributes.add(key="service.name").value.string_value = "kubearmor"
    per_scope = per_resource.scope_logs.add()
    per_scope.scope.name = "otelbridge"
    for index in range(number):
        record = per_scope.log_records.add(
            time_unix_nano=time.time_ns(),
            observed_time_unix_nano=time.time_ns(),
            severity_number=9,
            severity_text="INFO",
        )
        record.event_name = event_name
        record.body.string_value = f"record {index}"
        record.attributes.add(key="log.record.uid").value.string_value = f"{event_name}-{index}"
    return request


def export_grpc(endpoint: str, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse:
    """Exports over gRPC without TLS; raises grpc.RpcError when the endpoint does not take it."""
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        stub = LogsServiceStub(channel)  # type: ignore[no-untyped-call]
        answer: ExportLogsServiceResponse = stub.Export(request, timeout=TIMEOUT_SECONDS, wait_for_ready=True)
    return answer


def export_http(endpoint: str, request: ExportLogsServiceRequest | bytes) -> None:
    """Exports over HTTP as protobuf; raises urllib.error.HTTPError when the endpoint does not take it."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    post = urllib.request.Request(
        f"{endpoint}/v1/logs", data=body, headers={"content-type": "application/x-protobuf"}, method="POST"
    )
    with urllib.request.urlopen(post, timeout=TIMEOUT_SECONDS):
        pass
