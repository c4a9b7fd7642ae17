"""Typed events, past-tense dataclasses: components tell them instead of logging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

from otelbridge.event import ConnectStep, Gap, Stream


class Event(Protocol):
    """Any of the dataclasses of this file."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # how typeshed marks a dataclass


Tell = Callable[[Event], None]
"""Passed into every component; never raises, never blocks, may be called from any thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStarted:
    """All components are open."""

    version: str
    upstreams: tuple[str, ...]
    endpoint: str
    fastpath: bool
    """Whether usual events are mapped by the compiled encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsReloaded:
    """The settings were read again, and are in force but for those that need a restart."""

    changed: tuple[str, ...]
    need_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused:
    """The settings were read again and cannot be used; nothing has changed."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFailed:
    """A thread of the bridge met a fault that nobody expected; it gave back what it had in hand, and goes on."""

    thread: str
    error: str
    in_a_row: int
    """Faults since the thread last got on with its work."""
    traceback: str
    """Empty where it is the same as of the fault before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUnbalanced:
    """Records are missing from the ledger, or there are too many: a fault of the bridge itself."""

    residue: Mapping[str, int]
    """Per stream: received minus everything accounted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted:
    """The bridge was asked to stop: it stops reading and delivers what it holds until the deadline."""

    why: str
    deadline_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStopped:
    """All components are closed; what is left waits for the next start."""

    held_records: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A subscription moved from one state of its state machine to another."""

    upstream: str
    before: str
    after: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAttempted:
    """An attempt to subscribe ended: with a watched upstream, or with an error."""

    upstream: str
    connection_id: str
    attempt: int
    """1 for the first one after a time without faults."""
    started_unix_nano: int
    ended_unix_nano: int
    steps: tuple[ConnectStep, ...] = ()
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
class HealthChecksUseless:
    """Health checks say nothing of a connection that is kept: there is no room for them, or they fail beside events."""

    upstream: str
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
    """A gap is over, and its extent is known."""

    gap: Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFellSilent:
    """A node behind a relay that fed before has been silent for long, while others go on."""

    node: str
    last_event_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsOverflowed:
    """The buffer between readers and encoder was full: events were dropped, and counted."""

    stream: Stream
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDamaged:
    """Events did not parse as they should; they travel on, decoded leniently or as raw bytes."""

    stream: Stream
    upstream: str
    how: str
    """`lenient`, `raw`; or by a fault of the bridge `dropped`, with nothing to send, or `not kept`, of a flood."""
    why: str
    """Of the first of them."""
    events: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsEncoded:
    """Events of one stream became records."""

    stream: Stream
    lags: tuple[tuple[float, int], ...]
    """Seconds from an event's own time stamp to its receipt, and how many events each stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOpened:
    """The queue is open; what an earlier life left in it will be delivered."""

    path: str
    held_records: int
    held_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFolderExposed:
    """Others than its owner may put files into the queue's folder, or take them away."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsShed:
    """Records were dropped from the queue, by its bounds."""

    stream: Stream
    reason: str
    """`queue_full`, `expired` or `corrupt`."""
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodSummarised:
    """The events of one kind beyond its rate became one record."""

    kind: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDegraded:
    """The disk does not take writes; what it refuses waits in bounded memory."""

    path: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecovered:
    """The disk takes writes again."""

    path: str
    degraded_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSalvaged:
    """The queue file was damaged: what could be read was kept, the file was set aside."""

    path: str
    set_aside: str
    kept_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAccepted:
    """The endpoint said yes."""

    endpoint: str
    stream: Stream
    records: int
    rejected: int
    """Of those, rejected by a partial success: counted, not sent again."""
    message: str
    request_bytes: int
    seconds: float
    age_seconds: float
    """Since the oldest of the records was received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDelayed:
    """The endpoint, or the way to it, asks to be tried later; the batch stays where it is."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str
    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHeld:
    """Only an operator can cure this (credentials, wrong address); the batch stays where it is."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str
    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSplit:
    """The endpoint found a request too large, or faulty in part; it is sent again in halves."""

    endpoint: str
    stream: Stream
    records: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused:
    """The endpoint refused records for good; they are set aside as dead letters."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossDetected:
    """A connection was found to be lost, so many seconds after its last sign of life (an event or a heartbeat)."""

    upstream: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRecovered:
    """An upstream is watched again, so many seconds after its loss was noticed."""

    upstream: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResumed:
    """The endpoint takes records again, after it asked for a delay or had to be held."""

    endpoint: str
    away_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySpoke:
    """A library (the SDK, its exporters, waitress, grpc) had something to complain about, by way of `logging`."""

    library: str
    level: str
    """`warning` or `error`."""
    template: str
    """The message before its values are put in: what makes two complaints the same."""
    message: str
