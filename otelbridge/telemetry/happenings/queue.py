"""What the durable queue tells."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOpened:
    """The queue is open; what an earlier life left in it will be delivered."""

    path: str
    held_records: int
    held_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsShed:
    """Records were dropped from the queue, by its bounds."""

    stream: Stream
    reason: str
    """`queue_full`, `expired` or `corrupt`."""
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDegraded:
    """The disk does not take writes; batches wait in bounded memory."""

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
    lost_records: int | None
