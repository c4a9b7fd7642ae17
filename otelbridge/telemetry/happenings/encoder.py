"""What the encoder tells, on the way from the hand-off to the queue."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDamaged:
    """Events did not parse as they should; they travel on, decoded leniently or as raw bytes."""

    stream: Stream
    upstream: str
    how: str
    """`lenient` or `raw`."""
    why: str
    """Of the first of them."""
    events: int = 1
