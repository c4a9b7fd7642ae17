"""Batches in memory: those that wait for the disk, and copies of those that were just written to it."""

from __future__ import annotations

import bisect

from otelbridge.event import Stream
from otelbridge.queue.model import Batch, Change, Row, Span, stream_of
from otelbridge.queue.packing import request_bytes

CACHE_BYTES = 2 * 1024 * 1024
"""Two requests, unpacked: 200 ms of 2,000 events/s, small batches in both forms, are 1 MiB."""


def measure(batch_id: int, batch: Batch) -> Row:
    """A batch's measures."""
    held = batch.request
    return Row(batch_id, batch.records, len(held), batch.oldest_received_unix_nano, request_bytes(held))


class MemoryStore:
    """The batches in memory. Not thread-safe."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._order: dict[Stream, list[int]] = {stream: [] for stream in Stream}
        self.doubts: set[int] = set()
        """Those that may be on disk too: a commit that fails because its sync does is in the file all the same, and is
        seen once the file is opened anew."""
        self.bytes = 0
        self.records = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._batches

    def alone(self, batch_id: int) -> bool:
        """Whether the batch is here, and surely nowhere else."""
        return batch_id in self._batches and batch_id not in self.doubts

    def add(self, batch_id: int, batch: Batch) -> None:
        """Takes a batch in."""
        self._batches[batch_id] = batch
        bisect.insort(self._order[batch.stream], batch_id)
        self.bytes += len(batch.request) + len(batch.plain)
        self.records += batch.records

    def remove(self, span: Span) -> list[Batch]:
        """Lets go of all batches in a span."""
        order = self._order[stream_of(span.first)]
        start, end = bisect.bisect_left(order, span.first), bisect.bisect_right(order, span.last)
        gone = [self._batches.pop(batch_id) for batch_id in order[start:end]]
        self.doubts.difference_update(order[start:end])
        del order[start:end]
        self.bytes -= sum(len(batch.request) + len(batch.plain) for batch in gone)
        self.records -= sum(batch.records for batch in gone)
        return gone

    def get(self, batch_id: int) -> Batch | None:
        """The batch with that id, if it is here."""
        return self._batches.get(batch_id)

    def count(self, stream: Stream) -> int:
        """How many batches of a stream are here."""
        return len(self._order[stream])

    def measures(self, span: Span, limit: int | None = None) -> list[Row]:
        """The first batches of a span in order, without their bytes."""
        order = self._order[stream_of(span.first)]
        start, end = bisect.bisect_left(order, span.first), bisect.bisect_right(order, span.last)
        if limit is not None:
            end = min(end, start + limit)
        return [measure(batch_id, self._batches[batch_id]) for batch_id in order[start:end]]

    def all(self) -> dict[int, Batch]:
        """Every batch by its id."""
        return dict(self._batches)

    def some(self, max_bytes: int) -> dict[int, Batch]:
        """The first batches up to a size, at least one: what the next write to the recovering disk takes."""
        chosen: dict[int, Batch] = {}
        size = 0
        for order in self._order.values():
            for batch_id in order:
                batch = self._batches[batch_id]
                if chosen and size + len(batch.request) > max_bytes:
                    return chosen
                chosen[batch_id] = batch
                size += len(batch.request)
        return chosen


class ReadCache:
    """Copies of what was just written, so that a worker that comes at once need not read it from the disk.

    Only ever a part of what is in the open file: once a backlog is larger than this, it is read from there. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self._copies = MemoryStore()

    def follow(self, change: Change) -> None:
        """The change was written."""
        for span in change.deletes:
            self._copies.remove(span)
        for batch_id, batch in change.inserts.items():
            if self._copies.bytes + len(batch.request) + len(batch.plain) <= CACHE_BYTES:
                self._copies.add(batch_id, batch)

    def forget(self, span: Span) -> None:
        """What is in the span is not to be handed out again, though it may still be on disk."""
        self._copies.remove(span)

    def batches(self) -> dict[int, Batch]:
        """All copies by their ids: should the file be damaged, they are what is left."""
        return self._copies.all()

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
