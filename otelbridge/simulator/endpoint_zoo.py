"""Endpoints as people really have them, by name: each answers log requests by one rule, over gRPC and HTTP alike.

Used by `simulate endpoint --answer NAME`, by tests and by campaigns.
"""

from __future__ import annotations

import gzip
import random
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.simulator.endpoint_answers import OK, Answer, Answers, Hang, Http, Partial, Raw, Request, Reset, Status

LARGE_BYTES = 64 * 1024
BAD_SOURCES = 10
"""One source in so many is bad."""
PROTOBUF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON_PARTIAL = b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"one was bad"}}'
PAGE = b"<html><body>Welcome</body></html>"


class Kind(NamedTuple):
    """One way to answer."""

    description: str
    make: Callable[[], Answers]
    """A fresh one, as some remember."""


def _sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _by_protocol(*, over_grpc: Answer, over_http: Answer) -> Callable[[], Answers]:
    return lambda: lambda request: over_grpc if request.protocol == "grpc" else over_http


def _always(answer: Answer) -> Callable[[], Answers]:
    return lambda: lambda _: answer


def _raw(answer: bytes, *, over_grpc: Answer = OK) -> Callable[[], Answers]:
    return _by_protocol(over_grpc=over_grpc, over_http=Raw(answer=answer))


def _if_large(answer: Answer) -> Callable[[], Answers]:
    return lambda: lambda request: answer if len(request.body) > LARGE_BYTES else OK


def _if_compressed(request: Request) -> Answer:
    if request.protocol == "grpc":
        # A server of grpcio inflates before it asks; what clients see of one that cannot are these words.
        return Status(
            code=grpc.StatusCode.UNIMPLEMENTED,
            details='grpc: Decompressor is not installed for grpc-encoding "gzip"',
        )
    return Http(status=415, body=b"unsupported content encoding") if "content-encoding" in request.metadata else OK


def _by_chance(share: float) -> Callable[[], Answers]:
    def make() -> Answers:
        chance, lock = random.Random(), threading.Lock()  # noqa: S311  # not a secret

        def answer(_: Request) -> Answer:
            with lock:
                failed = chance.random() < share
            return Status(code=grpc.StatusCode.INTERNAL, details="overloaded") if failed else OK

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


ZOO: Mapping[str, Kind] = {
    "ok": Kind("takes everything", _always(OK)),
    # A yes that is none.
    "page": Kind(
        "200 with a web page, as a wrong path meets; over gRPC a method that is not there",
        _by_protocol(
            over_grpc=Status(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown service LogsService"),
            over_http=Raw(answer=_sized(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", PAGE), taken=False),
        ),
    ),
    "json-error": Kind(
        "200 with an error in JSON; over gRPC UNIMPLEMENTED",
        _by_protocol(
            over_grpc=Status(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown method Export"),
            over_http=Raw(answer=_sized(JSON_HEAD, b'{"error":"no such index"}'), taken=False),
        ),
    ),
    # A yes in an unusual shape.
    "close": Kind("a body that ends with the connection", _raw(PROTOBUF_HEAD + b"Connection: close\r\n\r\n")),
    "http10": Kind("HTTP/1.0", _raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")),
    "chunked": Kind("a chunked answer", _raw(PROTOBUF_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
    "no-content": Kind("204", _raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "interim": Kind(
        "100, 102 and 103 before the answer",
        _raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _sized(PROTOBUF_HEAD, b"")
        ),
    ),
    "json-partial": Kind(
        "rejects one record of each request, said in JSON",
        _by_protocol(
            over_grpc=Partial(rejected=1, message="one was bad"),
            over_http=Raw(answer=_sized(JSON_HEAD, JSON_PARTIAL), rejected=1),
        ),
    ),
    "gzip-partial": Kind(
        "the same, compressed",
        _by_protocol(
            over_grpc=Partial(rejected=1, message="one was bad"),
            over_http=Raw(
                answer=_sized(JSON_HEAD + b"Content-Encoding: gzip\r\n", gzip.compress(JSON_PARTIAL)), rejected=1
            ),
        ),
    ),
    # A no that is about us.
    "wants-https": Kind(
        "400 to plain HTTP, as a port for HTTPS answers; over gRPC the words of a server of HTTP/1",
        _by_protocol(
            over_grpc=Status(code=grpc.StatusCode.UNAVAILABLE, details="Trying to connect an http1.x server"),
            over_http=Http(status=400, body=b"The plain HTTP request was sent to HTTPS port"),
        ),
    ),
    "no-gzip": Kind("cannot read compressed requests", lambda: _if_compressed),
    "refuses-all": Kind(
        "takes nothing at all, and says that the records are bad",
        _always(Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="invalid tenant")),
    ),
    "unauthorized": Kind("401, UNAUTHENTICATED", _always(Status(code=grpc.StatusCode.UNAUTHENTICATED))),
    # A size that can never pass.
    "too-large-tonic": Kind(
        "too large above 64 KiB, in the words of Rust's tonic",
        _if_large(Status(code=grpc.StatusCode.OUT_OF_RANGE, details="Error, decoded message length too large")),
    ),
    "too-large-java": Kind(
        "too large above 64 KiB, in the words of Java",
        _if_large(
            Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="gRPC message exceeds maximum size 65536: 70000")
        ),
    ),
    "too-large-nginx": Kind(
        "413 above 64 KiB", _if_large(Http(status=413, body=b"<html>413 Request Entity Too Large</html>"))
    ),
    "resets-large": Kind("resets the connection above 64 KiB", _if_large(Reset())),
    "busy-when-large": Kind(
        "503, UNAVAILABLE above 64 KiB", _if_large(Status(code=grpc.StatusCode.UNAVAILABLE, details="upstream reset"))
    ),
    "slow-by-size": Kind("needs 10 ms a record", lambda: _slow_by_size),
    # Failures by chance, and records that are bad for good.
    "flaky-20": Kind("500, INTERNAL to 20 % of the requests, whatever they hold", _by_chance(0.2)),
    "flaky-50": Kind("to half of them", _by_chance(0.5)),
    "flaky-85": Kind("to 85 %", _by_chance(0.85)),
    "bad-sources": Kind("refuses each request that holds a record of one source in ten", lambda: _refuse_bad),
    "ignores-bad": Kind("says how many records of such sources it ignored, and takes the rest", lambda: _ignore_bad),
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
