"""Batches that were just written, in memory as well: a courier that comes for them at once need not read them again.

The disk stays the truth. What is in here is only ever a part of what was written to the file that is open, and once a
backlog is larger than this, it is read from the disk.
"""

from __future__ import annotations

from otelbridge.queue.batch import Batch
from otelbridge.queue.change import Change
from otelbridge.queue.rows import Row, Span, stream_of
from otelbridge.queue.waiting_room import WaitingRoom

MAX_BYTES = 2 * 1024 * 1024
"""Two requests, unpacked; a tenth of that is under way at 10,000 events/s."""


class Fresh:
    """The copies. Not thread-safe."""

    def __init__(self) -> None:
        self._copies = WaitingRoom()

    def follow(self, change: Change) -> None:
        """The change was written."""
        for span in change.deletes:
            self._copies.remove(span)
        for batch_id, batch in change.inserts.items():
            if self._copies.bytes + len(batch.request) <= MAX_BYTES:
                self._copies.add(batch_id, batch)

    def forget(self, span: Span) -> None:
        """What is in the span is not to be handed out again, though it may still be on disk."""
        self._copies.remove(span)

    def clear(self) -> None:
        """The file was closed, perhaps because it is damaged."""
        self._copies = WaitingRoom()

    def rows(self, span: Span, limit: int, *, held_batches: int) -> list[Row] | None:
        """The first rows of a span, if all batches of its stream are here; None if the disk must be asked.

        Args:
            span: where to look.
            limit: so many rows at most.
            held_batches: how many batches of the span's stream are held.
        """
        if not held_batches or self._copies.count(stream_of(span.first)) != held_batches:
            return None
        return self._copies.measures(span, limit)

    def get(self, batch_id: int) -> Batch | None:
        """The batch with that id, if it is here."""
        return self._copies.get(batch_id)
