"""Each row of both tables, and what goes beside a status: RetryInfo, Retry-After, partial success."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from http.client import HTTPException, LineTooLong, UnknownProtocol

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from docs import tables
from otelbridge.net.proxy import ProxyRefusedError
from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send import classify
from otelbridge.send.classify import Meaning
from otelbridge.send.settings import Target
from otelbridge.simulator.endpoint_answers import Status, status_details

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()
TARGET = Target(host="h", port=4318, path="/v1/logs", tls=False)


def kind_of(outcome: Outcome) -> str:
    suspect = isinstance(outcome, RetryLater) and outcome.perhaps_its_own_fault
    return "Suspect" if suspect else type(outcome).__name__


GRPC_ROWS = [
    ("CANCELLED", "RetryLater"),
    ("UNKNOWN", "Suspect"),
    ("INVALID_ARGUMENT", "Refused"),
    ("DEADLINE_EXCEEDED", "RetryLater"),
    ("NOT_FOUND", "Hold"),
    ("ALREADY_EXISTS", "Suspect"),
    ("PERMISSION_DENIED", "Hold"),
    ("RESOURCE_EXHAUSTED", "RetryLater"),
    ("FAILED_PRECONDITION", "Suspect"),
    ("ABORTED", "RetryLater"),
    ("OUT_OF_RANGE", "RetryLater"),
    ("UNIMPLEMENTED", "Hold"),
    ("INTERNAL", "Suspect"),
    ("UNAVAILABLE", "RetryLater"),
    ("DATA_LOSS", "RetryLater"),
    ("UNAUTHENTICATED", "Hold"),
]


@pytest.mark.parametrize(("name", "kind"), GRPC_ROWS)
def test_each_grpc_code_has_its_outcome(name: str, kind: str) -> None:
    outcome = classify.of_grpc(grpc.StatusCode[name], "because")
    assert kind_of(outcome) == kind
    assert not isinstance(outcome, Accepted)
    assert (outcome.code, outcome.why) == (name, "because")


def test_no_grpc_code_is_missing_from_the_table() -> None:
    assert set(classify.GRPC_MEANINGS) == set(grpc.StatusCode)
    assert {name for name, _ in GRPC_ROWS} | {"OK"} == {code.name for code in grpc.StatusCode}


HTTP_ROWS = [
    (200, "Accepted"),
    (202, "Accepted"),
    (101, "Hold"),
    (301, "Hold"),
    (307, "Hold"),
    (400, "Refused"),
    (401, "Hold"),
    (403, "Hold"),
    (404, "Hold"),
    (405, "Hold"),
    (407, "Hold"),
    (408, "RetryLater"),
    (413, "TooLarge"),
    (415, "Hold"),
    (418, "Suspect"),
    (422, "Refused"),
    (429, "RetryLater"),
    (500, "Suspect"),
    (501, "Hold"),
    (502, "RetryLater"),
    (503, "RetryLater"),
    (504, "RetryLater"),
    (599, "RetryLater"),
    (700, "Suspect"),
    (999, "Suspect"),
    # Proxies, gateways and load balancers between the bridge and an endpoint.
    (411, "Hold"),
    (414, "Hold"),
    (421, "Hold"),
    (423, "RetryLater"),
    (426, "Hold"),
    (431, "Hold"),
    (444, "RetryLater"),
    (460, "RetryLater"),
    (464, "Hold"),
    (494, "Hold"),
    (495, "Hold"),
    (496, "Hold"),
    (497, "Hold"),
    (499, "RetryLater"),
    (507, "RetryLater"),
    (511, "Hold"),
    (520, "RetryLater"),
    (522, "RetryLater"),
    (526, "RetryLater"),
    (530, "RetryLater"),
    (561, "Hold"),
]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (ProxyRefusedError("the proxy p does not connect to h:1: HTTP/1.1 407 Auth Required"), "send.proxy"),
        (ProxyRefusedError("the proxy p does not connect to h:1: HTTP/1.1 403 Forbidden"), "NO_PROXY"),
        (LineTooLong("header line"), "not as an OTLP endpoint"),
        (UnknownProtocol("HTTP/2"), "not as an OTLP endpoint"),
        (HTTPException("got more than 100 headers"), "not as an OTLP endpoint"),
    ],
)
def test_what_trying_again_does_not_cure_is_held(error: Exception, cure: str) -> None:
    outcome = classify.of_broken_connection(error, TARGET)
    assert isinstance(outcome, Hold)
    assert cure in outcome.cure


def test_a_proxy_that_cannot_reach_the_endpoint_is_tried_again() -> None:
    error = ProxyRefusedError("the proxy p does not connect to h:1: HTTP/1.1 502 Bad Gateway")
    assert isinstance(classify.of_broken_connection(error, TARGET), RetryLater)


@pytest.mark.parametrize(
    ("code", "said", "kind", "cure"),
    [
        ("UNAVAILABLE", "HTTP proxy returned response code 407", "Hold", "send.proxy"),
        ("UNAVAILABLE", "HTTP proxy returned response code 403", "Hold", "NO_PROXY"),
        ("UNAVAILABLE", "HTTP proxy returned response code 502", "RetryLater", ""),
        ("UNKNOWN", "Received http2 header with status: 413", "TooLarge", ""),
    ],
)
def test_what_stands_before_an_endpoint_of_grpc_is_understood(code: str, said: str, kind: str, cure: str) -> None:
    outcome = classify.of_grpc(grpc.StatusCode[code], said)
    assert kind_of(outcome) == kind
    assert not isinstance(outcome, Hold) or cure in outcome.cure


@pytest.mark.parametrize(
    ("status", "said", "cure"),
    [
        (400, "<center>Request Header Or Cookie Too Large</center>", "send.headers"),
        (431, "Request header fields too large", "send.headers"),
        (400, "<title>400 No required SSL certificate was sent</title>", "send.cert_file"),
        (400, "<title>400 The SSL certificate error</title>", "send.cert_file"),
    ],
)
def test_what_nginx_says_with_400_about_our_own_head_or_certificate_is_held(status: int, said: str, cure: str) -> None:
    outcome = classify.of_http(status, {"content-type": "text/html"}, said.encode())
    assert isinstance(outcome, Hold)
    assert cure in outcome.cure


def test_where_a_redirect_leads_is_said_without_a_password() -> None:
    outcome = classify.of_http(308, {"location": "https://user:secret@h/v1/logs?token=secret"}, b"")
    assert isinstance(outcome, Hold)
    assert outcome.why == "redirects to https://h/v1/logs"


def test_json_behind_a_byte_order_mark_is_read() -> None:
    body = b'\xef\xbb\xbf{"partialSuccess":{"rejectedLogRecords":"1"}}'
    assert classify.of_http(200, {"content-type": "application/json"}, body) == Accepted(rejected=1)


@pytest.mark.parametrize(("status", "kind"), HTTP_ROWS)
def test_each_http_status_has_its_outcome(status: int, kind: str) -> None:
    outcome = classify.of_http(status, {}, b"{}" if kind == "Accepted" else b"because")
    assert kind_of(outcome) == kind
    if not isinstance(outcome, Accepted):
        assert (outcome.code, outcome.why) == (str(status), "because")


def test_what_is_held_names_a_cure() -> None:
    held = [code for code, meaning in classify.GRPC_MEANINGS.items() if meaning is Meaning.HOLD]
    outcomes = [classify.of_grpc(code, "") for code in held]
    outcomes += [
        classify.of_http(status, {}, b"")
        for status, meaning in {**classify.HTTP_MEANINGS, 302: Meaning.HOLD}.items()
        if meaning is Meaning.HOLD
    ]
    assert all(isinstance(outcome, Hold) and len(outcome.cure) > 20 for outcome in outcomes)


@pytest.mark.parametrize("seconds", [0, 0.25, 5, 90])
def test_retry_info_is_the_least_delay(seconds: float) -> None:
    details = status_details(Status(code=grpc.StatusCode.UNAVAILABLE, retry_delay_seconds=seconds))
    outcome = classify.of_grpc(grpc.StatusCode.UNAVAILABLE, "", details)
    assert outcome == RetryLater(code="UNAVAILABLE", why="UNAVAILABLE", after_seconds=seconds)


def test_status_details_that_cannot_be_read_or_hold_no_retry_info_ask_for_nothing() -> None:
    assert classify.retry_delay_seconds(b"\xff\xff") is None
    assert classify.retry_delay_seconds(status_details(Status(code=grpc.StatusCode.ABORTED))) is None


@pytest.mark.parametrize(
    ("details", "with_retry_info", "kind"),
    [
        ("grpc: received message larger than max (5000000 vs. 4194304)", False, TooLarge),
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", False, TooLarge),
        ("grpc: received message larger than max (5000000 vs. 4194304)", True, RetryLater),
        ("CLIENT: Received message larger than max (5000000 vs. 4194304)", False, Hold),
        ("Decompressed message larger than max", False, RetryLater),
        ("rate limit exceeded", False, RetryLater),
        ("rate limit exceeded", True, RetryLater),
    ],
)
def test_exhausted_resources_mean_too_large_only_when_the_text_says_so(
    details: str, with_retry_info: bool, kind: type[Outcome]
) -> None:
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_delay_seconds=3 if with_retry_info else None)
    outcome = classify.of_grpc(status.code, details, status_details(status))
    assert isinstance(outcome, kind)
    if isinstance(outcome, RetryLater):
        assert outcome.after_seconds == (3 if with_retry_info else None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0),
        # The server's clock is an hour ahead of ours; what it means is half a minute all the same.
        ({"retry-after": "Tue, 24 Nov 2026 13:00:30 GMT", "date": "Tue, 24 Nov 2026 13:00:00 GMT"}, 30),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_seconds_or_a_date(status: int, headers: dict[str, str], seconds: float | None) -> None:
    outcome = classify.of_http(status, headers, b"", now=NOW)
    assert isinstance(outcome, RetryLater)
    assert outcome.after_seconds == seconds


def test_partial_success_tells_how_many_and_why() -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 3
    response.partial_success.error_message = "too old\n\x1b[31m"
    expected = Accepted(rejected=3, message="too old [31m")
    assert classify.of_response(response.SerializeToString()) == expected
    headers = {"content-type": "application/x-protobuf; charset=x"}
    assert classify.of_http(200, headers, response.SerializeToString()) == expected


def test_a_partial_success_that_counts_backwards_rejects_nothing() -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = -1
    assert classify.of_response(response.SerializeToString()) == Accepted()


PARTIAL = ExportLogsServiceResponse()
PARTIAL.partial_success.rejected_log_records = 3
PROTOBUF, JSON = "application/x-protobuf", "application/json"


@pytest.mark.parametrize(
    ("kind", "body", "rejected"),
    [
        ("", b"", 0),
        ("text/html", b"", 0),
        (PROTOBUF, PARTIAL.SerializeToString(), 3),
        ("", PARTIAL.SerializeToString(), 3),
        (PROTOBUF, b"\x12\x01x", 0),  # a field that a later OTLP may bring
        (JSON, b"{}", 0),
        (PROTOBUF, b" {} ", 0),
        (JSON, b'{"partialSuccess":{"rejectedLogRecords":"3"}}', 3),
        (JSON, b'{"partialSuccess":{"rejectedLogRecords":3,"errorMessage":""},"newer":1}', 3),
        (JSON, b'{"partialSuccess":null}', 0),
        (JSON, b'{"partial_success":{"rejected_log_records":3},"newer":1}', 3),
        *[
            (JSON, b'{"%b":{"%b":%b,"%b":""}}' % (partial, count, three, message), 3)
            for partial, counts, message in (
                (b"partialSuccess", (b"rejectedLogRecords", b"rejectedSpans"), b"errorMessage"),
                (b"partial_success", (b"rejected_log_records", b"rejected_spans"), b"error_message"),
            )
            for count in counts
            for three in (b"3", b'"3"', b"3.0", b"3e0")
        ],
        (JSON, b'{"partialSuccess":{"rejectedSpans":null}}', 0),
        (JSON, b'{"partialSuccess":{"rejectedSpans":-3}}', 0),
        (JSON, b'{"partialSuccess":{"rejectedLogRecords":"0","rejectedSpans":"3"}}', 3),
        ("application/protobuf", PARTIAL.SerializeToString() + b"\x12\x01x", 3),
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_a_yes_is_an_otlp_answer_in_either_coding(status: int, kind: str, body: bytes, rejected: int) -> None:
    assert classify.of_http(status, {"content-type": kind}, body) == Accepted(rejected=rejected)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html><body>Welcome</body></html>"),
        ("text/plain", b"ok"),
        ("", b"Hello"),
        (JSON, b'{"error":"unauthorized"}'),
        (JSON, b'{"code":13,"message":"boom"}'),
        (JSON, b"[]"),
        (JSON, b"null"),
        (JSON, b'{"partialSuccess":'),
        (JSON, b'{"partialSuccess":7}'),
        (JSON, b'{"partialSuccess":{"rejectedSpans":"many"}}'),
        (JSON, b'{"partialSuccess":{"rejectedLogRecords":1.5}}'),
        (JSON, b'{"partialSuccess":{"rejectedSpans":99999999999999999999}}'),
        (JSON, b"[" * 100_000),
        (JSON, b'{"partialSuccess":' * 50_000),
        (PROTOBUF, b"\xff"),
        (PROTOBUF, b"<html>"),
        ("text/plain", b"\x12\x01x"),
        ("text/plain", b"\x0a\x04\x08\x03\x18\x01"),  # the unknown field is one level down
        (PROTOBUF, b"\x08\x03\x12\x04nope"),  # google.rpc.Status: field 1 is no message there
        (PROTOBUF, b"\x0a\x03\x0a\x013"),  # a count that is a text
        (PROTOBUF, b" "),
        (PROTOBUF, b"error"),  # each of these is a message of unknown fields, too
        (PROTOBUF, b"It works!"),
        (PROTOBUF, b" <!DOCTYPE html>[]"),
        (JSON, b"\r\n"),
        (PROTOBUF, None),
    ],
)
def test_a_yes_that_is_none_is_held_with_its_cure(kind: str, body: bytes | None) -> None:
    outcome = classify.of_http(200, {"content-type": kind}, body)
    assert isinstance(outcome, Hold)
    assert "not as an OTLP endpoint" in outcome.cure
    assert classify.of_http(204, {"content-type": kind}, b"") == Accepted()


def test_a_grpc_success_that_is_no_otlp_answer_is_held() -> None:
    assert classify.of_response(b"") == Accepted()
    assert isinstance(classify.of_response(b"\xff"), Hold)


@pytest.mark.parametrize(
    ("status", "said", "cure"),
    [
        (400, "The plain HTTP request was sent to HTTPS port", classify.USE_HTTPS),
        (400, "Client sent an HTTP request to an HTTPS server.", classify.USE_HTTPS),
        (400, "Reason: You're speaking plain HTTP to an SSL-enabled server port.", classify.USE_HTTPS),
        (400, "This combination of host and port requires TLS.", classify.USE_HTTPS),
        (415, "unsupported encoding", classify.NO_COMPRESSION),
        (426, "", classify.USE_GRPC),
    ],
)
def test_a_no_over_http_that_is_about_us_is_held_with_its_cure(status: int, said: str, cure: str) -> None:
    outcome = classify.of_http(status, {"content-type": "text/html"}, f"<html>{said}</html>".encode())
    assert isinstance(outcome, Hold)
    assert outcome.cure == cure


@pytest.mark.parametrize(
    ("code", "said", "cure"),
    [
        ("UNIMPLEMENTED", 'grpc: Decompressor is not installed for grpc-encoding "gzip"', classify.NO_COMPRESSION),
        ("UNIMPLEMENTED", "Can't find decompressor for gzip", classify.NO_COMPRESSION),
        (
            "UNIMPLEMENTED",
            "Content is compressed with `gzip` which isn't supported",
            classify.NO_COMPRESSION,
        ),
        ("UNIMPLEMENTED", "Compression algorithm 'gzip' is disabled.", classify.NO_COMPRESSION),
        ("UNAVAILABLE", "Trying to connect an http1.x server (HTTP status 400)", classify.USE_HTTP),
        ("UNKNOWN", "Received http2 header with status: 200", classify.USE_HTTP),
        ("UNIMPLEMENTED", "Received http2 header with status: 404", classify.USE_HTTP),
    ],
)
def test_a_no_over_grpc_that_is_about_us_is_held_with_its_cure(code: str, said: str, cure: str) -> None:
    outcome = classify.of_grpc(grpc.StatusCode[code], said)
    assert isinstance(outcome, Hold)
    assert outcome.cure == cure


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("UNAVAILABLE", "Received http2 header with status: 503"),
        ("INVALID_ARGUMENT", "attribute process.executable.path is /usr/bin/gzip"),
        ("INVALID_ARGUMENT", "string field contains invalid UTF-8 encoding"),
    ],
)
def test_words_that_are_not_about_us_do_not_hold(code: str, said: str) -> None:
    assert not isinstance(classify.of_grpc(grpc.StatusCode[code], said), Hold)


@pytest.mark.parametrize("said", ["gzip: invalid header", "Content-Encoding gzip not supported", "not gzip"])
def test_a_request_that_cannot_be_inflated_is_refused_and_the_cure_kept_for_when_all_are(said: str) -> None:
    assert classify.of_http(400, {}, said.encode()) == Refused(code="400", why=said, cure=classify.NO_COMPRESSION)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("OUT_OF_RANGE", "Error, decoded message length too large: found 5000 bytes, the limit is: 4000 bytes"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        ("RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
        ("INTERNAL", "http: request body too large"),
    ],
)
def test_too_large_is_known_by_the_words_of_each_library(code: str, said: str) -> None:
    assert isinstance(classify.of_grpc(grpc.StatusCode[code], said), TooLarge)


LOKI = "entry ignored, reason: 'entry too far behind', user 'fake', total ignored: {} out of {} for stream: {{a=\"b\"}}"


def test_a_refusal_that_stored_the_rest_is_a_partial_success() -> None:
    said = f"{LOKI.format(1, 3)}\n{LOKI.format(2, 9)}".encode()
    outcome = classify.of_http(400, {"content-type": "text/plain"}, said)
    assert isinstance(outcome, Accepted)
    assert outcome.rejected == 3
    assert isinstance(classify.of_http(400, {}, LOKI.format(3, 3).encode()), Refused)
    assert classify.of_grpc(grpc.StatusCode.INVALID_ARGUMENT, "ignored 2 of 5") == Accepted(
        rejected=2, message="ignored 2 of 5"
    )


def test_an_error_body_is_read_as_a_status_message_and_cut_to_one_line() -> None:
    headers = {"content-type": "application/x-protobuf"}
    body = status_details(Status(code=grpc.StatusCode.UNAVAILABLE, details="memory limit\nreached"))
    outcome = classify.of_http(503, headers, body)
    assert isinstance(outcome, RetryLater)
    assert outcome.why == "memory limit reached"
    long = classify.of_http(400, {}, b"<html>\n" * 1000)
    assert isinstance(long, Refused)
    assert len(long.why) <= classify.MAX_WHY_CHARS
    assert "\n" not in long.why


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (JSON, b'{"message": "no room"}', "no room"),
        (JSON, b'{"error": "no room"}', '{"error": "no room"}'),
        (JSON, b"[1]", "[1]"),
        (JSON, b"{", "{"),
        ("text/plain", b'{"message": "no room"}', '{"message": "no room"}'),
        (PROTOBUF, b"no status", "no status"),
    ],
)
def test_an_error_body_is_a_status_in_either_coding_or_text(kind: str, body: bytes, why: str) -> None:
    outcome = classify.of_http(503, {"content-type": kind}, body)
    assert isinstance(outcome, RetryLater)
    assert outcome.why == why


TLS_FAULTS = {
    "CERTIFICATE_VERIFY_FAILED": "send.ca_file",
    "Hostname Verification Check failed": "send.server_name",
    "Failed to create security handshaker": "send.ca_file",
    "TSI_PROTOCOL_FAILURE: SSLV3_ALERT_HANDSHAKE_FAILURE": "send.ca_file",
    "WRONG_VERSION_NUMBER": "the port on which it speaks TLS",
    "missing selected ALPN property": "send.protocol to http/protobuf",
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_a_tls_fault_that_grpc_calls_unavailable_is_held(fault: str) -> None:
    outcome = classify.of_grpc(grpc.StatusCode.UNAVAILABLE, f"failed to connect to all addresses; last error: {fault}")
    assert isinstance(outcome, Hold)
    assert TLS_FAULTS[fault] in outcome.cure


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError("timed out"), RetryLater),
        (ConnectionRefusedError(111, "refused"), RetryLater),
        (ssl_error("CERTIFICATE_VERIFY_FAILED"), Hold),
        (ssl_error("WRONG_VERSION_NUMBER"), Hold),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Hold),
        (ssl_error("UNEXPECTED_EOF_WHILE_READING"), RetryLater),
        (ssl.SSLError("without a reason"), RetryLater),
    ],
)
def test_a_broken_connection_is_weather_unless_tls_needs_an_operator(error: OSError, kind: type[Outcome]) -> None:
    assert isinstance(classify.of_broken_connection(error, TARGET), kind)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "9" * 5000},
        {"retry-after": "1e999"},
        {"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"retry-after": "Fri, 31 Dec 99999999 23:59:59 GMT"},
        {"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT", "date": "Mon, 01 Jan 0001 00:00:00 +2359"},
        {"retry-after": "Tue, 24 Nov 2026 12:00:30 +999999999999999"},
        {"retry-after": "Tue, 99 Nov 2026 99:99:99 GMT"},
    ],
)
def test_absurd_headers_ask_for_a_delay_within_bounds_or_for_none(headers: dict[str, str]) -> None:
    asked = classify.retry_after_seconds(headers, now=NOW)
    assert asked is None or 0 <= asked <= classify.MAX_DELAY_SECONDS


@pytest.mark.parametrize("seconds", [1e9, 3e11, -3e11])
def test_an_absurd_retry_info_is_brought_within_bounds(seconds: float) -> None:
    details = status_pb2.Status()
    details.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=int(seconds))))
    asked = classify.retry_delay_seconds(details.SerializeToString())
    assert asked is not None
    assert 0 <= asked <= classify.MAX_DELAY_SECONDS


def test_the_documentation_has_a_row_for_each_answer() -> None:
    rows = [*classify.GRPC_MEANINGS, *classify.HTTP_MEANINGS, *classify.HTTP_CLASSES, *classify.WORDS]
    assert tables.answers().count("\n") == len(rows) + 4


@pytest.mark.parametrize(("rejected", "records", "is_true"), [(0, 3, True), (3, 3, True), (4, 3, False), (1, 0, False)])
def test_a_count_of_more_than_was_sent_says_of_none_what_became_of_it(
    rejected: int, records: int, is_true: bool
) -> None:
    outcome = classify.counted(Accepted(rejected=rejected), records)
    assert isinstance(outcome, Accepted if is_true else Hold)
