"""What can be said about a subscription right now: read by /status, the probes, the metrics and the status page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.feed.states import StreamState, SubscriptionState


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """One stream of a subscription. Counts are since the start and never go back."""

    state: StreamState
    since_unix_nano: int
    events: int
    bytes: int
    last_event_unix_nano: int
    """0 before the first event."""
    blind_since_unix_nano: int | None
    """Since when nothing can be seen; None while it is watched."""
    events_per_second: float | None
    """The recent mean; None until it was measured."""
    ends: Mapping[str, int]
    """Ends that we did not ask for, by gRPC status name."""
    oversized: int
    """Ends by an event larger than `max_message_bytes`."""
    error: str
    """Why it is not watched, or why it last was not."""
    error_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStatus:
    """One subscription to one upstream."""

    upstream: str
    state: SubscriptionState
    since_unix_nano: int
    streams: Mapping[Stream, StreamStatus]
    attempts: int
    """All attempts since the start."""
    attempts_in_a_row: int
    """Since the last healthy spell."""
    last_error: str
    error_class: str
    """Of the last error; both are empty once the upstream is watched again."""
    next_attempt_in_seconds: float | None
    connection_id: str
    blind_since_unix_nano: int | None
    """Since when at least one stream is blind; None while all are watched."""
    last_heartbeat_unix_nano: int
    heartbeat_method: str
    keepalive_seconds: float
    certificate_expires_unix_seconds: int | None
    nodes_seen: int

    @property
    def watching(self) -> tuple[Stream, ...]:
        """The streams of which nothing is being missed."""
        return tuple(stream for stream, status in self.streams.items() if status.blind_since_unix_nano is None)
