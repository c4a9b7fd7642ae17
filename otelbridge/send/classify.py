"""An outcome in, the same outcome out: without what an endpoint echoed of credentials, with what ails our own files."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http.client import HTTPException

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.certificates import Certificates
from otelbridge.send.credentials import Credentials

MAX_WHY_CHARS = 300
"""A sentence for a log line; an endpoint may send an HTML page."""


class Meaning(StrEnum):
    """What an answer asks of us."""

    ACCEPTED = "accepted"
    RETRY = "retry later"
    SUSPECT = "retry later; perhaps this batch's own fault"
    HOLD = "hold for the operator"
    TOO_LARGE = "send smaller"
    REFUSED = "set aside"


GRPC_MEANINGS: Mapping[grpc.StatusCode, Meaning] = {
    grpc.StatusCode.OK: Meaning.ACCEPTED,
    grpc.StatusCode.CANCELLED: Meaning.RETRY,
    grpc.StatusCode.DEADLINE_EXCEEDED: Meaning.RETRY,
    grpc.StatusCode.ABORTED: Meaning.RETRY,
    grpc.StatusCode.OUT_OF_RANGE: Meaning.RETRY,
    grpc.StatusCode.UNAVAILABLE: Meaning.RETRY,
    grpc.StatusCode.DATA_LOSS: Meaning.RETRY,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Meaning.RETRY,
    grpc.StatusCode.UNAUTHENTICATED: Meaning.HOLD,
    grpc.StatusCode.PERMISSION_DENIED: Meaning.HOLD,
    grpc.StatusCode.UNIMPLEMENTED: Meaning.HOLD,
    grpc.StatusCode.NOT_FOUND: Meaning.HOLD,
    grpc.StatusCode.INVALID_ARGUMENT: Meaning.REFUSED,
    # The Collector answers INTERNAL to what an exporter behind it calls permanent: a bad record, or its own bad token.
    grpc.StatusCode.INTERNAL: Meaning.SUSPECT,
    grpc.StatusCode.UNKNOWN: Meaning.SUSPECT,
    grpc.StatusCode.FAILED_PRECONDITION: Meaning.SUSPECT,
    grpc.StatusCode.ALREADY_EXISTS: Meaning.SUSPECT,
}

HTTP_MEANINGS: Mapping[int, Meaning] = {
    400: Meaning.REFUSED,
    401: Meaning.HOLD,
    403: Meaning.HOLD,
    404: Meaning.HOLD,
    405: Meaning.HOLD,
    407: Meaning.HOLD,
    408: Meaning.RETRY,
    413: Meaning.TOO_LARGE,
    415: Meaning.HOLD,
    422: Meaning.REFUSED,
    429: Meaning.RETRY,
    502: Meaning.RETRY,
    503: Meaning.RETRY,
    504: Meaning.RETRY,
}
HTTP_CLASSES: Mapping[int, Meaning] = {
    2: Meaning.ACCEPTED,
    3: Meaning.HOLD,
    4: Meaning.SUSPECT,
    5: Meaning.SUSPECT,
}
"""By the first digit, for statuses that the table above does not name."""

CURES: Mapping[str, str] = {
    "UNAUTHENTICATED": "check send.token_file, send.headers or send.headers_file",
    "PERMISSION_DENIED": "give these credentials the right to write logs, or use others",
    "UNIMPLEMENTED": "check send.endpoint: nothing at that address takes OTLP logs over gRPC",
    "NOT_FOUND": "check send.endpoint and the tenant in send.headers",
    "401": "check send.token_file, send.headers or send.headers_file",
    "403": "give these credentials the right to write logs, or use others",
    "404": "check the path of send.endpoint: it is used as it is, so it usually ends in /v1/logs",
    "405": "check send.endpoint: nothing at that address takes OTLP logs by POST",
    "407": "let the bridge reach the endpoint without that proxy",
    "415": "check send.endpoint and send.compression: it does not take protobuf, or not gzip",
}
REDIRECT_CURE = "set send.endpoint to where it redirects to; redirects are not followed, as credentials would go along"

# What C-core's UNAVAILABLE says when it is TLS that failed. All of it needs an operator, or a rotation, to be cured.
TLS_FAULTS: Mapping[str, str] = {
    "CERTIFICATE_VERIFY_FAILED": "check send.ca_file, and the dates of the endpoint's certificate",
    "Hostname Verification Check failed": "set send.server_name to a name that the endpoint's certificate carries",
    "Failed to create security handshaker": "check send.cert_file and send.key_file",
    "TSI_PROTOCOL_FAILURE": "check send.endpoint: no TLS is spoken on that port; use http:// or another port",
    "Tls handshake failed": "check send.ca_file, send.cert_file, send.key_file and send.server_name",
}
# The same for the standard library's ssl, by parts of an error's reason.
SSL_FAULTS: Mapping[str, str] = {
    "CERTIFICATE_VERIFY_FAILED": "check send.ca_file and send.server_name, and the dates of the endpoint's certificate",
    "WRONG_VERSION_NUMBER": TLS_FAULTS["TSI_PROTOCOL_FAILURE"],
    "HTTP_REQUEST": TLS_FAULTS["TSI_PROTOCOL_FAILURE"],
    "ALERT": "check send.cert_file and send.key_file: the endpoint did not like what it was shown",
}
TOO_LARGE_TEXTS = ("larger than max", "too large", "exceeds the maximum", "message size")
OWN_LIMIT_TEXT = "CLIENT: Received message larger than max"
"""C-core's words when the *answer* was larger than we accept: a smaller request would not help."""


def of_grpc(code: grpc.StatusCode, details: str, status_details: bytes = b"") -> Outcome:
    """The outcome of a call that ended with an error status.

    Args:
        code: the status code; OK is classified from the response by `of_response` instead.
        details: the status message.
        status_details: the trailer `grpc-status-details-bin`, an encoded google.rpc.Status that may hold a RetryInfo.
    """
    after_seconds = retry_delay_seconds(status_details)
    meaning = GRPC_MEANINGS.get(code, Meaning.SUSPECT)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and after_seconds is None and _says_too_large(details):
        meaning = Meaning.TOO_LARGE
    cure = CURES.get(code.name, "")
    if code is grpc.StatusCode.UNAVAILABLE:
        fault = next((text for text in TLS_FAULTS if text in details), None)
        if fault:
            meaning, cure = Meaning.HOLD, TLS_FAULTS[fault]
    return _outcome(meaning, code.name, details, after_seconds, cure)


def of_http(status: int, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None) -> Outcome:
    """The outcome of an HTTP answer.

    Args:
        status: the status code.
        headers: the answer's headers, names in lower case.
        body: the answer's body: an encoded ExportLogsServiceResponse or google.rpc.Status, or anything at all.
        now: for a Retry-After date, where the answer has no Date header to compare it with.
    """
    meaning = HTTP_MEANINGS.get(status) or HTTP_CLASSES.get(status // 100, Meaning.SUSPECT)
    protobuf = headers.get("content-type", "").partition(";")[0].strip() == "application/x-protobuf"
    if meaning is Meaning.ACCEPTED:
        return of_response(body) if protobuf else Accepted()
    after_seconds = retry_after_seconds(headers, now=now)
    cure = CURES.get(str(status), REDIRECT_CURE if status // 100 == 3 else "see what the endpoint says")  # noqa: PLR2004  # redirects
    why = _status_message(body) if protobuf else body.decode("utf-8", "replace")
    if status // 100 == 3 and "location" in headers:  # noqa: PLR2004  # redirects
        why = f"redirects to {headers['location'].partition('?')[0]}"
    return _outcome(meaning, str(status), why, after_seconds, cure)


def of_broken_connection(error: OSError | HTTPException) -> Outcome:
    """The outcome of an HTTP exchange that ended without an answer."""
    if isinstance(error, TimeoutError):
        return RetryLater(code="timeout", why=_short(str(error)) or "no answer in time")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""  # those that Python raises itself have none
        why = getattr(error, "verify_message", "") or reason or str(error)
        cure = next((cure for part, cure in SSL_FAULTS.items() if part in reason), None)
        return Hold(code="tls", why=why, cure=cure) if cure else RetryLater(code="tls", why=_short(why))
    return RetryLater(code=type(error).__name__, why=_short(str(error)) or "the connection broke")


def of_response(response: bytes) -> Accepted:
    """The outcome of a success: an encoded ExportLogsServiceResponse, which may tell of a partial one."""
    if not response:
        return Accepted()
    try:
        partial = ExportLogsServiceResponse.FromString(response).partial_success
    except DecodeError:
        # The status said yes; what it says beside that is not worth a duplicate.
        return Accepted(message="the answer could not be read")
    return Accepted(rejected=max(0, partial.rejected_log_records), message=_short(partial.error_message))


def retry_delay_seconds(status_details: bytes) -> float | None:
    """The RetryInfo in an encoded google.rpc.Status, or None where there is none."""
    if not status_details:
        return None
    try:
        for detail in status_pb2.Status.FromString(status_details).details:
            info = error_details_pb2.RetryInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                return max(0.0, float(info.retry_delay.ToNanoseconds()) / 1e9)
    except DecodeError:
        return None
    return None


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """The Retry-After header in seconds; where it is a date, it counts from the server's own Date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = _date(value)
    if until is None:
        return None
    since = _date(headers.get("date", "")) or now or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())


def markdown() -> str:
    """Both tables, for the documentation."""
    rows = [f"| gRPC | {code.name} | {meaning} |" for code, meaning in GRPC_MEANINGS.items()]
    rows += [f"| HTTP | {status} | {meaning} |" for status, meaning in HTTP_MEANINGS.items()]
    rows += [f"| HTTP | any other {digit}xx | {meaning} |" for digit, meaning in HTTP_CLASSES.items()]
    return "\n".join(["| protocol | answer | what the bridge does |", "|---|---|---|", *rows])


def _outcome(meaning: Meaning, code: str, why: str, after_seconds: float | None, cure: str) -> Outcome:
    why = _short(why) or code
    match meaning:
        case Meaning.ACCEPTED:
            return Accepted()
        case Meaning.RETRY | Meaning.SUSPECT:
            suspect = meaning is Meaning.SUSPECT
            return RetryLater(code=code, why=why, after_seconds=after_seconds, perhaps_its_own_fault=suspect)
        case Meaning.HOLD:
            return Hold(code=code, why=why, cure=cure)
        case Meaning.TOO_LARGE:
            return TooLarge(code=code, why=why)
        case Meaning.REFUSED:
            return Refused(code=code, why=why)


def _says_too_large(details: str) -> bool:
    return OWN_LIMIT_TEXT not in details and any(text in details for text in TOO_LARGE_TEXTS)


def _status_message(body: bytes) -> str:
    try:
        return str(status_pb2.Status.FromString(body).message)
    except DecodeError:
        return body.decode("utf-8", "replace")


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _short(text: str) -> str:
    """One line of printable characters: what an endpoint says ends in logs and on the status page."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_WHY_CHARS])
    return " ".join(line.split())[:MAX_WHY_CHARS]


NOT_BY_TLS = frozenset({"timeout", "CANCELLED", "DEADLINE_EXCEEDED", "ConnectionRefusedError", "gaierror"})
"""Failures of a connection that come before its handshake, or behind it."""
REFUSED = "Connection refused"


def hidden(outcome: Outcome, credentials: Credentials, certificates: Certificates | None = None) -> Outcome:
    """The outcome with secrets blacked out; a Hold also says which file could not be read again.

    A connection that broke while a certificate of ours is out of date is held: nobody says why a handshake was broken
    off (TLS 1.3 does it behind the client's back), and waiting does not cure it.
    """
    if isinstance(outcome, Accepted):
        return replace(outcome, message=credentials.hide(outcome.message)) if outcome.message else outcome
    why = credentials.hide(outcome.why)
    old = certificates.out_of_date() if certificates is not None and isinstance(outcome, RetryLater | Hold) else ""
    if old and _handshake_failed(outcome):
        return Hold(code="certificate", why=f"{old} ({outcome.code}: {why})", cure="renew the file; it is read again")
    if isinstance(outcome, Hold):
        troubles = [credentials.trouble(), certificates.trouble if certificates is not None else ""]
        why += "".join(f" ({trouble})" for trouble in troubles if trouble)
    return replace(outcome, why=why)


def _handshake_failed(outcome: Outcome) -> bool:
    match outcome:
        case RetryLater(code="UNAVAILABLE", why=why):
            return REFUSED not in why
        case RetryLater(code=code):
            return not code.isdigit() and not code.isupper() and code not in NOT_BY_TLS
        case Hold(code=code):
            return code in {"UNAVAILABLE", "tls"}
        case _:
            return False
