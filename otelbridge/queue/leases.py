"""The leases that are out, and with them the spans of rows that nobody else gets.

A lease covers every row of a span, so what is out is a short list of spans however long the backlog is, and the free
rows are those in the gaps between them.
"""

from __future__ import annotations

import bisect
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
        self._out: dict[Stream, list[Span]] = {stream: [] for stream in Stream}
        self._open: dict[int, OpenLease] = {}
        self._tries: dict[int, int] = {}

    def gaps(self, stream: Stream, first: int | None = None) -> Iterator[Span]:
        """The spans whose rows are free, in order, from `first` on."""
        low, last = span_of(stream)
        if first is not None:
            low = first
        for out in self._out[stream]:
            if out.first > low:
                yield Span(low, out.first - 1)
            low = max(low, out.last + 1)
        yield Span(low, last)

    def add(self, open_lease: OpenLease) -> None:
        """Records a lease that goes out."""
        self._open[open_lease.lease.batch_ids[0]] = open_lease
        self.block(open_lease.lease.stream, open_lease.span)

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

    def block(self, stream: Stream, span: Span) -> None:
        """Keeps the rows of a span from being handed out."""
        bisect.insort(self._out[stream], span)

    def release(self, stream: Stream, span: Span) -> None:
        """Whatever is left in the span may be handed out again."""
        self._out[stream].remove(span)

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

    def count_try(self, lease: Lease) -> None:
        """The lease came back unsettled."""
        self._tries[lease.batch_ids[0]] = lease.tries + 1

    def tries(self, batch_id: int) -> int:
        """How often the batch led a lease that came back."""
        return self._tries.get(batch_id, 0)

    def forget_tries(self, lease: Lease) -> None:
        """The lease is settled for good."""
        self._tries.pop(lease.batch_ids[0], None)
