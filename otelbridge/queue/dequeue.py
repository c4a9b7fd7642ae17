"""The way out of the queue: when free batches are due, which worker is woken, leases, and what outcomes do to them.

One waiting worker is woken for a batch: the last to have waited, whose data is in the processor's caches. If it leaves
something, it wakes the next. Waking all cost a sixth of the bridge's CPU at 100 events/s (docs/decisions/pacing.md).
For what is due later, one of them sets an alarm. What lingers is on disk already; what an earlier process left, or
came back from a failed request, is due at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from otelbridge.event import STREAMS, Signal, Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.dead_letters import DeadLetters
from otelbridge.queue.memory import OpenLease, measure
from otelbridge.queue.model import Accepted, Batch, Change, Lease, LeaseError, Refused, Row, Span, TooLarge
from otelbridge.queue.packing import request_bytes
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import PIECE_BITS, piece_ids, row_id, sequence_of, span_of

AT_ONCE = -math.inf
STREAMS_OF = {
    signal: frozenset(stream for stream, facts in STREAMS.items() if facts.signal is signal) for signal in Signal
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LingerLimits:
    """How long a request waits for more, and how much it waits for."""

    seconds: Mapping[Stream, float] = field(default_factory=dict)
    """Streams that are not named do not wait."""
    enough_bytes: int = 0
    """Of an unpacked request."""
    enough_records: int = 0


@dataclass(slots=True)
class _Arrivals:
    """Batches of one stream that came since a request last took all that were free."""

    first_at: float = AT_ONCE
    bytes: int = 0
    records: int = 0


class Linger:
    """When each stream's free batches are due. Times are monotonic seconds, given by the caller. Not thread-safe."""

    def __init__(self, limits: LingerLimits) -> None:
        self._limits = limits
        self._arrivals = {stream: _Arrivals() for stream in Stream}

    def put(self, batch: Batch, now: float) -> None:
        """A batch came."""
        arrivals = self._arrivals[batch.stream]
        if not arrivals.records:
            arrivals.first_at = now
        arrivals.bytes += request_bytes(batch.request)
        arrivals.records += batch.records

    def leased(self, stream: Stream, *, size: int, records: int, all_of_it: bool) -> None:
        """A request took some of the free batches, or all of them."""
        arrivals = self._arrivals[stream]
        if all_of_it:
            self._arrivals[stream] = _Arrivals()
        else:
            arrivals.bytes = max(0, arrivals.bytes - size)
            arrivals.records = max(1, arrivals.records - records)

    def hurry(self, stream: Stream) -> None:
        """Makes a stream's free batches due now."""
        self._arrivals[stream].first_at = AT_ONCE
        self._arrivals[stream].records = max(1, self._arrivals[stream].records)

    def change(self, limits: LingerLimits) -> None:
        """Replaces the limits."""
        self._limits = limits

    def due_at(self, stream: Stream) -> float:
        """When a stream's free batches are due."""
        arrivals, limits = self._arrivals[stream], self._limits
        if arrivals.bytes >= limits.enough_bytes or arrivals.records >= limits.enough_records:
            return AT_ONCE
        return arrivals.first_at + limits.seconds.get(stream, 0.0)


class WorkSignal:
    """Wakes one worker when there is work. Whoever calls anything but `wait` and `wake` holds the queue's lock.

    Args:
        lock: the queue's.
        due_at: when, on the monotonic clock, something that is not leased is due; infinity when, by the counts, all is
            leased.
    """

    def __init__(self, lock: threading.Lock, due_at: Callable[[], float]) -> None:
        self._lock = lock
        self._due_at = due_at
        self.waiters: list[threading.Lock] = []
        """One for each waiting worker; released to wake it."""
        self._unreadable = False
        """What is free by the counts could not be read when it was last asked for: no work until something changes."""
        self._woken = False
        self.alarm = math.inf
        """The moment at which one of those that wait wakes by itself."""

    def has_work(self) -> bool:
        """Whether a worker would probably get something."""
        return not self._unreadable and self._due_at() <= time.monotonic()

    def notify(self) -> None:
        """Batches may have become free: wakes a worker for them."""
        self._unreadable = False
        self._wake_in_time()

    def taken(self, *, anything: bool) -> None:
        """A worker took a lease, or found none; wakes another where something is left."""
        self._unreadable = not anything
        if anything:
            self._wake_in_time()

    def _wake_in_time(self) -> None:
        """Wakes a worker if something is due before the next alarm: it takes it, or sets its alarm."""
        if self._due_at() < self.alarm:
            self._wake_one()

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until there is work, `wake` is called, or time is up; True when there is work."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            while not self.has_work():
                left = deadline - time.monotonic()
                if self._woken or left <= 0:
                    break
                self._block_until_due(left)
            self._woken = False
            return self.has_work()

    def wake(self) -> None:
        """Ends every `wait` that is under way."""
        with self._lock:
            self._woken = True
            while self.waiters:
                self._wake_one()

    def _wake_one(self) -> None:
        if self.waiters:
            self.waiters.pop().release()

    def _block_until_due(self, seconds: float) -> None:
        due_at = math.inf if self._unreadable else self._due_at()
        if due_at >= self.alarm:  # somebody else will be awake by then
            self._block(seconds)
            return
        self.alarm = due_at
        try:
            self._block(min(seconds, max(0.0, due_at - time.monotonic())))
        finally:
            if self.alarm == due_at:
                self.alarm = math.inf

    def _block(self, seconds: float) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        self.waiters.append(waiter)
        self._lock.release()
        try:
            waiter.acquire(timeout=seconds)
        finally:
            self._lock.acquire()
            if waiter in self.waiters:  # time was up
                self.waiters.remove(waiter)


FRESH_NANOS = 30_000_000_000  # with `fresh_first`, what arrived in this time goes before the backlog
FRESH_STEP_NANOS = 1_000_000_000  # how exactly we remember what arrived when
FIRST_ROWS = 8  # rows of a megabyte fill a lease soon
IDLE_ROUNDS = 3  # then the disk can't be read just now
MORE_ROWS = 512  # a lease of many small batches reads on


class Dequeue:
    """Chooses, leases and settles batches. Not thread-safe."""

    def __init__(
        self,
        order: Literal["in_order", "fresh_first"],
        state: QueueState,
        dead_letters: DeadLetters,
        linger: LingerLimits,
    ) -> None:
        self._fresh_first = order == "fresh_first"
        self._state = state
        self._dead_letters = dead_letters
        self.linger = Linger(linger)
        self.left_out: set[Stream] = set()
        """Streams from which nothing is leased for now."""
        self._arrivals: deque[tuple[int, int]] = deque()
        """Moments, and the first sequence that arrived from then on."""

    def note_arrivals(self, batches: Sequence[Batch]) -> None:
        """Records when batches arrived, for their linger and for `fresh_first`."""
        for batch in batches:
            self.linger.put(batch, time.monotonic())
        if self._fresh_first:
            now = self._state.clock.now()
            if not self._arrivals or now - self._arrivals[-1][0] >= FRESH_STEP_NANOS:
                self._arrivals.append((now, self._state.checkpoint.next_sequence))

    def due_at(self, signal: Signal) -> float:
        """When something of a signal that is free is due (monotonic); infinity when, by the counts, all is leased."""
        due, streams = math.inf, STREAMS_OF[signal]
        for stream in self._state.free_streams():
            if stream in streams and stream not in self.left_out:
                due = min(due, self.linger.due_at(stream))
        return due

    # --- leasing ---

    def lease(self, *, max_bytes: int, max_records: int, without: Collection[Stream] = ()) -> Lease | None:
        """The next lease; None when nothing is due but for the streams left out, or nothing can be read."""
        now = time.monotonic()
        left_out = {*without, *self.left_out, *(stream for stream in Stream if self.linger.due_at(stream) > now)}
        lease = self._next(max_bytes, max_records, left_out)
        if lease is not None:
            rest = lease.stream in self._state.free_streams()
            self.linger.leased(lease.stream, size=lease.request_bytes, records=lease.records, all_of_it=not rest)
        return lease

    def _next(self, max_bytes: int, max_records: int, without: Collection[Stream]) -> Lease | None:
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
        on_disk = state.file.store is not None
        # From its own first row, not from the start of the gap: the pieces of an earlier lease may come to lie between.
        span = Span(rows[0].id, rows[-1].id)
        state.leases.add(OpenLease(lease=lease, span=span, rows=tuple(rows), since=gap.first, on_disk=on_disk))
        return lease

    # --- ending leases ---

    def accept(self, lease: Lease, outcome: Accepted) -> None:
        """Deletes the batches, and keeps them in the flight recorder where the operator wants it."""
        open_lease = self._state.leases.end(lease)
        rejected = min(outcome.rejected, lease.records)
        postings = [Posting(lease.stream, Account.DELIVERED, "", lease.records - rejected)]
        if rejected:
            postings.append(Posting(lease.stream, Account.REJECTED, "partial_success", rejected))
        change = Change()
        if self._dead_letters.retains:
            self._dead_letters.retain(open_lease, change)
        self._discharge(open_lease, change, postings)

    def give_back(self, lease: Lease) -> None:
        """Frees the batches again, in their old place."""
        leases = self._state.leases
        leases.release(lease.stream, leases.end(lease).span)
        leases.count_try(lease)
        self.linger.hurry(lease.stream)

    def refuse(self, lease: Lease, outcome: Refused | TooLarge) -> None:
        """Moves the batches to the dead letters."""
        open_lease = self._state.leases.end(lease)
        change = Change()
        self._dead_letters.add(open_lease, outcome, change)
        self._discharge(open_lease, change, [Posting(lease.stream, Account.REJECTED, outcome.code, lease.records)])

    def replace(self, lease: Lease, pieces: Sequence[Batch], *, keep: bool) -> list[Lease]:
        """Puts smaller batches in the place of a lease's, with the same records; leases each of them where kept.

        Raises:
            LeaseError: the pieces hold other than the lease's records, or records of another stream.
        """
        if sum(piece.records for piece in pieces) != lease.records or any(p.stream != lease.stream for p in pieces):
            raise LeaseError(f"the pieces must hold the lease's {lease.records} records of {lease.stream}")
        state = self._state
        numbers = piece_ids(self._free_ids_after(state.leases.find(lease)), len(pieces))
        open_lease = state.leases.end(lease)
        change = Change()
        for batch_id, piece in zip(numbers, pieces, strict=True):
            change.inserts[batch_id] = replace(piece, oldest_received_unix_nano=open_lease.oldest)
            state.counts.add(piece.stream, measure(batch_id, piece))
        self._discharge(open_lease, change)
        self.linger.hurry(lease.stream)
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

    def _discharge(self, open_lease: OpenLease, change: Change, postings: Sequence[Posting] = ()) -> None:
        """Ends a lease for good: deletes its rows with the change; until that is written, they are not leased."""
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
        state.checkpoint.ledger.post_all(postings)  # last: a fault before leaves the records held, not twice delivered
        state.write(change)
