"""The answers that the scripted OTLP endpoint can be told to give, and by name those of endpoints as people have them.

The names are for `simulate endpoint --answer NAME`, tests and campaigns.
"""

from __future__ import annotations

import gzip
import random
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ok:
    """Take the request and say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """Take the request but for some records."""

    rejected: int
    message: str = ""
    refusal: str = ""
    """Said instead, with INVALID_ARGUMENT or 400, as Loki does; what is not rejected is taken all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Over HTTP these bytes and the end of the connection; over gRPC as Ok."""

    answer: bytes
    taken: bool = True
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Take nothing and answer with a gRPC status; over HTTP with the one that corresponds to it."""

    code: grpc.StatusCode
    details: str = ""
    retry_delay_seconds: float | None = None
    """Sent as RetryInfo over gRPC, as Retry-After over HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Take nothing and answer with an HTTP status; over gRPC with the one that corresponds to it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Answer only after so many seconds (or when the endpoint closes), then take the request."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Take nothing and break the call: a TCP reset over HTTP, a stream reset over gRPC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseAnswer:
    """Take the request, and break the call instead of answering: what makes duplicates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseTooLarge:
    """Take only requests up to so many bytes; answer as grpc-go does, or with 413."""

    limit_bytes: int


Answer = Ok | Partial | Raw | Status | Http | Hang | Reset | LoseAnswer | RefuseTooLarge
OK = Ok()


class Request(NamedTuple):
    """What a script is asked about."""

    signal: str
    """`logs`, `traces` or `metrics`."""
    body: bytes
    """The encoded request, decompressed."""
    metadata: Mapping[str, str]
    """gRPC metadata or HTTP headers, lower case."""
    protocol: str
    """`grpc` or `http`."""


def sized(answer: Answer, request: Request) -> Answer:
    """TooLarge as what it means for this request; any other answer as it is."""
    if not isinstance(answer, RefuseTooLarge):
        return answer
    if len(request.body) <= answer.limit_bytes:
        return OK
    if request.protocol == "http":
        return Http(status=413, body=b"request body too large")
    # The words of grpc-go, which the Collector is made with.
    details = f"grpc: received message larger than max ({len(request.body)} vs. {answer.limit_bytes})"
    return Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=details)


Answers = Callable[[Request], Answer]


def in_turn(answers: Iterable[Answer]) -> Answers:
    """A script that answers requests for logs in the order given, and all others with Ok."""
    rest = iter(tuple(answers))
    lock = threading.Lock()

    def answer(request: Request) -> Answer:
        if request.signal != "logs":
            return OK
        with lock:
            return next(rest, OK)

    return answer


HTTP_OF_GRPC: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As the OpenTelemetry Collector translates them; anything else is a 500."""

GRPC_OF_HTTP: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}
"""As gRPC's own table for answers of proxies has them; anything else is UNKNOWN."""


def status_details(status: Status) -> bytes:
    """The trailer `grpc-status-details-bin`: a google.rpc.Status with RetryInfo, as grpc-go servers send it."""
    message = status_pb2.Status(code=status.code.value[0], message=status.details)
    if status.retry_delay_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(round(status.retry_delay_seconds * 1e9))
        message.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return bytes(message.SerializeToString())


LARGE_BYTES = 64 * 1024
SMALL_BYTES = 16 * 1024
"""Less than the bridge's first request may hold."""
OVERLOADED = Status(code=grpc.StatusCode.INTERNAL, details="overloaded")
BAD_SOURCES = 10
"""One source in so many is bad."""
PROTOBUF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIP_HEAD = JSON_HEAD + b"Content-Encoding: gzip\r\n"
JSON_PARTIAL = b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"one was bad"}}'
PAGE = b"<html><body>Welcome</body></html>"


class Behaviour(NamedTuple):
    """One way to answer."""

    description: str
    make: Callable[[], Answers]
    """A fresh one, as some remember."""


def _sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _by_protocol(*, over_grpc: Answer, over_http: Answer) -> Callable[[], Answers]:
    return lambda: lambda request: over_grpc if request.protocol == "grpc" else over_http


def _no_yes(
    details: str, answer: bytes, *, code: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED
) -> Callable[[], Answers]:
    """Nothing is taken: over HTTP a 200 that does not say so, over gRPC a status."""
    return _by_protocol(over_grpc=Status(code=code, details=details), over_http=Raw(answer=answer, taken=False))


def _always(answer: Answer) -> Callable[[], Answers]:
    return lambda: lambda _: answer


def _raw(answer: bytes, *, over_grpc: Answer = OK) -> Callable[[], Answers]:
    return _by_protocol(over_grpc=over_grpc, over_http=Raw(answer=answer))


def _if_large(answer: Answer, *, limit_bytes: int = LARGE_BYTES) -> Callable[[], Answers]:
    return lambda: lambda request: answer if len(request.body) > limit_bytes else OK


def _if_compressed(request: Request) -> Answer:
    if request.protocol == "grpc":
        # A server of grpcio inflates before it asks; what clients see of one that cannot are these words.
        return Status(
            code=grpc.StatusCode.UNIMPLEMENTED,
            details='grpc: Decompressor is not installed for grpc-encoding "gzip"',
        )
    return Http(status=415, body=b"unsupported content encoding") if "content-encoding" in request.metadata else OK


def _by_chance(share: float, failure: Answer = OVERLOADED) -> Callable[[], Answers]:
    def make() -> Answers:
        chance, lock = random.Random(), threading.Lock()  # noqa: S311  # not a secret

        def answer(_: Request) -> Answer:
            with lock:
                failed = chance.random() < share
            return failure if failed else OK

        return answer

    return make


def is_bad(resource: bytes) -> bool:
    """Whether an encoded Resource is one of those that `bad-sources` does not take."""
    return zlib.crc32(resource) % BAD_SOURCES == 0


def _bad_and_all(request: Request) -> tuple[int, int]:
    bad = total = 0
    for per_resource in ExportLogsServiceRequest.FromString(request.body).resource_logs:
        records = sum(len(per_scope.log_records) for per_scope in per_resource.scope_logs)
        total += records
        bad += records if is_bad(per_resource.resource.SerializeToString()) else 0
    return bad, total


def _refuse_bad(request: Request) -> Answer:
    bad, _ = _bad_and_all(request)
    return Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="entry too far behind") if bad else OK


def _ignore_bad(request: Request) -> Answer:
    bad, total = _bad_and_all(request)
    words = f"entry ignored, reason: 'entry too far behind', total ignored: {bad} out of {total} for stream: {{}}"
    if not bad:
        return OK
    return Partial(rejected=bad, message="entry too far behind", refusal=words)


def _slow_by_size(request: Request) -> Answer:
    _, total = _bad_and_all(request)
    return Hang(seconds=total * 0.01)


ZOO: Mapping[str, Behaviour] = {
    "ok": Behaviour("accepts everything", _always(OK)),
    # A yes that is none.
    "page": Behaviour(
        "200 with a web page, as at a wrong path; over gRPC an unknown method",
        _no_yes("unknown service LogsService", _sized(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", PAGE)),
    ),
    "blank": Behaviour(
        "200 with a body of white space; over gRPC an unknown method",
        _no_yes("unknown service LogsService", _sized(PROTOBUF_HEAD, b"\r\n")),
    ),
    "cut-gzip": Behaviour(
        "200 with a truncated compressed body; over gRPC an unknown encoding",
        _no_yes(
            "Error parsing 'grpc-encoding' metadata",
            _sized(GZIP_HEAD, gzip.compress(JSON_PARTIAL)[:-9]),
            code=grpc.StatusCode.INTERNAL,
        ),
    ),
    "json-error": Behaviour(
        "200 with an error in JSON; over gRPC UNIMPLEMENTED",
        _no_yes("unknown method Export", _sized(JSON_HEAD, b'{"error":"no such index"}')),
    ),
    "grpc-status": Behaviour(
        "200 with a gRPC status in its headers, as a gRPC server may answer to HTTP; over gRPC the same status",
        _no_yes(
            "unknown method Export",
            _sized(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 12\r\n", b""),
        ),
    ),
    # A yes in an unusual shape.
    "close": Behaviour("a body that ends with the connection", _raw(PROTOBUF_HEAD + b"Connection: close\r\n\r\n")),
    "http10": Behaviour("HTTP/1.0", _raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")),
    "chunked": Behaviour("a chunked answer", _raw(PROTOBUF_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
    "no-content": Behaviour("204", _raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "interim": Behaviour(
        "100, 102 and 103 before the answer",
        _raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _sized(PROTOBUF_HEAD, b"")
        ),
    ),
    "json-partial": Behaviour(
        "a partial success in JSON that rejects one record of each request",
        _by_protocol(
            over_grpc=Partial(rejected=1, message="one was bad"),
            over_http=Raw(answer=_sized(JSON_HEAD, JSON_PARTIAL), rejected=1),
        ),
    ),
    "gzip-partial": Behaviour(
        "the same, compressed",
        _by_protocol(
            over_grpc=Partial(rejected=1, message="one was bad"),
            over_http=Raw(answer=_sized(GZIP_HEAD, gzip.compress(JSON_PARTIAL)), rejected=1),
        ),
    ),
    # A no that is about us.
    "wants-https": Behaviour(
        "400 to plain HTTP, as an HTTPS port answers; over gRPC the error for an HTTP/1 server",
        _by_protocol(
            over_grpc=Status(code=grpc.StatusCode.UNAVAILABLE, details="Trying to connect an http1.x server"),
            over_http=Http(status=400, body=b"The plain HTTP request was sent to HTTPS port"),
        ),
    ),
    "no-gzip": Behaviour("cannot read compressed requests", lambda: _if_compressed),
    "refuses-all": Behaviour(
        "refuses everything as bad records",
        _always(Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="invalid tenant")),
    ),
    "redirects": Behaviour(
        "302 to a login page; over gRPC C-core's error for that",
        _by_protocol(
            over_grpc=Status(code=grpc.StatusCode.UNKNOWN, details="Received http2 header with status: 302"),
            over_http=Http(status=302, headers={"Location": "https://user:secret@login.example/?next=logs"}),
        ),
    ),
    "head-too-large": Behaviour(
        "400, as nginx answers headers that are too large; over gRPC C-core's error for that",
        _by_protocol(
            over_grpc=Status(
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                details="received initial metadata size exceeds hard limit (20000 vs. 16384)",
            ),
            over_http=Http(status=400, body=b"<center>Request Header Or Cookie Too Large</center>"),
        ),
    ),
    "unauthorized": Behaviour("401, UNAUTHENTICATED", _always(Status(code=grpc.StatusCode.UNAUTHENTICATED))),
    # A size that can never pass.
    "too-large-tonic": Behaviour(
        "too large above 64 KiB, with the message of Rust's tonic",
        _if_large(Status(code=grpc.StatusCode.OUT_OF_RANGE, details="Error, decoded message length too large")),
    ),
    "too-large-java": Behaviour(
        "too large above 64 KiB, with the message of Java",
        _if_large(
            Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="gRPC message exceeds maximum size 65536: 70000")
        ),
    ),
    "too-large-nginx": Behaviour(
        "413 above 64 KiB", _if_large(Http(status=413, body=b"<html>413 Request Entity Too Large</html>"))
    ),
    "resets-large": Behaviour("resets the connection above 64 KiB", _if_large(Reset())),
    "busy-when-large": Behaviour(
        "503, UNAVAILABLE above 64 KiB", _if_large(Status(code=grpc.StatusCode.UNAVAILABLE, details="upstream reset"))
    ),
    "throttles-large": Behaviour(
        "429, RESOURCE_EXHAUSTED above 16 KiB, as a rate limit whose burst is smaller than the request",
        _if_large(
            Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="rate limit exceeded"), limit_bytes=SMALL_BYTES
        ),
    ),
    "times-out-large": Behaviour(
        "504, DEADLINE_EXCEEDED above 16 KiB",
        _if_large(Status(code=grpc.StatusCode.DEADLINE_EXCEEDED, details="timed out"), limit_bytes=SMALL_BYTES),
    ),
    "fails-large": Behaviour(
        "500, INTERNAL above 16 KiB",
        _if_large(Status(code=grpc.StatusCode.INTERNAL, details="oops"), limit_bytes=SMALL_BYTES),
    ),
    "forbids-large": Behaviour(
        "403, PERMISSION_DENIED above 16 KiB, as firewalls answer what is too large for them to look into",
        _if_large(Status(code=grpc.StatusCode.PERMISSION_DENIED, details="forbidden"), limit_bytes=SMALL_BYTES),
    ),
    "slow-by-size": Behaviour("needs 10 ms a record", lambda: _slow_by_size),
    # Failures by chance, and records that are bad for good.
    "flaky-20": Behaviour("500, INTERNAL to 20 % of the requests, whatever they hold", _by_chance(0.2)),
    "flaky-50": Behaviour("to half of them", _by_chance(0.5)),
    "flaky-85": Behaviour("to 85 %", _by_chance(0.85)),
    "flaky-refusals": Behaviour(
        "refuses half of the requests, whatever they hold, as one misconfigured backend of two does",
        _by_chance(0.5, Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="bad request")),
    ),
    "flaky-unavailable": Behaviour(
        "503, UNAVAILABLE to half of the requests", _by_chance(0.5, Status(code=grpc.StatusCode.UNAVAILABLE))
    ),
    "bad-sources": Behaviour("refuses each request that holds a record of one source in ten", lambda: _refuse_bad),
    "ignores-bad": Behaviour("ignores records of such sources, says how many, and takes the rest", lambda: _ignore_bad),
}


def answers_of(name: str) -> Answers:
    """The rule for log requests; traces and metrics are always taken.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ZOO:
        raise ValueError(f"there is no answer called {name!r}; known are {', '.join(ZOO)}")
    logs = ZOO[name].make()
    return lambda request: logs(request) if request.signal == "logs" else OK


def zoo_table() -> str:
    """Name and description of each, as a table in Markdown."""
    rows = [f"| `{name}` | {kind.description} |" for name, kind in ZOO.items()]
    return "\n".join(["| answer | what the endpoint does with requests for logs |", "|---|---|", *rows])
