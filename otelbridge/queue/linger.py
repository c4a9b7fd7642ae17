"""Decides when free batches are due: after their linger, or when there is enough for one request.

What waits is on disk already; only the request waits. What was free before this process began, or came back from a
failed request, waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from otelbridge.event import Stream
from otelbridge.queue.model import Batch
from otelbridge.queue.packing import request_bytes

AT_ONCE = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LingerLimits:
    """How long a request waits for more, and how much it waits for."""

    seconds: Mapping[Stream, float] = field(default_factory=dict)
    """Streams that are not named do not wait."""
    enough_bytes: int = 0
    """Of an unpacked request."""
    enough_records: int = 0


@dataclass(slots=True)
class _Arrivals:
    """What of one stream has come since a request last took all that was free."""

    first_at: float = AT_ONCE
    bytes: int = 0
    records: int = 0


class Linger:
    """Sans clock: times are monotonic seconds, given by the caller. Not thread-safe."""

    def __init__(self, limits: LingerLimits) -> None:
        self._limits = limits
        self._arrivals = {stream: _Arrivals() for stream in Stream}

    def put(self, batch: Batch, now: float) -> None:
        """A batch came."""
        arrivals = self._arrivals[batch.stream]
        if not arrivals.records:
            arrivals.first_at = now
        arrivals.bytes += request_bytes(batch.request)
        arrivals.records += batch.records

    def leased(self, stream: Stream, *, size: int, records: int, all_of_it: bool) -> None:
        """A request took so much of what was free, or all of it."""
        arrivals = self._arrivals[stream]
        if all_of_it:
            self._arrivals[stream] = _Arrivals()
        else:
            arrivals.bytes = max(0, arrivals.bytes - size)
            arrivals.records = max(1, arrivals.records - records)

    def hurry(self, stream: Stream) -> None:
        """What is free of a stream is due now."""
        self._arrivals[stream].first_at = AT_ONCE
        self._arrivals[stream].records = max(1, self._arrivals[stream].records)

    def change(self, limits: LingerLimits) -> None:
        """Waits by these limits from now on."""
        self._limits = limits

    def lift(self) -> None:
        """Nothing waits from now on."""
        self._limits = LingerLimits()

    def due_at(self, stream: Stream) -> float:
        """When what is free of a stream is due."""
        arrivals, limits = self._arrivals[stream], self._limits
        if arrivals.bytes >= limits.enough_bytes or arrivals.records >= limits.enough_records:
            return AT_ONCE
        return arrivals.first_at + limits.seconds.get(stream, 0.0)
