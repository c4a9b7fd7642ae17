"""What the encoder tells, on the way from the hand-off to the queue."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDamaged:
    """An event did not parse as it should; it travels on, decoded leniently or as raw bytes."""

    stream: Stream
    upstream: str
    how: str
    """`lenient` or `raw`."""
    why: str
