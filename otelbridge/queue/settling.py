"""What an outcome does to a lease's batches: gone and counted, given back, set aside, or cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

from otelbridge.queue.batch import Batch, Lease
from otelbridge.queue.change import Change
from otelbridge.queue.desk import Loan
from otelbridge.queue.finding import room_for_pieces
from otelbridge.queue.holding import Holding
from otelbridge.queue.letters import Letters
from otelbridge.queue.outcome import Accepted, Refused, TooLarge
from otelbridge.queue.rows import Span, piece_ids
from otelbridge.queue.waiting_room import measure
from otelbridge.telemetry.ledger import Account, Posting


def accept(holding: Holding, letters: Letters, lease: Lease, outcome: Accepted) -> None:
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


def give_back(holding: Holding, lease: Lease) -> None:
    """Makes the batches free again, where they were in the order."""
    loan = holding.desk.take_back(lease)
    holding.desk.release(lease.stream, loan.span)
    holding.desk.count_try(lease)


def refuse(holding: Holding, letters: Letters, lease: Lease, outcome: Refused | TooLarge) -> None:
    """Moves the batches to the dead letters."""
    loan = holding.desk.take_back(lease)
    holding.books.ledger.post(Posting(lease.stream, Account.REJECTED, outcome.code, lease.records))
    change = Change()
    letters.refuse(lease, outcome, change)
    _discharge(holding, loan, change)


def cut(holding: Holding, lease: Lease, pieces: Sequence[Batch]) -> None:
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


def _discharge(holding: Holding, loan: Loan, change: Change) -> None:
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
