from __future__ import annotations

import pytest
from grpc import StatusCode

from docs import tables
from otelbridge.event import GapCause
from otelbridge.feed.status_codes import (
    NO_ROOM_WORDS,
    VERDICTS,
    ErrorClass,
    classify,
    gap_cause,
    gentlest,
)
from otelbridge.net.tls_faults import TLS_FAULTS


@pytest.mark.parametrize(
    ("codes", "error_class"),
    [
        (
            "UNAVAILABLE DEADLINE_EXCEEDED ABORTED DATA_LOSS INTERNAL UNKNOWN CANCELLED RESOURCE_EXHAUSTED",
            ErrorClass.TRANSIENT,
        ),
        ("OK", ErrorClass.ENDED),
        (
            (
                "UNAUTHENTICATED PERMISSION_DENIED UNIMPLEMENTED NOT_FOUND FAILED_PRECONDITION OUT_OF_RANGE "
                "INVALID_ARGUMENT ALREADY_EXISTS"
            ),
            ErrorClass.PERMANENT,
        ),
    ],
)
def test_each_status_has_its_class(codes: str, error_class: ErrorClass) -> None:
    for name in codes.split():
        assert classify(StatusCode[name], "").error_class is error_class, name


@pytest.mark.parametrize("words", NO_ROOM_WORDS)
def test_a_server_that_allows_no_more_calls_needs_an_operator(words: str) -> None:
    assert classify(StatusCode.RESOURCE_EXHAUSTED, f"127.0.0.1:1: {words}").error_class is ErrorClass.CONFIGURATION
    assert classify(StatusCode.UNAVAILABLE, words).error_class is ErrorClass.CONFIGURATION


def test_no_status_is_missing_from_the_table() -> None:
    assert set(VERDICTS) == set(StatusCode)
    assert all(f"| {code.name} |" in tables.status_codes() for code in StatusCode)


@pytest.mark.parametrize("words", [words for fault in TLS_FAULTS for words in fault.words])
def test_a_tls_or_protocol_fault_is_told_from_weather_by_its_words(words: str) -> None:
    assert classify(StatusCode.UNAVAILABLE, f"failed to connect; {words} (whatever)").error_class is (
        ErrorClass.CONFIGURATION
    )
    assert classify(StatusCode.INTERNAL, words).error_class is ErrorClass.TRANSIENT


def test_only_what_one_bad_event_can_cause_is_tried_again_quickly() -> None:
    assert {code for code, verdict in VERDICTS.items() if verdict.quick} == {
        StatusCode.INTERNAL,
        StatusCode.RESOURCE_EXHAUSTED,
    }


def test_silence_and_a_cut_are_different_causes() -> None:
    assert gap_cause(StatusCode.UNAVAILABLE, "ping timeout") is GapCause.HEARTBEAT_LOSS
    assert gap_cause(StatusCode.UNAVAILABLE, "recvmsg:Connection timed out") is GapCause.HEARTBEAT_LOSS
    assert gap_cause(StatusCode.UNAVAILABLE, "Socket closed") is GapCause.DISCONNECT
    assert gap_cause(StatusCode.OK, "ping timeout") is GapCause.DISCONNECT


def test_one_stream_worth_retrying_is_worth_a_connection() -> None:
    assert gentlest([ErrorClass.PERMANENT, ErrorClass.TRANSIENT, ErrorClass.ENDED]) is ErrorClass.TRANSIENT
    assert gentlest([ErrorClass.PERMANENT, ErrorClass.PERMANENT]) is ErrorClass.PERMANENT


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(502, ErrorClass.TRANSIENT), (504, ErrorClass.TRANSIENT), (400, ErrorClass.CONFIGURATION)],
)
def test_a_proxy_without_its_server_is_waited_for_and_one_that_speaks_http1_needs_somebody(
    status: int, error_class: ErrorClass
) -> None:
    said = f"Failed parsing HTTP/2 (Trying to connect an http1.x server (HTTP status {status}))"
    assert classify(StatusCode.UNAVAILABLE, said).error_class is error_class
