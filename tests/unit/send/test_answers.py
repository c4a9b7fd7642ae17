"""Each row of both tables, and what goes beside a status: RetryInfo, Retry-After, partial success."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send import classify
from otelbridge.send.classify import Meaning
from otelbridge.simulator.endpoint_answers import Status, status_details

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


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
    (501, "Suspect"),
    (502, "RetryLater"),
    (503, "RetryLater"),
    (504, "RetryLater"),
    (599, "Suspect"),
    (700, "Suspect"),
]


@pytest.mark.parametrize(("status", "kind"), HTTP_ROWS)
def test_each_http_status_has_its_outcome(status: int, kind: str) -> None:
    outcome = classify.of_http(status, {}, b"because")
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
        ("CLIENT: Received message larger than max (5000000 vs. 4194304)", False, RetryLater),
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


def test_an_unreadable_or_absurd_success_is_still_a_success() -> None:
    assert classify.of_response(b"") == Accepted()
    assert classify.of_response(b"\xff") == Accepted(message="the answer could not be read")
    assert classify.of_http(200, {"content-type": "text/html"}, b"<html>") == Accepted()
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = -1
    assert classify.of_response(response.SerializeToString()).rejected == 0


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


@pytest.mark.parametrize("fault", classify.TLS_FAULTS)
def test_a_tls_fault_that_grpc_calls_unavailable_is_held(fault: str) -> None:
    outcome = classify.of_grpc(grpc.StatusCode.UNAVAILABLE, f"failed to connect to all addresses; last error: {fault}")
    assert isinstance(outcome, Hold)
    assert outcome.cure == classify.TLS_FAULTS[fault]


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
    assert isinstance(classify.of_broken_connection(error), kind)


def test_the_documentation_has_a_row_for_each_answer() -> None:
    text = classify.markdown()
    assert text.count("\n") == 1 + len(classify.GRPC_MEANINGS) + len(classify.HTTP_MEANINGS) + len(
        classify.HTTP_CLASSES
    )
