"""Classifies how a stream or an attempt ended, as a table from status to error class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from grpc import StatusCode

from otelbridge.event import GapCause
from otelbridge.net.tls_faults import GATEWAY_STATUSES, fault_in, in_words


class ErrorClass(StrEnum):
    """What kind of trouble an end is. The first of several ends, in this order, decides the backoff."""

    TRANSIENT = "transient"
    """Expected trouble: fast backoff."""
    ENDED = "ended"
    """The server ended the stream with OK, as KubeArmor does in a shutdown or for a bad filter: fast backoff."""
    PERMANENT = "permanent"
    """The server will not have it until somebody changes something: slow backoff."""
    CONFIGURATION = "configuration"
    """TLS, a name or an address is wrong, on our side or on theirs: slow backoff, with the reason spelled out."""


SLOW_CLASSES = frozenset({ErrorClass.PERMANENT, ErrorClass.CONFIGURATION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What to make of an end."""

    error_class: ErrorClass
    quick: bool = False
    """One bad event ended the stream, not the server's health: when events flowed before, try again within a second."""


_TRANSIENT = Classification(error_class=ErrorClass.TRANSIENT)
_POISON = Classification(error_class=ErrorClass.TRANSIENT, quick=True)
_PERMANENT = Classification(error_class=ErrorClass.PERMANENT)
_CONFIGURATION = Classification(error_class=ErrorClass.CONFIGURATION)

VERDICTS: Mapping[StatusCode, Classification] = {
    # A wrong filter, a marshalling fault in the relay and a shutdown all look like this.
    StatusCode.OK: Classification(error_class=ErrorClass.ENDED),
    # Not by us: our own cancellations never come here.
    StatusCode.CANCELLED: _TRANSIENT,
    StatusCode.UNKNOWN: _TRANSIENT,
    StatusCode.INVALID_ARGUMENT: _PERMANENT,
    StatusCode.DEADLINE_EXCEEDED: _TRANSIENT,
    StatusCode.NOT_FOUND: _PERMANENT,
    StatusCode.ALREADY_EXISTS: _PERMANENT,
    StatusCode.PERMISSION_DENIED: _PERMANENT,
    # Also what our own side says of an event larger than feed.max_message_bytes.
    StatusCode.RESOURCE_EXHAUSTED: _POISON,
    StatusCode.FAILED_PRECONDITION: _PERMANENT,
    StatusCode.ABORTED: _TRANSIENT,
    StatusCode.OUT_OF_RANGE: _PERMANENT,
    StatusCode.UNIMPLEMENTED: _PERMANENT,
    # Go refuses to marshal a string that is not UTF-8: the node's stream ends so for every subscriber.
    StatusCode.INTERNAL: _POISON,
    StatusCode.UNAVAILABLE: _TRANSIENT,
    StatusCode.DATA_LOSS: _TRANSIENT,
    StatusCode.UNAUTHENTICATED: _PERMANENT,
}

SILENCE_WORDS = ("ping timeout", "keepalive", "Connection timed out", "settings timeout")
"""In the details of an UNAVAILABLE: the connection fell silent, it was not closed."""

GATEWAY_WORDS = tuple(f"HTTP status {status}" for status in GATEWAY_STATUSES)
"""In the details of an UNAVAILABLE that is said in HTTP/1: a proxy in between is there, and its server is not."""

NO_ROOM_WORDS = ("no quota to send RPC", "Too many streams")
"""In the details of a RESOURCE_EXHAUSTED that gRPC itself says: the server allows no more calls than are open."""
NO_ROOM = (
    "the server's SETTINGS_MAX_CONCURRENT_STREAMS allows no more calls on a connection: raise it, at the server or the "
    "proxy in between, to one more than there are feed.streams, or take one of those out"
)

TOO_MANY_PINGS = "too_many_pings"
TOO_LARGE = "larger than max"

BAD_FILTER_ENDS = 3
BAD_FILTER_SECONDS = 2.0
"""So many ends with OK, each within so many seconds of subscribing and without an event, mean a filter refused."""


def classify(code: StatusCode, details: str) -> Classification:
    """What an end with this status means. Never called for ends that we asked for."""
    by_gateway = any(words in details for words in GATEWAY_WORDS)
    if code is StatusCode.UNAVAILABLE and not by_gateway and configuration_fault(details):
        return _CONFIGURATION
    return _CONFIGURATION if has_no_room(code, details) else VERDICTS[code]


def has_no_room(code: StatusCode, details: str) -> bool:
    """Whether a call was not made because the server allows no more at a time."""
    return code is StatusCode.RESOURCE_EXHAUSTED and any(words in details for words in NO_ROOM_WORDS)


def configuration_fault(details: str) -> str:
    """What is wrong and the cure, for what an operator has to change; nothing when it is none of that."""
    if any(words in details for words in NO_ROOM_WORDS):
        return NO_ROOM
    fault = fault_in(details)
    return ": ".join(in_words(fault, "feed.tls")) if fault else ""


def gap_cause(code: StatusCode, details: str) -> GapCause:
    """Whether a connection fell silent or was cut."""
    if code is StatusCode.UNAVAILABLE and any(words in details for words in SILENCE_WORDS):
        return GapCause.HEARTBEAT_LOSS
    return GapCause.DISCONNECT


def gentlest(classes: list[ErrorClass]) -> ErrorClass:
    """The most retryable class of several ends: the connection is tried again as soon as any stream deserves it."""
    order = list(ErrorClass)
    return min(classes, key=order.index, default=ErrorClass.TRANSIENT)
