"""What the subscriptions tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otelbridge.event import Gap, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A subscription moved from one state of its state machine to another."""

    upstream: str
    before: str
    after: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a connection attempt: resolve, connect, tls, health, subscribe."""

    name: str
    started_unix_nano: int
    ended_unix_nano: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAttempted:
    """An attempt to subscribe ended: with a watched upstream, or with an error."""

    upstream: str
    connection_id: str
    attempt: int
    """1 for the first one after a healthy spell."""
    started_unix_nano: int
    ended_unix_nano: int
    steps: tuple[Step, ...] = ()
    status_code: str = "OK"
    """A gRPC status name; `OK` when the upstream is being watched."""
    error: str = ""
    error_class: str = ""
    """`transient`, `ended`, `permanent`, `configuration`, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """The server answered a Watch call, or its first event arrived."""

    upstream: str
    stream: Stream
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLost:
    """A Watch call ended without our asking."""

    upstream: str
    stream: Stream
    connection_id: str
    status_code: str
    detail: str
    error_class: str
    events: int
    """Events received on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnded:
    """A connection's life is over; written once, at its end."""

    upstream: str
    connection_id: str
    started_unix_nano: int
    ended_unix_nano: int
    events: Mapping[str, int]
    """Events received per stream."""
    last_event_unix_nano: int
    status_code: str
    detail: str = ""
    planned: bool = False
    """We ended it ourselves: another one took over before, or the bridge stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """The next attempt will start in so many seconds."""

    upstream: str
    attempt: int
    delay_seconds: float
    error_class: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswered:
    """The upstream answered a health check."""

    upstream: str
    seconds: float
    method: str
    """`nonce`, `grpc.health.v1` or `keepalive`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatMissed:
    """The upstream did not answer a health check in time."""

    upstream: str
    misses: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveStretched:
    """The upstream found our pings too many: it is pinged this rarely from now on."""

    upstream: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesRefused:
    """Certificate files changed, but nothing can be watched with them: the present connection goes on."""

    upstream: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamsChanged:
    """A name with many addresses behind it changed: subscriptions were added and removed."""

    name: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamsUnknown:
    """A name with many addresses behind it could not be resolved: the present subscriptions go on."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GapEnded:
    """A stretch of blindness is over, and its extent is known."""

    gap: Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFellSilent:
    """A node behind a relay that fed before has been silent for long, while others go on."""

    node: str
    last_event_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsOverflowed:
    """The hand-off between readers and encoder was full: events were dropped, and counted."""

    stream: Stream
    events: int
