"""What the bridge's subscriptions and endpoints are doing now: happenings go in, one state per upstream comes out.

The feed's state machine is the only one that moves; this is its mirror, kept for metrics, probes and the status page.
Owned by the telemetry thread; others read through `snapshot` methods, which take the lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from otelbridge.telemetry import events as h

TIMELINE_LENGTH = 256
"""Changes of state remembered per upstream, for the status page."""
SEEING = frozenset({"watching", "suspect"})
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StateChange:
    """A subscription entered a state."""

    unix_nano: int
    state: str
    why: str


@dataclass(slots=True, kw_only=True)
class SubscriptionMirror:
    """The mirror of one upstream's subscription."""

    upstream: str
    state: str = "idle"
    since_unix_nano: int
    blind_since_unix_nano: int | None
    """None while it is seeing."""
    why: str = ""
    connection_id: str = ""
    attempt: int = 0
    status_code: str = ""
    error: str = ""
    error_class: str = ""
    last_alive_unix_nano: int | None = None
    streams: dict[str, str] = field(default_factory=dict)
    """The streams that are open, each with the connection that it is open on."""
    timeline: deque[StateChange] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))

    def forget(self, connection_id: str, stream: str | None = None) -> None:
        """A connection's streams (or one of them) are closed; those that another connection took over stay open."""
        for name, holder in list(self.streams.items()):
            if holder == connection_id and stream in {None, name}:
                del self.streams[name]


@dataclass(slots=True, kw_only=True)
class DeliveryMirror:
    """What one endpoint has answered."""

    endpoint: str
    state: str = "idle"
    since_unix_nano: int
    delay_seconds: float = 0.0
    requests: int = 0
    records: int = 0
    rejected: int = 0
    last_accepted_unix_nano: int | None = None
    code: str = ""
    why: str = ""


class States:
    """All mirrors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[str, SubscriptionMirror] = {}
        self._deliveries: dict[str, DeliveryMirror] = {}

    def apply(self, happening: h.Event, unix_nano: int) -> list[h.Event]:
        """Moves the mirrors; returns what follows from it (a loss, a recovery), to be told as well."""
        with self._lock:
            match happening:
                case (
                    h.StateChanged()
                    | h.ConnectionAttempted()
                    | h.RetryScheduled()
                    | h.StreamOpened()
                    | h.StreamLost()
                    | h.ConnectionEnded()
                    | h.HeartbeatAnswered()
                ):
                    self._subscription(happening, unix_nano)
                    return []
                case h.BatchAccepted() | h.DeliveryDelayed() | h.DeliveryHeld() | h.BatchSplit() | h.BatchRefused():
                    return list(self._delivery(happening, unix_nano))
                case _:
                    return []

    def subscriptions(self) -> list[SubscriptionMirror]:
        """A copy of each mirror."""
        with self._lock:
            return [
                replace(s, streams=dict(s.streams), timeline=deque(s.timeline, maxlen=TIMELINE_LENGTH))
                for s in self._subscriptions.values()
            ]

    def timeline(self, upstream: str) -> list[StateChange]:
        """An upstream's changes of state, oldest first."""
        with self._lock:
            mirror = self._subscriptions.get(upstream)
            return list(mirror.timeline) if mirror else []

    def deliveries(self) -> list[DeliveryMirror]:
        """A copy of each mirror."""
        with self._lock:
            return [replace(delivery) for delivery in self._deliveries.values()]

    def _subscription(  # noqa: C901, PLR0912 - one case per happening, each of a line or two
        self,
        told: h.StateChanged
        | h.ConnectionAttempted
        | h.RetryScheduled
        | h.StreamOpened
        | h.StreamLost
        | h.ConnectionEnded
        | h.HeartbeatAnswered,
        now: int,
    ) -> None:
        mirror = self._subscriptions.get(told.upstream)
        if mirror is None:
            if not isinstance(told, h.StateChanged | h.ConnectionAttempted):
                return  # a late word of a subscription that is closed
            mirror = SubscriptionMirror(upstream=told.upstream, since_unix_nano=now, blind_since_unix_nano=now)
            self._subscriptions[told.upstream] = mirror
        match told:
            case h.StateChanged():
                mirror.state, mirror.since_unix_nano, mirror.why = told.after, now, told.why
                mirror.timeline.append(StateChange(now, told.after, told.why))
                if told.after in SEEING:
                    mirror.blind_since_unix_nano = None
                elif mirror.blind_since_unix_nano is None:
                    mirror.blind_since_unix_nano = now
                if told.after == "closed":
                    # Addresses behind a name come and go for ever: what is closed is forgotten.
                    del self._subscriptions[told.upstream]
            case h.ConnectionAttempted():
                mirror.attempt, mirror.connection_id = told.attempt, told.connection_id
                mirror.status_code, mirror.error, mirror.error_class = told.status_code, told.error, told.error_class
                if told.status_code != "OK":
                    mirror.forget(told.connection_id)
                else:
                    mirror.last_alive_unix_nano = told.ended_unix_nano
            case h.RetryScheduled():
                mirror.attempt, mirror.error_class = told.attempt, told.error_class
            case h.StreamOpened():
                mirror.streams[told.stream.value] = told.connection_id
            case h.StreamLost():
                mirror.forget(told.connection_id, told.stream.value)
            case h.HeartbeatAnswered():
                mirror.last_alive_unix_nano = now
            case h.ConnectionEnded():
                mirror.forget(told.connection_id)

    def _delivery(
        self,
        told: h.BatchAccepted | h.DeliveryDelayed | h.DeliveryHeld | h.BatchSplit | h.BatchRefused,
        now: int,
    ) -> Iterator[h.Event]:
        mirror = self._deliveries.get(told.endpoint)
        if mirror is None:
            mirror = self._deliveries[told.endpoint] = DeliveryMirror(endpoint=told.endpoint, since_unix_nano=now)
        mirror.requests += 1
        before, since = mirror.state, mirror.since_unix_nano
        match told:
            case h.BatchAccepted():
                mirror.state, mirror.delay_seconds, mirror.code, mirror.why = "delivering", 0.0, "", told.message
                mirror.records += told.records - told.rejected
                mirror.rejected += told.rejected
                mirror.last_accepted_unix_nano = now
            case h.BatchRefused():
                mirror.rejected += told.records
                mirror.code, mirror.why = told.code, told.why
            case h.BatchSplit():
                mirror.why = told.why
            case _:
                mirror.state = "held" if isinstance(told, h.DeliveryHeld) else "delayed"
                mirror.delay_seconds, mirror.code, mirror.why = told.delay_seconds, told.code, told.why
        if mirror.state != before:
            mirror.since_unix_nano = now
            if mirror.state == "delivering" and before in {"delayed", "held"}:
                yield h.DeliveryResumed(endpoint=told.endpoint, away_seconds=round((now - since) / NANOSECONDS, 3))
