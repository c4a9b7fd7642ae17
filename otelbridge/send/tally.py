"""What the couriers did, in plain integers: read by metrics and status, never waited for."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otelbridge.send.patience import EndpointState

DURATION_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those that OpenTelemetry advises for request durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """A snapshot of the room."""

    endpoint: str
    state: EndpointState
    why: str
    """Why it is not ok; holds no secrets."""
    since_seconds: float
    next_try_seconds: float
    replay_records_per_second: float | None
    """What the backlog is held to; None when nothing is."""
    in_flight: int
    requests: int
    """Sent, whatever came of them."""
    request_bytes: int
    """Of those, before compression."""
    accepted_requests: int
    delivered_records: int
    rejected_records: int
    """By partial successes."""
    retries: int
    """Requests that came back: delayed or held."""
    splits: int
    dead_letter_records: int
    duration_counts: tuple[int, ...]
    """Requests per bucket of `DURATION_BOUNDS_SECONDS`, the last one for longer ones."""
    duration_sum_seconds: float


class Tally:
    """The counters; one short lock, a few times per request and never per record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.in_flight = 0
        self.requests = 0
        self.request_bytes = 0
        self.accepted_requests = 0
        self.delivered_records = 0
        self.rejected_records = 0
        self.retries = 0
        self.splits = 0
        self.dead_letter_records = 0
        self.duration_counts = [0] * (len(DURATION_BOUNDS_SECONDS) + 1)
        self.duration_sum_seconds = 0.0

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """The counters, for adding to."""
        with self._lock:
            yield self

    def sent(self, request_bytes: int, seconds: float) -> None:
        """A request was answered, or failed."""
        with self._lock:
            self.requests += 1
            self.request_bytes += request_bytes
            self.duration_counts[bisect_left(DURATION_BOUNDS_SECONDS, seconds)] += 1
            self.duration_sum_seconds += seconds
