"""OTLP JSON on a stream."""

from __future__ import annotations

import io
import json

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.model import Accepted, Hold
from otelbridge.send.console_sender import ConsoleSender, to_document
from tests.records import request_of


def rich_request() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            time_unix_nano=2**60, severity_number=17, trace_id=bytes(range(16)), span_id=bytes(range(8)), flags=1
        )
    )
    record.body.string_value = "\x1b[31mred \u202e"
    record.attributes.add(key="n").value.int_value = 2**60
    record.attributes.add(key="b").value.bytes_value = b"\x00\xff"
    return request


def test_ids_are_hexadecimal_big_numbers_strings_and_enums_numbers() -> None:
    (per_resource,) = to_document(rich_request().SerializeToString())["resourceLogs"]
    (record,) = per_resource["scopeLogs"][0]["logRecords"]
    assert record["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert record["spanId"] == "0001020304050607"
    assert record["timeUnixNano"] == str(2**60)
    assert record["severityNumber"] == 17
    assert record["attributes"] == [
        {"key": "n", "value": {"intValue": str(2**60)}},
        {"key": "b", "value": {"bytesValue": "AP8="}},
    ]


def test_without_ids_the_document_is_protobufs_own_json() -> None:
    request = request_of("a", "b")
    parsed = ParseDict(to_document(request), ExportLogsServiceRequest())
    assert parsed == ExportLogsServiceRequest.FromString(request)


def test_each_request_is_one_ascii_line() -> None:
    stream = io.StringIO()
    sender = ConsoleSender(stream)
    assert sender.send(rich_request().SerializeToString(), records=1) == Accepted()
    assert sender.send(request_of("b"), records=1) == Accepted()
    first, second = stream.getvalue().splitlines()
    assert first.isascii()
    assert "\x1b" not in first
    assert json.loads(second)["resourceLogs"]
    assert sender.endpoint == "console"


def test_a_closed_stream_holds() -> None:
    stream = io.StringIO()
    stream.close()
    assert isinstance(ConsoleSender(stream).send(request_of("a"), records=1), Hold)
