"""The leases that are out, what is settled but not deleted yet, and so which rows are free.

A lease covers every row of a span, so what is out is a short list of spans however long the backlog is, and the free
rows are those in the gaps between them. What is settled while nothing can be deleted is a list of spans too, kept short
by joining neighbours once the gap between them was seen to be empty.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.queue.model import Lease, Row, Span, span_of


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
            ValueError: the lease is not out: settled already, or not ours.
        """
        open_lease = self._open.get(lease.batch_ids[0])
        if open_lease is None or open_lease.lease is not lease:
            raise ValueError(f"lease on batch {lease.batch_ids[0]} is not out: each is settled exactly once")
        return open_lease

    def end(self, lease: Lease) -> OpenLease:
        """Ends a lease; its rows stay blocked until `release`. Raises ValueError as `find` does."""
        open_lease = self.find(lease)
        del self._open[lease.batch_ids[0]]
        return open_lease

    def amend(self, open_lease: OpenLease) -> None:
        """The rows behind a lease have changed."""
        self._open[open_lease.lease.batch_ids[0]] = open_lease

    def release(self, stream: Stream, span: Span) -> None:
        """Whatever is left in the span of a lease may be leased again."""
        self._leased[stream].remove(span)

    def open(self) -> list[OpenLease]:
        """All that is out."""
        return list(self._open.values())

    @property
    def batches(self) -> dict[Stream, int]:
        """How many batches are out, per stream that any is out of."""
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
        """No row is in a gap: where what is settled lies at both of its ends, it becomes one span."""
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
