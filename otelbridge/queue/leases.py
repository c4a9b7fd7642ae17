"""Who has what: leases go out and come back, and what is out is not handed out again.

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
class Loan:
    """A lease that is out, and the rows behind it."""

    lease: Lease
    span: Span
    """Nobody else gets a row in here while it is out."""
    rows: tuple[Row, ...]
    since: int
    """From this id up to the first row there was nothing that was free."""
    on_disk: bool
    """The disk was read when it was made: then every row in the span belongs to it."""

    def spans(self) -> list[Span]:
        """What to delete when the lease is settled."""
        return [self.span] if self.on_disk else [Span(row.id, row.id) for row in self.rows]


class Leases:
    """The loans. Not thread-safe."""

    def __init__(self) -> None:
        self._out: dict[Stream, list[Span]] = {stream: [] for stream in Stream}
        self._loans: dict[int, Loan] = {}
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

    def lend(self, loan: Loan) -> None:
        """Records a lease that goes out."""
        self._loans[loan.lease.batch_ids[0]] = loan
        self.block(loan.lease.stream, loan.span)

    def loan_of(self, lease: Lease) -> Loan:
        """The loan behind a lease that is out.

        Raises:
            ValueError: the lease is not out: settled already, or not ours.
        """
        loan = self._loans.get(lease.batch_ids[0])
        if loan is None or loan.lease is not lease:
            raise ValueError(f"lease on batch {lease.batch_ids[0]} is not out: each is settled exactly once")
        return loan

    def take_back(self, lease: Lease) -> Loan:
        """Ends a loan; its rows stay blocked until `release`. Raises ValueError as `loan_of` does."""
        loan = self.loan_of(lease)
        del self._loans[lease.batch_ids[0]]
        return loan

    def amend(self, loan: Loan) -> None:
        """The rows behind a lease have changed."""
        self._loans[loan.lease.batch_ids[0]] = loan

    def block(self, stream: Stream, span: Span) -> None:
        """Keeps the rows of a span from being handed out."""
        bisect.insort(self._out[stream], span)

    def release(self, stream: Stream, span: Span) -> None:
        """Whatever is left in the span may be handed out again."""
        self._out[stream].remove(span)

    def loans(self) -> list[Loan]:
        """All that is out."""
        return list(self._loans.values())

    def count_try(self, lease: Lease) -> None:
        """The lease came back unsettled."""
        self._tries[lease.batch_ids[0]] = lease.tries + 1

    def tries(self, batch_id: int) -> int:
        """How often the batch led a lease that came back."""
        return self._tries.get(batch_id, 0)

    def forget_tries(self, lease: Lease) -> None:
        """The lease is settled for good."""
        self._tries.pop(lease.batch_ids[0], None)
