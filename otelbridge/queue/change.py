"""A change to what is held, as a value: it can be written now, or wait until the disk takes writes again."""

from __future__ import annotations

from dataclasses import dataclass, field

from otelbridge.event import Stream
from otelbridge.queue.batch import Batch
from otelbridge.queue.rows import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Records that the endpoint refused for good, kept so that a human can look, and try again."""

    id: int
    stream: Stream
    request: bytes
    records: int
    oldest_received_unix_nano: int
    refused_unix_nano: int
    code: str
    """The endpoint's status: `INVALID_ARGUMENT`, `400` ..."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """A batch that was delivered, kept by the flight recorder."""

    stream: Stream
    request: bytes
    records: int
    oldest_received_unix_nano: int
    delivered_unix_nano: int


@dataclass(slots=True, kw_only=True)
class Change:
    """What one transaction does, in this order."""

    retain: list[tuple[Span, int]] = field(default_factory=list)
    """Rows to copy to the flight recorder, and when they were delivered. Before the deletes."""
    retained: list[Retained] = field(default_factory=list)
    """The same for batches that never came to disk."""
    deletes: list[Span] = field(default_factory=list)
    inserts: dict[int, Batch] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    dead_letter_deletes: list[int] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, later: Change) -> None:
        """Takes in a change that comes after this one; neither inserts what the other deletes."""
        self.retain += later.retain
        self.retained += later.retained
        self.deletes += later.deletes
        self.inserts |= later.inserts
        self.dead_letters += later.dead_letters
        self.dead_letter_deletes += later.dead_letter_deletes
        self.notes |= later.notes

    def __bool__(self) -> bool:
        return bool(
            self.retain
            or self.retained
            or self.deletes
            or self.inserts
            or self.dead_letters
            or self.dead_letter_deletes
            or self.notes
        )
