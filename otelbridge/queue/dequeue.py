"""Makes leases of what is held, and does to their batches what an outcome asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from otelbridge.event import Stream
from otelbridge.queue.dead_letters import DeadLetters
from otelbridge.queue.memory import OpenLease, measure
from otelbridge.queue.model import Accepted, Batch, Change, Lease, Refused, Row, Span, TooLarge
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import PIECE_BITS, piece_ids, row_id, sequence_of, span_of
from otelbridge.telemetry.ledger import Account, Posting

FRESH_NANOS = 30_000_000_000  # with `fresh_first`, what arrived in this time goes before the backlog
FRESH_STEP_NANOS = 1_000_000_000  # how exactly we remember what arrived when
FIRST_ROWS = 8  # rows of a megabyte fill a lease soon
IDLE_ROUNDS = 3  # then the disk can't be read just now
MORE_ROWS = 512  # a lease of many small batches reads on


class Dequeue:
    """The way out of the queue. Not thread-safe."""

    def __init__(self, order: Literal["in_order", "fresh_first"], state: QueueState, dead_letters: DeadLetters) -> None:
        self._fresh_first = order == "fresh_first"
        self._state = state
        self._dead_letters = dead_letters
        self._arrivals: deque[tuple[int, int]] = deque()
        """Moments, and the first sequence that arrived from then on."""

    def note_arrival(self) -> None:
        """Remembers where in the order this moment is."""
        if self._fresh_first:
            now = self._state.clock.now()
            if not self._arrivals or now - self._arrivals[-1][0] >= FRESH_STEP_NANOS:
                self._arrivals.append((now, self._state.checkpoint.next_sequence))

    # --- leasing ---

    def lease(self, *, max_bytes: int, max_records: int, without: Collection[Stream] = ()) -> Lease | None:
        """The next lease; None when nothing is free but for the streams left out, or nothing can be read."""
        rounds = 0
        while rounds < IDLE_ROUNDS:  # a round without a lease has passed over damaged batches, or salvaged the file
            held = sum(self._state.counts.batches.values())
            chosen = self._choose(without)
            if chosen is None:
                if self._state.all_is_found(without):
                    return None
            else:
                stream, gap, rows = chosen
                lease = self._make(stream, gap, self._fill(gap, rows, max_bytes=max_bytes, max_records=max_records))
                if lease is not None:
                    return lease
            rounds = rounds + 1 if held == sum(self._state.counts.batches.values()) else 0
        return None

    def _choose(self, without: Collection[Stream]) -> tuple[Stream, Span, list[Row]] | None:
        """The stream whose first free batch is the oldest, and its first free batches."""
        if self._fresh_first:
            now = self._state.clock.now()
            while self._arrivals and now - self._arrivals[0][0] > FRESH_NANOS:
                self._arrivals.popleft()
            if self._arrivals and (found := self._oldest_free(self._arrivals[0][1], without)):
                return found
        return self._oldest_free(0, without)

    def _oldest_free(self, sequence: int, without: Collection[Stream]) -> tuple[Stream, Span, list[Row]] | None:
        free = []
        for stream in Stream:
            if stream not in without and self._state.counts.batches[stream]:
                first = row_id(stream, sequence) if sequence else span_of(stream).first
                if found := self._state.first_free(stream, first, FIRST_ROWS):
                    free.append((stream, *found))
        return min(free, key=lambda found: sequence_of(found[2][0].id), default=None)

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
            rows = self._state.rows(Span(rows[-1].id + 1, gap.last), asked)
        return chosen

    def _make(self, stream: Stream, gap: Span, rows: list[Row]) -> Lease | None:
        state = self._state
        batches = state.batches(rows)
        rows = [row for row in rows if row.id in batches]
        if not rows:
            return None
        lease = Lease(
            stream=stream,
            batch_ids=tuple(row.id for row in rows),
            parts=tuple(batches[row.id].plain or batches[row.id].request for row in rows),
            request_bytes=sum(row.request_bytes for row in rows),
            records=sum(row.records for row in rows),
            oldest_received_unix_nano=state.clock.unix_nano_of(min(row.oldest_received_unix_nano for row in rows)),
            tries=state.leases.tries(rows[0].id),
        )
        on_disk = state.store is not None
        # From its own first row, not from the start of the gap: the pieces of an earlier lease may come to lie between.
        span = Span(rows[0].id, rows[-1].id)
        state.leases.add(OpenLease(lease=lease, span=span, rows=tuple(rows), since=gap.first, on_disk=on_disk))
        return lease

    # --- ending leases ---

    def accept(self, lease: Lease, outcome: Accepted) -> None:
        """Deletes the batches, and keeps them in the flight recorder where the operator wants it."""
        open_lease = self._state.leases.end(lease)
        rejected = min(outcome.rejected, lease.records)
        ledger = self._state.checkpoint.ledger
        ledger.post(Posting(lease.stream, Account.DELIVERED, "", lease.records - rejected))
        if rejected:
            ledger.post(Posting(lease.stream, Account.REJECTED, "partial_success", rejected))
        change = Change()
        if self._dead_letters.retains:
            self._dead_letters.retain(open_lease, change)
        self._discharge(open_lease, change)

    def give_back(self, lease: Lease) -> None:
        """Makes the batches free again, where they were in the order."""
        leases = self._state.leases
        leases.release(lease.stream, leases.end(lease).span)
        leases.count_try(lease)

    def refuse(self, lease: Lease, outcome: Refused | TooLarge) -> None:
        """Moves the batches to the dead letters."""
        open_lease = self._state.leases.end(lease)
        self._state.checkpoint.ledger.post(Posting(lease.stream, Account.REJECTED, outcome.code, lease.records))
        change = Change()
        self._dead_letters.add(open_lease, outcome, change)
        self._discharge(open_lease, change)

    def replace(self, lease: Lease, pieces: Sequence[Batch], *, keep: bool) -> list[Lease]:
        """Puts smaller batches in the place of a lease's, with the same records; leases each of them where kept.

        Raises:
            ValueError: the pieces hold other than the lease's records, or records of another stream.
        """
        if sum(piece.records for piece in pieces) != lease.records or any(p.stream != lease.stream for p in pieces):
            raise ValueError(f"the pieces must hold the lease's {lease.records} records of {lease.stream}")
        state = self._state
        numbers = piece_ids(self._free_ids_after(state.leases.find(lease)), len(pieces))
        open_lease = state.leases.end(lease)
        change = Change()
        for batch_id, piece in zip(numbers, pieces, strict=True):
            change.inserts[batch_id] = replace(piece, oldest_received_unix_nano=open_lease.oldest)
            state.counts.add(piece.stream, measure(batch_id, piece))
        self._discharge(open_lease, change)
        return [self._kept(open_lease, batch_id, piece) for batch_id, piece in change.inserts.items()] if keep else []

    def _kept(self, whole: OpenLease, batch_id: int, piece: Batch) -> Lease:
        row = measure(batch_id, piece)
        lease = Lease(
            stream=piece.stream,
            batch_ids=(batch_id,),
            parts=(piece.request,),
            request_bytes=row.request_bytes,
            records=row.records,
            oldest_received_unix_nano=whole.lease.oldest_received_unix_nano,
        )
        # What lies before a piece is not free: it is what lay before the whole, or other pieces.
        span = Span(batch_id, batch_id)
        self._state.leases.add(OpenLease(lease=lease, span=span, rows=(row,), since=batch_id, on_disk=whole.on_disk))
        return lease

    def _free_ids_after(self, open_lease: OpenLease) -> Span:
        """The unused ids between a lease's last row and the next one."""
        last = open_lease.rows[-1].id
        free = Span(last + 1, last | (1 << PIECE_BITS) - 1)
        following = self._state.rows(free, 1)
        return Span(free.first, following[0].id - 1) if following else free

    def _discharge(self, open_lease: OpenLease, change: Change) -> None:
        """Ends a lease for good: its rows go with the change; not leased again even if that has to wait."""
        state, stream = self._state, open_lease.lease.stream
        state.counts.remove(stream, open_lease.rows)
        state.leases.forget_tries(open_lease.lease)
        if not all(state.memory.alone(row.id) for row in open_lease.rows):
            change.deletes += open_lease.spans()
        for row in open_lease.rows if state.memory else ():
            state.memory.remove(Span(row.id, row.id))
        state.leases.release(stream, open_lease.span)
        if open_lease.on_disk and not change.inserts:  # pieces may lie anywhere beyond the lease's last row
            state.settled_up_to(stream, open_lease.since, open_lease.rows[-1].id)
        state.write(change)
