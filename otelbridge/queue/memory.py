"""What the queue keeps in memory: counts, leases, batches that wait for the disk, copies of those just written."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.queue.model import Batch, Change, Lease, LeaseError, Row, Span
from otelbridge.queue.packing import request_bytes
from otelbridge.queue.store import span_of, stream_of


class StreamCounts:
    """Batches, records and bytes per stream. Not thread-safe."""

    def __init__(self) -> None:
        self.batches = dict.fromkeys(Stream, 0)
        self.records = dict.fromkeys(Stream, 0)
        self.bytes = dict.fromkeys(Stream, 0)

    def add(self, stream: Stream, row: Row) -> None:
        """A batch came."""
        self.batches[stream] += 1
        self.records[stream] += row.records
        self.bytes[stream] += row.bytes

    def remove(self, stream: Stream, rows: Iterable[Row]) -> int:
        """Batches went; returns their records."""
        gone = 0
        for row in rows:
            self.batches[stream] -= 1
            self.records[stream] -= row.records
            self.bytes[stream] -= row.bytes
            gone += row.records
        return gone

    def put(self, stream: Stream, batches: int, records: int, size: int) -> None:
        """Replaces a stream's counts by those of a recount."""
        self.batches[stream], self.records[stream], self.bytes[stream] = batches, records, size

    def total_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(self.bytes.values())


def measure(batch_id: int, batch: Batch) -> Row:
    """A batch's measures."""
    held = batch.request
    return Row(batch_id, batch.records, len(held), batch.oldest_received_unix_nano, request_bytes(held))


CACHE_BYTES = 2 * 1024 * 1024
"""Two requests, unpacked: 200 ms of 2,000 events/s, small batches in both forms, are 1 MiB."""


class MemoryStore:
    """Batches in memory: those that wait for the disk, or copies of those just written. Not thread-safe."""

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
        """Whether the batch is in memory only."""
        return batch_id in self._batches and batch_id not in self.doubts

    def add(self, batch_id: int, batch: Batch) -> None:
        """Takes a batch in."""
        self._batches[batch_id] = batch
        bisect.insort(self._order[batch.stream], batch_id)
        self.bytes += len(batch.request) + len(batch.plain)
        self.records += batch.records

    def remove(self, span: Span) -> list[Batch]:
        """Forgets all batches in a span."""
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

    def follow(self, change: Change) -> None:
        """Of a change that was just written, keeps copies: a worker that comes at once need not read from the disk."""
        for span in change.deletes:
            self.remove(span)
        for batch_id, batch in change.inserts.items():
            if self.bytes + len(batch.request) + len(batch.plain) <= CACHE_BYTES:
                self.add(batch_id, batch)

    def some(self, max_bytes: int) -> dict[int, Batch]:
        """The first batches up to a size, at least one, for the next write to a recovering disk."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """A lease that is out, and the rows behind it."""

    lease: Lease
    span: Span
    """Nobody else gets a row in here while it is out."""
    rows: tuple[Row, ...]
    since: int
    """From this id up to the first row there was nothing that was free."""
    on_disk: bool
    """The disk was read when it was made: then every row in the span belongs to it."""

    @property
    def oldest(self) -> int:
        """When its oldest record was received, by the queue's time."""
        return min(row.oldest_received_unix_nano for row in self.rows)

    def spans(self) -> list[Span]:
        """What to delete when the lease is settled."""
        return [self.span] if self.on_disk else [Span(row.id, row.id) for row in self.rows]


class Leases:
    """The leases that are out. Not thread-safe."""

    def __init__(self) -> None:
        self._leased: dict[Stream, list[Span]] = {stream: [] for stream in Stream}
        self._settled: dict[Stream, list[Span]] = {stream: [] for stream in Stream}
        self._open: dict[int, OpenLease] = {}
        self._tries: dict[int, int] = {}

    def gaps(self, stream: Stream, first: int | None = None) -> Iterator[Span]:
        """The spans whose rows are free, in order, from `first` on."""
        low, last = span_of(stream)
        if first is not None:
            low = first
        leased, settled = self._leased[stream], self._settled[stream]
        for taken in heapq.merge(leased, settled) if settled else leased:
            if taken.first > low:
                yield Span(low, taken.first - 1)
            low = max(low, taken.last + 1)
        yield Span(low, last)

    def add(self, open_lease: OpenLease) -> None:
        """Records a lease that goes out."""
        self._open[open_lease.lease.batch_ids[0]] = open_lease
        bisect.insort(self._leased[open_lease.lease.stream], open_lease.span)

    def find(self, lease: Lease) -> OpenLease:
        """The entry of a lease that is out.

        Raises:
            LeaseError: the lease is not out: settled already, or not ours.
        """
        open_lease = self._open.get(lease.batch_ids[0])
        if open_lease is None or open_lease.lease is not lease:
            raise LeaseError(f"lease on batch {lease.batch_ids[0]} is not out: each is settled exactly once")
        return open_lease

    def end(self, lease: Lease) -> OpenLease:
        """Ends a lease; its rows stay blocked until `release`. Raises LeaseError as `find` does."""
        open_lease = self.find(lease)
        del self._open[lease.batch_ids[0]]
        return open_lease

    def amend(self, open_lease: OpenLease) -> None:
        """The rows behind a lease have changed."""
        self._open[open_lease.lease.batch_ids[0]] = open_lease

    def release(self, stream: Stream, span: Span) -> None:
        """Lets the rows left in the span of a lease be leased again."""
        self._leased[stream].remove(span)

    def block_again(self) -> None:
        """Blocks the spans of all open leases, and no other one: a fault may have come between the two."""
        for stream, spans in self._leased.items():
            spans[:] = sorted(out.span for out in self._open.values() if out.lease.stream is stream)

    def open(self) -> list[OpenLease]:
        """All open leases."""
        return list(self._open.values())

    @property
    def batches(self) -> dict[Stream, int]:
        """Leased batches per stream."""
        out: dict[Stream, int] = {}
        for open_lease in self._open.values():
            stream = open_lease.lease.stream
            out[stream] = out.get(stream, 0) + len(open_lease.rows)
        return out

    # --- what is settled and waits for its deletion ---

    def block(self, stream: Stream, span: Span) -> None:
        """The rows in a span are settled: they are not leased again, though they may still be on disk."""
        bisect.insort(self._settled[stream], span)

    def join(self, stream: Stream, gap: Span) -> None:
        """Joins the settled spans at both ends of a gap that turned out to have no rows."""
        settled = self._settled[stream]
        after = bisect.bisect_left(settled, Span(gap.last + 1, 0))
        if not 0 < after < len(settled):
            return
        left, right = settled[after - 1], settled[after]
        if left.last + 1 == gap.first and right.first == gap.last + 1:
            settled[after - 1 : after + 1] = [Span(left.first, right.last)]

    def settled(self) -> list[Span]:
        """The spans whose rows are to be deleted."""
        return [span for spans in self._settled.values() for span in spans]

    def forget_settled(self) -> None:
        """The rows of all of them are deleted."""
        for spans in self._settled.values():
            spans.clear()

    # --- tries ---

    def count_try(self, lease: Lease) -> None:
        """The lease came back unsettled."""
        self._tries[lease.batch_ids[0]] = lease.tries + 1

    def tries(self, batch_id: int) -> int:
        """How often the batch led a lease that came back."""
        return self._tries.get(batch_id, 0)

    def forget_tries(self, lease: Lease) -> None:
        """The lease is settled for good."""
        self._tries.pop(lease.batch_ids[0], None)
