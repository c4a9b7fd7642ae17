"""What a server of HTTP/2 may answer to a call of gRPC, frame by frame: only a status 0 with a message is a yes.

Whatever else comes says nothing about a record: all are held, none is set aside, and all arrive once it is over.
"""

from __future__ import annotations

import base64
import gzip
from typing import NamedTuple

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otelbridge.queue.checkpoint import Account
from tests.integration.send.conftest import Road
from tests.integration.send.http2_server import HEAD, YES, Answer, Call, Http2Server, framed, says, status_only
from tests.records import batch_of
from tests.waiting import eventually

OK = [("grpc-status", "0")]
PARTIAL = ExportLogsServiceResponse()
PARTIAL.partial_success.rejected_log_records = 1
ONE_REJECTED = PARTIAL.SerializeToString()
NOT_OTLP, USE_HTTP = "not as an OTLP endpoint", "http/protobuf"


class Row(NamedTuple):
    """What comes of the records while it is answered."""

    answer: Answer
    code: str
    cure: str = ""
    """Held for the operator where there is one; else delayed."""


def with_status(status: str) -> Answer:
    return says(HEAD, framed(b""), [("grpc-status", status)])


def asking_for(seconds: int, nanos: int = 0) -> Answer:
    status = status_pb2.Status(code=14, message="busy")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    return status_only(("grpc-status", "14"), ("grpc-status-details-bin", details))


def reset(error: int, *, after_message: bool = False) -> Answer:
    def answer(call: Call) -> None:
        if after_message:
            call.http2.send_headers(call.stream, HEAD)
            call.http2.send_data(call.stream, framed(b""))
        call.http2.reset_stream(call.stream, error_code=error)

    return answer


def goodbye(error: int, last_stream: int | None = None) -> Answer:
    def answer(call: Call) -> None:
        call.http2.close_connection(error_code=error, last_stream_id=last_stream)
        call.hang_up()

    return answer


def page(status: str) -> Answer:
    return says([(":status", status), ("content-type", "text/html")], b"<html>")


def yes_with(status: str) -> Answer:
    return says([(":status", status), HEAD[1]], framed(b""), OK)


def interim(status: str) -> Answer:
    def answer(call: Call) -> None:
        call.http2.send_headers(call.stream, [(":status", status)])
        YES(call)

    return answer


def bytes_of(answer: bytes) -> Answer:
    def said(call: Call) -> None:
        call.hang_up(answer)

    return said


def encoded(name: str, message: bytes) -> Answer:
    return says([*HEAD, ("grpc-encoding", name)], framed(message, flag=1), OK)


YES_ROWS: dict[str, tuple[Answer, int]] = {
    "message and status": (YES, 0),
    "partial, gzip": (encoded("gzip", gzip.compress(ONE_REJECTED)), 1),
    "no content-type": (says([(":status", "200")], framed(ONE_REJECTED), OK), 1),
    "status 00": (with_status("00"), 0),
}
NO_ROWS: dict[str, Row] = {
    # A status.
    **{f"trailers only, {status}": Row(status_only(("grpc-status", status)), code) for status, code in {
        "13": "INTERNAL", "14": "UNAVAILABLE", "1": "CANCELLED", "99": "UNKNOWN", "17": "UNKNOWN",
    }.items()},
    **{f"status {status!r}": Row(with_status(status), "INTERNAL", NOT_OTLP)
       for status in ("-1", "abc", "", "0x0", "4294967296")},
    "status 99": Row(with_status("99"), "UNKNOWN"),
    "the last of two statuses": Row(says(HEAD, framed(b""), [*OK, ("grpc-status", "13")]), "INTERNAL"),
    "yes in the head, no in the trailers": Row(says([*HEAD, *OK], framed(b""), [("grpc-status", "13")]), "INTERNAL"),
    "trailers only, 0": Row(status_only(*OK), "OK", NOT_OTLP),
    "trailers without a status": Row(says(HEAD, framed(b""), [("x", "y")]), "UNKNOWN", USE_HTTP),
    "status in the head, not in the trailers": Row(says([*HEAD, *OK], framed(b""), [("x", "y")]), "UNKNOWN", USE_HTTP),
    "no trailers": Row(says(HEAD, framed(b"")), "UNKNOWN", USE_HTTP),
    "a head alone": Row(says(HEAD), "UNKNOWN", USE_HTTP),
    # A message.
    "no message": Row(says(HEAD, b"", OK), "OK", NOT_OTLP),
    "two messages": Row(says(HEAD, framed(b"") * 2, OK), "DEADLINE_EXCEEDED"),
    "a message cut short": Row(says(HEAD, framed(ONE_REJECTED)[:-1], OK), "OK", NOT_OTLP),
    "a frame's head cut short": Row(says(HEAD, b"\0\0", OK), "OK", NOT_OTLP),
    "a page as the message": Row(says(HEAD, framed(b"<html>"), OK), "OK", NOT_OTLP),
    "a message that does not decode": Row(says(HEAD, framed(b"\xff"), OK), "OK", NOT_OTLP),
    "a google.rpc.Status": Row(says(HEAD, framed(b"\x08\x03\x12\x04nope"), OK), "OK", NOT_OTLP),
    "a flag that is none": Row(says(HEAD, framed(b"", flag=2), OK), "OK", NOT_OTLP),
    "larger than is read": Row(says(HEAD, b"\0\0\x50\0\0" + bytes(20_000), OK), "RESOURCE_EXHAUSTED", NOT_OTLP),
    "larger than anything": Row(says(HEAD, b"\0\xff\xff\xff\xff", OK), "RESOURCE_EXHAUSTED", NOT_OTLP),
    "an encoding that is not known": Row(encoded("zstd", b"a"), "INTERNAL", NOT_OTLP),
    "encoded, it does not say how": Row(says(HEAD, framed(b"a", flag=1), OK), "OK", NOT_OTLP),
    "gzip that is none": Row(encoded("gzip", b"abc"), "INTERNAL"),
    "gzip that breaks off": Row(encoded("gzip", gzip.compress(ONE_REJECTED)[:-9]), "INTERNAL"),
    "a gzip bomb": Row(encoded("gzip", gzip.compress(bytes(50_000_000))), "RESOURCE_EXHAUSTED"),
    # A delay: its bounds are in test_classify.py.
    **{f"asks for {seconds} s and {nanos} ns": Row(asking_for(seconds, nanos), "UNAVAILABLE") for seconds, nanos in (
        (-1, 0), (0, 0), (10**18, 0), (0, -(2**31)), (-(2**62), 0),
    )},
    "details that are not base64": Row(
        status_only(("grpc-status", "14"), ("grpc-status-details-bin", "!!!")), "INTERNAL", NOT_OTLP
    ),
    "details that do not decode": Row(
        status_only(("grpc-status", "14"), ("grpc-status-details-bin", "/////w")), "UNAVAILABLE"
    ),
    # The end of a stream, or of the connection.
    **{f"reset with {error}": Row(reset(error), code) for error, code in {
        0: "INTERNAL", 1: "INTERNAL", 2: "INTERNAL", 255: "INTERNAL",
        7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED",
    }.items()},
    **{f"reset with {error} after the message": Row(reset(error, after_message=True), code) for error, code in {
        0: "INTERNAL", 8: "CANCELLED",
    }.items()},
    "reset: not safe enough": Row(reset(12), "PERMISSION_DENIED", "https://"),
    "reset: HTTP/1.1 required": Row(reset(13), "INTERNAL", USE_HTTP),
    **{f"goodbye with {error}, last stream {last}": Row(goodbye(error, last), "UNAVAILABLE")
       for error in (0, 2, 11) for last in (0, None)},
    "the connection ends": Row(bytes_of(b""), "UNAVAILABLE"),
    "bytes that are no frames": Row(bytes_of(b"\xff" * 100), "UNKNOWN", NOT_OTLP),
    "HTTP/1.1": Row(bytes_of(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "INTERNAL", USE_HTTP),
    # A status of HTTP.
    **{f"{status} first": Row(interim(status), "UNKNOWN", USE_HTTP) for status in ("100", "103")},
    **{f"a page with {status}": Row(page(status), code, USE_HTTP) for status, code in {
        "200": "UNKNOWN", "204": "UNKNOWN", "302": "UNKNOWN",
        "400": "INTERNAL", "404": "UNIMPLEMENTED", "418": "UNKNOWN",
    }.items()},
    **{f"a page with {status}": Row(page(status), code) for status, code in {
        "429": "UNAVAILABLE", "500": "UNKNOWN", "502": "UNAVAILABLE", "503": "UNAVAILABLE",
        "599": "UNKNOWN", "999": "UNKNOWN",
    }.items()},
    "a page with abc": Row(page("abc"), "INTERNAL", NOT_OTLP),
    **{f"a yes with {status}": Row(yes_with(status), code, cure) for status, code, cure in (
        ("201", "UNKNOWN", USE_HTTP), ("302", "UNKNOWN", USE_HTTP), ("404", "UNIMPLEMENTED", USE_HTTP),
        ("500", "UNKNOWN", ""), ("503", "UNAVAILABLE", ""),
    )},
    "trailers only, 0, with 503": Row(says([(":status", "503"), HEAD[1], *OK]), "OK", NOT_OTLP),
    "trailers only, 13, with 400": Row(says([(":status", "400"), HEAD[1], ("grpc-status", "13")]), "INTERNAL"),
}  # fmt: skip


@pytest.mark.parametrize("name", YES_ROWS)
def test_a_yes_is_a_status_0_with_a_message(road: Road, name: str) -> None:
    answer, rejected = YES_ROWS[name]
    with Http2Server(answer) as server:
        road.start(server)
        road.put(batch_of("a", "b"))
        eventually(lambda: road.held() == 0)
        road.closing.close()
    assert road.total(Account.DELIVERED) == 2 - rejected
    assert server.seen == {"a": 1, "b": 1}


@pytest.mark.parametrize("name", NO_ROWS)
def test_anything_else_is_held_without_guilt_and_said_until_it_is_over(road: Road, name: str) -> None:
    row = NO_ROWS[name]
    with Http2Server(YES) as server:
        workers = road.start(server, concurrency=2, timeout_seconds=1, server_delay_max_seconds=0.1)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        server.answer = row.answer
        road.put(*[batch_of(f"r{n}") for n in range(3)])
        state = "held" if row.cure else "delayed"

        def is_said() -> bool:
            breaker = workers.status().breaker
            return (breaker.state, breaker.code) == (state, row.code) and row.cure in breaker.cure

        seen = workers.status().counts.requests
        eventually(lambda: workers.status().counts.requests >= seen + 2, within_seconds=20)
        eventually(is_said, within_seconds=20, why=str(workers.status().breaker))
        assert road.held() == 3
        assert road.total(Account.DELIVERED) == 1
        server.answer = YES
        eventually(lambda: road.held() == 0, within_seconds=20)
        road.closing.close()
    assert road.total(Account.DELIVERED) == 4
    assert workers.status().counts.dead_letter_records == 0
    assert set(server.seen) == {"welcome", "r0", "r1", "r2"}
