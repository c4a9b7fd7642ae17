"""What an outcome does to a lease's batches: gone and counted, given back, set aside, or cut into pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

from otelbridge.event import Stream
from otelbridge.queue.dead_letters import DeadLetters
from otelbridge.queue.leases import Loan
from otelbridge.queue.memory import measure
from otelbridge.queue.model import (
    Accepted,
    Batch,
    Change,
    Lease,
    Refused,
    Row,
    Span,
    TooLarge,
    piece_ids,
    row_id,
    sequence_of,
    span_of,
)
from otelbridge.queue.state import QueueState, all_is_found, batches_of, room_for_pieces, rows_of
from otelbridge.telemetry.ledger import Account, Posting

FRESH_NANOS = 30_000_000_000  # with `fresh_first`, what arrived in this time goes before the backlog
FRESH_STEP_NANOS = 1_000_000_000  # how exactly we remember what arrived when
FIRST_ROWS = 8  # rows of a megabyte fill a lease soon
IDLE_ROUNDS = 3  # then the disk can't be read just now
MORE_ROWS = 512  # a lease of many small batches reads on


class Dequeue:
    """Makes leases. Not thread-safe."""

    def __init__(self, order: Literal["in_order", "fresh_first"], holding: QueueState) -> None:
        self._fresh_first = order == "fresh_first"
        self._holding = holding
        self._arrivals: deque[tuple[int, int]] = deque()
        """Moments, and the first sequence that arrived from then on."""

    def note_arrival(self, now_unix_nano: int, sequence: int) -> None:
        """Remembers where in the order a moment is."""
        if self._fresh_first and (not self._arrivals or now_unix_nano - self._arrivals[-1][0] >= FRESH_STEP_NANOS):
            self._arrivals.append((now_unix_nano, sequence))

    def lend(self, now_unix_nano: int, *, max_bytes: int, max_records: int) -> Lease | None:
        """The next lease; None when nothing is free, or nothing can be read."""
        rounds = 0
        while rounds < IDLE_ROUNDS:  # a round without a lease has passed over damaged batches, or salvaged the file
            held = sum(self._holding.counts.batches.values())
            chosen = self._choose(now_unix_nano)
            if chosen is None:
                if all_is_found(self._holding):
                    return None
            else:
                stream, gap, rows = chosen
                rows = self._fill(gap, rows, max_bytes=max_bytes, max_records=max_records)
                lease = self._make(stream, gap, rows)
                if lease is not None:
                    return lease
            rounds = rounds + 1 if held == sum(self._holding.counts.batches.values()) else 0
        return None

    def _choose(self, now_unix_nano: int) -> tuple[Stream, Span, list[Row]] | None:
        """The stream whose first free batch is the oldest, and its first free batches."""
        if self._fresh_first:
            while self._arrivals and now_unix_nano - self._arrivals[0][0] > FRESH_NANOS:
                self._arrivals.popleft()
            if self._arrivals:
                fresh = self._oldest_free(self._arrivals[0][1])
                if fresh:
                    return fresh
        return self._oldest_free(0)

    def _oldest_free(self, sequence: int) -> tuple[Stream, Span, list[Row]] | None:
        free = [found for stream in Stream for found in self._first_free(stream, sequence)]
        return min(free, key=lambda found: sequence_of(found[2][0].id), default=None)

    def _first_free(self, stream: Stream, sequence: int) -> Iterator[tuple[Stream, Span, list[Row]]]:
        holding = self._holding
        if not holding.counts.batches[stream]:
            return
        first = row_id(stream, sequence) if sequence else span_of(stream).first
        for gap in holding.desk.gaps(stream, first):
            rows = rows_of(holding, gap, FIRST_ROWS)
            if rows:
                yield stream, gap, rows
                return

    def _fill(self, gap: Span, rows: list[Row], *, max_bytes: int, max_records: int) -> list[Row]:
        """As many of the rows as fit, at least one; reads on where many small ones fit."""
        chosen: list[Row] = []
        size = records = 0
        asked = FIRST_ROWS
        while rows:
            for row in rows:
                size += row.request_bytes
                records += row.records
                if chosen and (size > max_bytes or records > max_records):
                    return chosen
                chosen.append(row)
            if len(rows) < asked:
                break
            asked = MORE_ROWS
            rows = rows_of(self._holding, Span(rows[-1].id + 1, gap.last), asked)
        return chosen

    def _make(self, stream: Stream, gap: Span, rows: list[Row]) -> Lease | None:
        holding = self._holding
        batches = batches_of(holding, rows)
        rows = [row for row in rows if row.id in batches]
        if not rows:
            return None
        lease = Lease(
            stream=stream,
            batch_ids=tuple(row.id for row in rows),
            parts=tuple(batches[row.id].request for row in rows),
            request_bytes=sum(row.request_bytes for row in rows),
            records=sum(row.records for row in rows),
            oldest_received_unix_nano=min(row.oldest_received_unix_nano for row in rows),
            tries=holding.desk.tries(rows[0].id),
        )
        on_disk = holding.store is not None
        # From its own first row, not from the start of the gap: the pieces of an earlier lease may come to lie between.
        span = Span(rows[0].id, rows[-1].id)
        holding.desk.lend(Loan(lease=lease, span=span, rows=tuple(rows), since=gap.first, on_disk=on_disk))
        return lease


def accept(holding: QueueState, letters: DeadLetters, lease: Lease, outcome: Accepted) -> None:
    """Deletes the batches, and keeps them in the flight recorder where the operator wants it."""
    loan = holding.desk.take_back(lease)
    rejected = min(outcome.rejected, lease.records)
    ledger = holding.books.ledger
    ledger.post(Posting(lease.stream, Account.DELIVERED, "", lease.records - rejected))
    if rejected:
        ledger.post(Posting(lease.stream, Account.REJECTED, "partial_success", rejected))
    change = Change()
    letters.retain(loan, change)
    _discharge(holding, loan, change)


def give_back(holding: QueueState, lease: Lease) -> None:
    """Makes the batches free again, where they were in the order."""
    loan = holding.desk.take_back(lease)
    holding.desk.release(lease.stream, loan.span)
    holding.desk.count_try(lease)


def refuse(holding: QueueState, letters: DeadLetters, lease: Lease, outcome: Refused | TooLarge) -> None:
    """Moves the batches to the dead letters."""
    loan = holding.desk.take_back(lease)
    holding.books.ledger.post(Posting(lease.stream, Account.REJECTED, outcome.code, lease.records))
    change = Change()
    letters.refuse(lease, outcome, change)
    _discharge(holding, loan, change)


def cut(holding: QueueState, lease: Lease, pieces: Sequence[Batch]) -> None:
    """Puts smaller batches in the place of a lease's, with the same records in the same order.

    Raises:
        ValueError: the pieces hold other than the lease's records, or records of another stream.
    """
    if sum(piece.records for piece in pieces) != lease.records or any(p.stream != lease.stream for p in pieces):
        raise ValueError(f"the pieces must hold the lease's {lease.records} records of {lease.stream}")
    numbers = piece_ids(room_for_pieces(holding, holding.desk.loan_of(lease)), len(pieces))
    loan = holding.desk.take_back(lease)
    change = Change(inserts=dict(zip(numbers, pieces, strict=True)))
    for batch_id, piece in change.inserts.items():
        holding.counts.add(piece.stream, measure(batch_id, piece))
    _discharge(holding, loan, change)


def _discharge(holding: QueueState, loan: Loan, change: Change) -> None:
    """Ends a loan for good: its rows go with the change; not handed out again even if that has to wait."""
    stream = loan.lease.stream
    holding.counts.remove(stream, loan.rows)
    holding.desk.forget_tries(loan.lease)
    if not all(holding.room.alone(row.id) for row in loan.rows):
        change.deletes += loan.spans()
    for row in loan.rows if holding.room else ():
        holding.room.remove(Span(row.id, row.id))
    holding.desk.release(stream, loan.span)
    if loan.on_disk and not change.inserts:  # pieces may lie anywhere beyond the loan's last row
        holding.settled_up_to(stream, loan.since, loan.rows[-1].id)
    holding.write(change)
