"""The answers that the scripted OTLP endpoint can be told to give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2


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


def in_turn(answers: Iterable[Answer], *, then: Answer = OK, signal: str = "logs") -> Answers:
    """A script that answers requests of one signal in the order given, and all later ones with `then`."""
    rest = iter(tuple(answers))
    lock = threading.Lock()

    def answer(request: Request) -> Answer:
        if request.signal != signal:
            return OK
        with lock:
            return next(rest, then)

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
