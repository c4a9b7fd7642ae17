"""OTLP JSON on a stream."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.model import Accepted, Hold, RetryLater
from otelbridge.send.console_sender import ConsoleSender, line_output, to_document
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


def sender_to(descriptor: int, *, timeout_seconds: float = 10) -> ConsoleSender:
    return ConsoleSender(descriptor, timeout_seconds=timeout_seconds)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    line_output.cache_clear()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_each_request_is_one_ascii_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sender = sender_to(writing)
    assert sender.send(rich_request().SerializeToString(), records=1) == Accepted()
    assert sender.send(request_of("b"), records=1) == Accepted()
    first, second = os.read(reading, 65536).splitlines()
    assert first.isascii()
    assert b"\x1b" not in first
    assert json.loads(second)["resourceLogs"]
    assert sender.endpoint == "console"


def test_a_stream_that_nobody_can_read_holds(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    assert isinstance(sender_to(writing).send(request_of("a"), records=1), Hold)
    os.close(writing)
    assert isinstance(sender_to(writing).send(request_of("a"), records=1), Hold)


def test_a_reader_that_stands_still_is_waited_for_until_the_timeout_and_gets_whole_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sender = sender_to(writing, timeout_seconds=0.3)
    large = request_of("a" * 100_000)  # more than the pipe holds
    assert isinstance(sender.send(large, records=1), RetryLater)
    with ThreadPoolExecutor() as pool, os.fdopen(reading, "rb", closefd=False) as lines:
        answer = pool.submit(sender_to(writing).send, request_of("b"), records=1)
        first, second = lines.readline(), lines.readline()
        assert answer.result() == Accepted()
    assert json.loads(first) == to_document(large)
    assert json.loads(second) == to_document(request_of("b"))


def test_a_line_that_was_cut_is_finished_whatever_is_refused_meanwhile(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output, stop = line_output(writing), threading.Event()
    room = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    cut, refused = b"a" * (room + 9) + b"\n", b"b" * 9 + b"\n"  # as long as what is left of the first
    assert not output.write(cut, timeout_seconds=0.01, stop=stop)
    assert not output.write(refused, timeout_seconds=0.01, stop=stop)
    with os.fdopen(reading, "rb", closefd=False) as lines, ThreadPoolExecutor() as pool:
        taken = pool.submit(output.write, b"c\n", timeout_seconds=10, stop=stop)
        assert (lines.readline(), lines.readline()) == (cut, b"c\n")
        assert taken.result()


def test_closing_ends_the_waiting_for_a_reader(pipe: tuple[int, int]) -> None:
    sender = sender_to(pipe[1], timeout_seconds=60)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(sender.send, request_of("a" * 100_000), records=1)
        sender.close()
        assert isinstance(answer.result(timeout=10), RetryLater)
