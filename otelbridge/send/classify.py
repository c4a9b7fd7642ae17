"""Classifies the endpoint's answers, by tables of statuses and texts, as outcomes."""

from __future__ import annotations

import json
import re
import time
from calendar import timegm
from collections.abc import Iterator, Mapping
from email.utils import parsedate_tz
from enum import StrEnum
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otelbridge import clamp
from otelbridge.net.tls_faults import TLS, TLS_FAULTS, fault_in, in_words
from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.settings import OTLP_GRPC_PORT, OTLP_HTTP_PORT, Target

MAX_WHY_CHARS = 300
"""A sentence for a log line; an endpoint may send an HTML page."""
TLS_ALERT = "\x15\x03"
"""How a server's answer begins that waited for TLS."""
MAX_DELAY_SECONDS = 30 * 24 * 3600.0
"""The longest delay that is believed at all; how long one is really waited for is `send.server_delay_max_seconds`."""


class Meaning(StrEnum):
    """What an answer means for the request."""

    ACCEPTED = "accepted"
    RETRY = "retry later"
    SUSPECT = "retry later; perhaps this batch's own fault"
    HOLD = "hold for the operator"
    TOO_LARGE = "send smaller"
    REFUSED = "set aside"


_GRPC_STATUSES = {
    Meaning.ACCEPTED: ("OK",),
    Meaning.RETRY: (
        "CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED",
    ),
    Meaning.HOLD: ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"),
    Meaning.REFUSED: ("INVALID_ARGUMENT",),
    # The Collector answers INTERNAL to what an exporter behind it calls permanent: a bad record, or its own bad token.
    Meaning.SUSPECT: ("INTERNAL", "UNKNOWN", "FAILED_PRECONDITION", "ALREADY_EXISTS"),
}  # fmt: skip
GRPC_MEANINGS: Mapping[grpc.StatusCode, Meaning] = {
    grpc.StatusCode[name]: meaning for meaning, names in _GRPC_STATUSES.items() for name in names
}

_HTTP_STATUSES = {
    Meaning.RETRY: (408, 423, 424, 425, 429, 502, 503, 504, 507, 509),
    Meaning.HOLD: (
        401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 414, 415, 417, 421, 426, 428, 431, 451, 501, 505, 508, 511,
    ),
    Meaning.TOO_LARGE: (413,),
    Meaning.REFUSED: (400, 422),
}  # fmt: skip
_OF_PRODUCTS = {  # nginx has 444 and 494 to 499, load balancers of AWS 460 to 464 and 561, Cloudflare 520 to 530
    Meaning.RETRY: (444, 460, 499, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599),
    Meaning.HOLD: (463, 464, 494, 495, 496, 497, 561),
}
HTTP_MEANINGS: Mapping[int, Meaning] = {
    status: meaning
    for meanings in (_HTTP_STATUSES, _OF_PRODUCTS)
    for meaning, statuses in meanings.items()
    for status in statuses
}
HTTP_CLASSES: Mapping[int, Meaning] = {
    1: Meaning.HOLD,
    2: Meaning.ACCEPTED,
    3: Meaning.HOLD,
    4: Meaning.SUSPECT,
    5: Meaning.SUSPECT,
}
"""By the first digit, for statuses that the table above does not name."""
REDIRECTION = 3
FIRST_SERVER_ERROR = 500
NO_GRPC_THERE = frozenset({404, 405, 415, 426, 464})
"""Statuses that mean over gRPC that a server of HTTP speaks there."""
USER_OF_URL = re.compile(r"//[^/?#]*@")
PROTOBUF = frozenset({"application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"})
GRPC_KIND = "application/grpc"
"""How gRPC's own types of content begin: what it answers to is not OTLP over HTTP."""
PARTIAL_SUCCESS = frozenset({"partialSuccess", "partial_success"})
NO_ANSWER_OF_OURS = "the answer is no ExportLogsServiceResponse"
TEXT = re.compile(rb"[\t\n\r\x20-\xff]+")
HTTP2 = "\x00\x00"
"""How a server of HTTP/2 begins: with a frame of SETTINGS, which is short."""
BOM = b"\xef\xbb\xbf"
"""Some platforms write it before JSON."""

NOT_OTLP = (
    "this address answers, but not as an OTLP endpoint: check host, port and path of send.endpoint; the path is used "
    "as it is, so it usually ends in /v1/logs"
)
USE_HTTPS = TLS["send"]
NO_COMPRESSION = "set send.compression to none: it cannot read gzip"
USE_HTTP = (
    f"set send.protocol to http/protobuf (usually port {OTLP_HTTP_PORT}, path /v1/logs), or use the port that speaks "
    f"gRPC (usually {OTLP_GRPC_PORT})"
)
NOT_GRPC_IN_THE_CLEAR = f"that port does not speak gRPC in the clear: write https:// if it wants TLS; or {USE_HTTP}"
USE_GRPC = (
    f"set send.protocol to grpc, or use the port that speaks OTLP over HTTP (usually {OTLP_HTTP_PORT}, path /v1/logs)"
)
FEWER_HEADERS = (
    "shorten what send.headers, send.headers_file and send.token_file bring: the head of a request is too large"
)
CLIENT_CERTIFICATE = "check send.cert_file and send.key_file: a client certificate is expected there, or another one"
PROXY_CREDENTIALS = "put user and password of the proxy into its URL (send.proxy), or name the endpoint in NO_PROXY"
"""Over HTTP in the clear nobody can tell who answers."""
PROXY_REFUSES = "let the proxy pass connections to the endpoint, or name the endpoint in NO_PROXY"
REFUSES_EVERYTHING = (
    f"check send.endpoint (port {OTLP_GRPC_PORT} is usually gRPC, {OTLP_HTTP_PORT} HTTP), "
    "the tenant in send.headers, and whether send.compression none helps"
)
CURES: Mapping[str, str] = {
    "UNAUTHENTICATED": "check send.token_file, send.headers or send.headers_file",
    "PERMISSION_DENIED": "give these credentials the right to write logs, or use others",
    "UNIMPLEMENTED": f"check send.endpoint: nothing at that address takes OTLP logs over gRPC; or {USE_HTTP}",
    "NOT_FOUND": "check send.endpoint and the tenant in send.headers",
    "401": "check send.token_file, send.headers or send.headers_file",
    "403": "give these credentials the right to write logs, or use others",
    "404": "check the path of send.endpoint: it is used as it is, so it usually ends in /v1/logs",
    "405": "check send.endpoint: nothing at that address takes OTLP logs by POST",
    "407": PROXY_CREDENTIALS,
    "415": "check send.endpoint and send.compression: it does not take protobuf, or not gzip",
    "421": "check send.endpoint and send.server_name: that server does not answer for this name",
    "426": USE_GRPC,
    "431": FEWER_HEADERS,
    "464": USE_GRPC,
    "494": FEWER_HEADERS,
    "495": CLIENT_CERTIFICATE,
    "496": CLIENT_CERTIFICATE,
    "497": USE_HTTPS,
    "561": "check send.token_file, send.headers or send.headers_file",
    "511": "let the bridge reach the endpoint without the network's login page",
}
REDIRECT_CURE = "set send.endpoint to where it redirects to; redirects are not followed, as credentials would go along"


class Words(NamedTuple):
    """What is said beside a status, and what it means then."""

    pattern: re.Pattern[str]
    said_with: frozenset[str]
    """Status codes, by name or number."""
    meaning: Meaning
    cure: str = ""


def _words(pattern: str, said_with: str, meaning: Meaning, cure: str = "") -> Words:
    return Words(re.compile(pattern, re.IGNORECASE), frozenset(said_with.split()), meaning, cure)


FAILING = "400 422 500 INVALID_ARGUMENT INTERNAL UNKNOWN FAILED_PRECONDITION"
WORDS: tuple[Words, ...] = (
    # nginx, Go, Apache, Tomcat
    _words(
        r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|plain HTTP to an SSL|requires TLS",
        "400 426",
        Meaning.HOLD,
        USE_HTTPS,
    ),
    # nginx says with 400 what it logs as 494 to 496; gRPC calls the head metadata.
    _words(r"header or cookie too large|header fields? too large", "400 431", Meaning.HOLD, FEWER_HEADERS),
    _words(r"metadata size exceeds", "RESOURCE_EXHAUSTED INTERNAL", Meaning.HOLD, FEWER_HEADERS),
    _words(r"SSL certificate error|required SSL certificate", "400", Meaning.HOLD, CLIENT_CERTIFICATE),
    # C-core, and we, of a proxy on the way.
    _words(
        r"proxy returned response code 407|HTTP/1\.\d 407",
        "UNAVAILABLE ProxyRefusedError",
        Meaning.HOLD,
        PROXY_CREDENTIALS,
    ),
    _words(
        r"proxy returned response code [34]|HTTP/1\.\d [34]",
        "UNAVAILABLE ProxyRefusedError",
        Meaning.HOLD,
        PROXY_REFUSES,
    ),
    # C-core, of a request (a server) or of an answer (a client): then the record may have been stored.
    _words(r"Decompression failed", "INTERNAL", Meaning.SUSPECT),
    _words(r"Decompressed message larger than max", "RESOURCE_EXHAUSTED", Meaning.RETRY),
    # The words of grpc-go, grpc-java, C-core, tonic and .NET all hold one of these.
    # A record's own text may hold "gzip" as well (a process of that name), so it takes more than that beside a 400.
    _words(r"gzip|compress|encoding", "415 UNIMPLEMENTED", Meaning.HOLD, NO_COMPRESSION),
    _words(
        r"content[- ]encoding|(?<!parsing ')grpc-encoding|decompress|compressed with|"
        r"compressed flag set|not (in )?gzip|invalid gzip|gzip: invalid|"
        r"(gzip|compression) (is )?(not|un|disabled)",
        "400 INVALID_ARGUMENT INTERNAL",
        Meaning.REFUSED,  # a damaged request is told so, too; if nothing else passes either, it is held with this cure
        NO_COMPRESSION,
    ),
    # C-core, of an answer that it cannot read: what became of the request is not known.
    _words(
        r"Error parsing '\S+' metadata|Compression bit set|CLIENT: Received message larger than max",
        "INTERNAL UNKNOWN RESOURCE_EXHAUSTED",
        Meaning.HOLD,
        NOT_OTLP,
    ),
    # C-core, towards a server of HTTP/1, and towards a web server of HTTP/2.
    _words(r"http1\.x server|HTTP/1\.", "UNAVAILABLE UNKNOWN INTERNAL UNIMPLEMENTED", Meaning.HOLD, USE_HTTP),
    # A page in place of a status, a proxy that knows no trailers, and one that asks for HTTP/1.1.
    _words(
        r"Data frame with END_STREAM flag|^No status received|RST_STREAM with error code 13\b",
        "UNKNOWN INTERNAL UNAVAILABLE",
        Meaning.HOLD,
        USE_HTTP,
    ),
    _words(r"RST_STREAM with error code 12\b", "PERMISSION_DENIED", Meaning.HOLD, USE_HTTPS),
    _words(r"Expected SETTINGS frame", "UNAVAILABLE", Meaning.HOLD, NOT_GRPC_IN_THE_CLEAR),
    _words(r"Failed parsing HTTP/2", "UNKNOWN INTERNAL", Meaning.HOLD, NOT_OTLP),
    # C-core, when it is TLS that failed.
    *(
        _words(
            f"^(?=.*(failed to connect|handshake|TSI_)).*({'|'.join(map(re.escape, fault.words))})",
            "UNAVAILABLE",
            Meaning.HOLD,
            in_words(fault, "send")[1],
        )
        for fault in TLS_FAULTS
    ),
    _words(
        r"larger than max|too large|exceeds (the )?maximum|message size",
        "RESOURCE_EXHAUSTED OUT_OF_RANGE",
        Meaning.TOO_LARGE,
    ),
    # Servers of the standard libraries of Go and Java answer so where others answer 413.
    _words(
        r"(request|message|body|payload|entity)\W(\w+\W){0,3}(too large|too big|larger than|exceeds)|its size exceeds",
        FAILING,
        Meaning.TOO_LARGE,
    ),
)
"""The first row that fits is used; the tables above where none does."""
IGNORED_SOME = re.compile(r"\bignored:?\s+(\d{1,9})\s+(?:out\s+)?of\s+(\d{1,9})", re.IGNORECASE)
"""Loki's words for a push of which it stored the rest, once for each of its streams."""

NO_ANSWER = frozenset({"InvalidHeader", "LineTooLong", "UnknownProtocol", "HTTPException", "DecodeError"})
"""Answers that no server of OTLP sends: more of the same would come of trying again, and perhaps copies."""

MISCOUNTED = "PARTIAL_SUCCESS"
COUNTS_WRONG = (
    "ask who runs the endpoint: its partial success counts more records than it was sent, so nobody can tell which "
    "of them it has stored"
)
PERHAPS_ITS_CONTENT = frozenset({MISCOUNTED, "200", "403", "404", "405", "406", "451", "501", "PERMISSION_DENIED"})
"""What a firewall for web applications answers to a record whose text it takes for an attack: it may be about one."""


HTTP2_STATUS = re.compile(r"Received http2 header with status: (\d{3})")
"""C-core's words for an answer that is not gRPC's, as proxies, gateways and web servers give it."""


def of_grpc(code: grpc.StatusCode, details: str, status_details: bytes = b"") -> Outcome:
    """The outcome of a call that ended with an error status.

    Args:
        code: the status code; OK is classified from the response by `of_response` instead.
        details: the status message.
        status_details: the trailer `grpc-status-details-bin`, an encoded google.rpc.Status that may hold a RetryInfo.
    """
    if found := HTTP2_STATUS.search(details):
        return _of_http2(code, int(found[1]), details)
    after_seconds = retry_delay_seconds(status_details)
    meaning = GRPC_MEANINGS.get(code, Meaning.SUSPECT)
    said = _said(code.name, details)
    if said is not None and not (said.meaning is Meaning.TOO_LARGE and after_seconds is not None):
        return _outcome(said.meaning, code.name, details, after_seconds, said.cure)
    return _stored_the_rest(meaning, details) or _outcome(
        meaning, code.name, details, after_seconds, CURES.get(code.name, REFUSES_EVERYTHING)
    )


def _of_http2(code: grpc.StatusCode, status: int, details: str) -> Outcome:
    """By the table of HTTP, except that a web server's answer is never about a record."""
    meaning = HTTP_MEANINGS.get(status) or HTTP_CLASSES.get(status // 100, Meaning.SUSPECT)
    passing = {Meaning.RETRY, Meaning.TOO_LARGE} | ({Meaning.SUSPECT} if status >= FIRST_SERVER_ERROR else set())
    cure = CURES.get(str(status), USE_HTTP) if status not in NO_GRPC_THERE else USE_HTTP
    return _outcome(meaning if meaning in passing else Meaning.HOLD, code.name, details, None, cure)


def of_http(status: int, headers: Mapping[str, str], body: bytes | None, *, now: float | None = None) -> Outcome:
    """The outcome of an HTTP answer.

    Args:
        status: the status code.
        headers: the answer's headers, names in lower case; `content-encoding` is a coding that is left on the body.
        body: the answer's body: an encoded ExportLogsServiceResponse or google.rpc.Status, or anything at all; None
            where it cannot be read.
        now: Unix seconds, for a Retry-After date where the answer has no Date header to compare it with.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    meaning = HTTP_MEANINGS.get(status) or HTTP_CLASSES.get(status // 100, Meaning.SUSPECT)
    code = str(status)
    if meaning is Meaning.ACCEPTED and (kind.startswith(GRPC_KIND) or "grpc-status" in headers):
        said = f"{headers.get('grpc-status', 'none')} {headers.get('grpc-message', '')}"
        return Hold(code=code, why=_short(f"answers as gRPC does, with grpc-status {said}"), cure=USE_GRPC)
    if meaning is Meaning.ACCEPTED:
        newer = kind in PROTOBUF and "content-encoding" not in headers
        answer = _answer_of(body, newer=newer)
        if answer is None:
            shown = "cannot be read" if body is None else body[: 4 * MAX_WHY_CHARS].decode("utf-8", "replace")
            coded = f", {headers['content-encoding']}" if "content-encoding" in headers else ""
            why = _short(f"answers with {kind or 'a body without a type'}{coded}: {shown}")
            return Hold(code=code, why=why, cure=NOT_OTLP)
        return _accepted(answer)
    why = _status_message(body or b"", kind)
    cure = CURES.get(code, REFUSES_EVERYTHING if meaning is Meaning.REFUSED else NOT_OTLP)
    if status // 100 == REDIRECTION:
        cure = REDIRECT_CURE
        if "location" in headers:
            why = f"redirects to {USER_OF_URL.sub('//', headers['location']).partition('?')[0]}"
    words = _said(code, why)
    if words is not None:
        meaning, cure = words.meaning, words.cure
    return _stored_the_rest(meaning, why) or _outcome(meaning, code, why, retry_after_seconds(headers, now=now), cure)


def of_broken_connection(error: Exception, target: Target) -> Outcome:
    """The outcome of an HTTP exchange with a target that ended without an answer."""
    if isinstance(error, TimeoutError):
        return RetryLater(code="timeout", why=_short(str(error)) or "no answer in time")
    import ssl  # noqa: PLC0415 - with OpenSSL, which HTTP has brought by then

    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
        fault = fault_in(why)
        cure = in_words(fault, "send")[1] if fault else ""
        return Hold(code="tls", why=why, cure=cure) if fault else RetryLater(code="tls", why=_short(why))
    name, why = type(error).__name__, _short(str(error)) or "the connection broke"
    if name == "BadStatusLine":
        beginnings = {TLS_ALERT: USE_HTTPS, HTTP2: USE_GRPC}
        cure = next((cure for begin, cure in beginnings.items() if str(error).startswith(begin)), NOT_OTLP)
        return Hold(code=name, why=f"it does not speak HTTP/1.1: {why}", cure=cure)
    cure = ""
    if said := _said(name, why):
        cure = said.cure
    elif name in NO_ANSWER:
        cure = NOT_OTLP
    elif isinstance(error, ConnectionResetError) and target.port == OTLP_GRPC_PORT:
        cure = USE_GRPC
    return Hold(code=name, why=why, cure=cure) if cure else RetryLater(code=name, why=why)


def of_response(response: bytes | None) -> Outcome:
    """The outcome of a gRPC success by its ExportLogsServiceResponse, if any: it may tell of a partial success."""
    answer = None if response is None else _protobuf_answer(response, newer=True)
    return _accepted(answer) if answer is not None else Hold(code="OK", why=NO_ANSWER_OF_OURS, cure=NOT_OTLP)


def counted(outcome: Outcome, records: int) -> Outcome:
    """The outcome, checked: a rejected count above the request's records tells nothing of any of them."""
    if not isinstance(outcome, Accepted) or outcome.rejected <= records:
        return outcome
    why = f"it says that it rejected {outcome.rejected} of {records} records: {outcome.message}"
    return Hold(code=MISCOUNTED, why=_short(why), cure=COUNTS_WRONG)


def retry_delay_seconds(status_details: bytes) -> float | None:
    """The RetryInfo in an encoded google.rpc.Status, or None where there is none."""
    if not status_details:
        return None
    try:
        for detail in status_pb2.Status.FromString(status_details).details:
            info = error_details_pb2.RetryInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                delay = info.retry_delay
                return clamp.seconds(delay.seconds + delay.nanos / 1e9, most=MAX_DELAY_SECONDS)
    except DecodeError:
        return None
    return None


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The Retry-After header in seconds; where it is a date, it counts from the server's own Date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return clamp.seconds(float(value), most=MAX_DELAY_SECONDS)
    until = _unix_seconds(value)
    since = _unix_seconds(headers.get("date", ""))
    if until is None:
        return None
    if since is None:
        since = time.time() if now is None else now
    return clamp.seconds(until - since, most=MAX_DELAY_SECONDS)


def _said(code: str, why: str) -> Words | None:
    return next((words for words in WORDS if code in words.said_with and words.pattern.search(why)), None)


def _stored_the_rest(meaning: Meaning, why: str) -> Accepted | None:
    """A refusal that says how many of the records it ignored has taken the others."""
    if meaning not in {Meaning.REFUSED, Meaning.SUSPECT}:
        return None
    counts = [(int(ignored), int(of)) for ignored, of in IGNORED_SOME.findall(why)]
    ignored, total = sum(one for one, _ in counts), sum(of for _, of in counts)
    return Accepted(rejected=ignored, message=_short(why)) if 0 < ignored < total else None


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
            return Refused(code=code, why=why, cure=cure)


def _accepted(answer: ExportLogsServiceResponse) -> Accepted:
    partial = answer.partial_success
    return Accepted(rejected=max(0, partial.rejected_log_records), message=_short(partial.error_message))


def _answer_of(body: bytes | None, *, newer: bool) -> ExportLogsServiceResponse | None:
    """The body of a success as OTLP has it, in protobuf or JSON, whatever its type says; None for anything else."""
    if body is None:
        return None
    text = body.removeprefix(BOM)
    return _json_answer(text) if text.lstrip()[:1] == b"{" else _protobuf_answer(body, newer=newer)


def _protobuf_answer(body: bytes, *, newer: bool) -> ExportLogsServiceResponse | None:
    """Nearly any bytes are some message with unknown fields: those are believed to be a newer OTLP's if they may be.

    Never where they have the numbers of known ones: it is another message, say a google.rpc.Status. Text is none at
    all: the tags of the first three fields are control characters.
    """
    if TEXT.fullmatch(body):
        return None
    try:
        answer = ExportLogsServiceResponse.FromString(body)
    except DecodeError:
        return None
    unknown = [number in message.DESCRIPTOR.fields_by_number for message, number in _unknown(answer)]
    return None if unknown and (not newer or any(unknown)) else answer


def _unknown(answer: ExportLogsServiceResponse) -> Iterator[tuple[Message, int]]:
    """The numbers of the fields that are not known, on both levels."""
    for message in (answer, answer.partial_success):
        fields = UnknownFieldSet(message)
        for at in range(len(fields)):
            yield message, fields[at].field_number


def _json_answer(body: bytes) -> ExportLogsServiceResponse | None:
    """As in protobuf's JSON; keys that are not known are a newer OTLP's only beside those that are.

    The answer to spans differs in the name of its count alone, and in protobuf in nothing.
    """
    from google.protobuf import json_format  # noqa: PLC0415 - for OTLP/HTTP only
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse  # noqa: PLC0415

    try:
        known = not PARTIAL_SUCCESS.isdisjoint(json.loads(body))
        answer = json_format.Parse(body, ExportLogsServiceResponse(), ignore_unknown_fields=known)
        spans = json_format.Parse(body, ExportTraceServiceResponse(), ignore_unknown_fields=known).partial_success
    except (ValueError, RecursionError, json_format.Error):
        return None
    if spans.rejected_spans:
        partial = answer.partial_success
        partial.rejected_log_records = max(partial.rejected_log_records, spans.rejected_spans)
    return answer


def _status_message(body: bytes, kind: str) -> str:
    """What an error's body says: a google.rpc.Status in protobuf or JSON, or text."""
    if kind in PROTOBUF:
        try:
            return str(status_pb2.Status.FromString(body).message)
        except DecodeError:
            pass  # text after all
    if kind == "application/json":
        try:
            message = json.loads(body)["message"]
        except (ValueError, RecursionError, TypeError, KeyError):
            pass  # another JSON: shown as it is
        else:
            return str(message)
    return body[: 4 * MAX_WHY_CHARS].decode("utf-8", "replace")


def _unix_seconds(date: str) -> float | None:
    """Of an HTTP date; None for what is none."""
    try:
        parts = parsedate_tz(date)
        return None if parts is None else float(timegm((*parts[:6], 0, 1, 0)) - (parts[9] or 0))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


_IS_PAGE = re.compile(r"<!doctype html|<html", re.IGNORECASE)
_MARKUP = re.compile(r"<(style|script)\b.*?(</\1>|\Z)|<[^<>]*(>|\Z)", re.IGNORECASE | re.DOTALL)


def _short(text: str) -> str:
    """One line of printable characters, of a web page its text: it ends in logs and on the status page."""
    said = text[: 4 * MAX_WHY_CHARS]
    if _IS_PAGE.search(said):
        said = _MARKUP.sub(" ", said)
    line = "".join(c if c.isprintable() else " " for c in said)
    return " ".join(line.split())[:MAX_WHY_CHARS]
