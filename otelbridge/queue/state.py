"""What can be read of what is held: spans of ids go in, rows and batches come out of the file and out of memory.

A file that can't be read just now is left out; a damaged one is salvaged on the way. Nothing in here raises for it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Checkpoint, Mirror, post_lost, read_page
from otelbridge.queue.disk import DiskError, Reserve, disk_error_of, sentence, try_writing
from otelbridge.queue.leases import Leases, Loan
from otelbridge.queue.memory import MemoryStore, ReadCache
from otelbridge.queue.model import PIECE_BITS, Batch, Change, DeadLetter, Row, Span, StreamCounts, span_of, stream_of
from otelbridge.queue.recovery import restore_loans, salvage
from otelbridge.queue.store import Store, bound_log, try_to_move
from otelbridge.telemetry.events import QueueDegraded, QueueRecovered, QueueSalvaged, Tell

FLUSH_BYTES = 1024 * 1024  # one transaction of the recovery: short enough not to hold up a put
SALVAGES_IN_A_ROW = 2  # a disk that damages every new file is trouble, not damage: wait in memory

MakeStore = Callable[[Path], Store]


class QueueState:
    """The batches, the books and the counts."""

    def __init__(self, path: Path, make_store: MakeStore, tell: Tell, clock: Callable[[], int]) -> None:
        self.path = path
        self.books = Checkpoint()
        self.counts = StreamCounts()
        self.desk = Leases()
        self.room = MemoryStore()
        self.fresh = ReadCache()
        self.store: Store | None = None
        self.notes: dict[str, str] = {}
        """For the next life, kept with the file."""
        self.weather: DiskError | None = None
        """Why the disk takes no writes; None when it does."""
        self._make_store = make_store
        self._tell = tell
        self._clock = clock
        self.mirror = Mirror(path.with_suffix(".books"))
        self.reserve = Reserve(path.with_suffix(".reserve"))
        self.pending = Change()
        self._degraded_since = 0.0
        self.recount_due = False

    def open(self) -> None:
        """Opens the file of an earlier life, or makes one; a damaged one is salvaged.

        Raises:
            sqlite3.Error: the file can't be opened or made, and it is not damage.
        """
        self.books = self.mirror.read() or Checkpoint()
        self._owe()
        try:
            self._load(self._open_store())
        except sqlite3.Error as error:
            if disk_error_of(error) is DiskError.DAMAGE:
                self._salvage()
            elif not self.reserve.release():  # a disk too full for SQLite to open a file on: now it is less so
                raise
            self._load(self._open_store())
        self.flush()

    def _load(self, store: Store) -> None:
        """Takes over the books: the file's or the mirror's, whichever were written last."""
        mirrored = self.mirror.read()
        stored = read_page(store.page())
        self.books = max((b for b in (mirrored, stored) if b), key=lambda b: b.revision, default=Checkpoint())
        self.books.next_sequence = max(self.books.next_sequence, store.last_sequence() + 1)
        self.notes = store.notes()
        self._owe()
        if stored is None or self.books.revision > stored.revision:
            # The mirror is ahead of the file: batches settled since then came back to life with the old file.
            for stream, floor in self.books.floor.items():
                settled = Span(span_of(stream).first, floor - 1)
                self.pending.deletes.append(settled)
                self.desk.block(stream, settled)

    def _owe(self) -> None:
        """What should be there, by the books, until it is counted."""
        self.recount_due = True
        for stream, owed in self.books.ledger.residue({}).items():
            self.counts.put(stream, 0, owed, 0)

    def _open_store(self) -> Store:
        """The file, opened; salvaged first where it must be."""
        for _ in range(SALVAGES_IN_A_ROW):
            try:
                self.store = self._make_store(self.path)
                self.store.page()
                self.store.sums()
            except sqlite3.Error as error:
                if disk_error_of(error) is not DiskError.DAMAGE:
                    raise
                self._salvage()
            else:
                break
        else:
            self.store = self._make_store(self.path)
        if self.recount_due:
            restore_loans(self.desk, self.room, self.store, self.pending)
        return self.store

    def _salvage(self) -> None:
        """Makes a new file of what can be read of the broken one."""
        self.shut()
        salvaged = salvage(self.path, self._make_store, self.books.floor)
        self.recount_due = True
        self._tell(
            QueueSalvaged(
                path=str(self.path),
                set_aside=str(salvaged.set_aside),
                kept_records=salvaged.records,
                lost_records=None,
            )
        )

    def has_free(self) -> bool:
        """Whether, by the counts, something is held that is not out on loan."""
        return sum(self.counts.batches.values()) > sum(len(loan.rows) for loan in self.desk.loans())

    # --- writing ---

    def write(self, change: Change) -> bool:
        """Writes a change with the books; False when it has to wait in memory for the disk."""
        self.books.revision += 1
        self.notes |= change.notes
        if self.weather is not None:
            self._wait(change)
            return False
        try:
            self._apply(change)
        except sqlite3.Error as error:
            self._wait(change)
            self.room.doubts.update(change.inserts)
            return self.weathered(error)
        return True

    def _apply(self, change: Change) -> None:
        assert self.store is not None
        self.books.written_unix_nano = self._clock()
        page = self.books.page()
        self.store.apply(change, page)
        self.mirror.write(page)
        self.fresh.follow(change)

    def _wait(self, change: Change) -> None:
        for batch_id, batch in change.inserts.items():
            self.room.add(batch_id, batch)
        for span in change.deletes:  # not to be handed out again while their deletion waits
            self.desk.block(stream_of(span.first), span)
            self.fresh.forget(span)
        self.pending.add(replace(change, inserts={}))

    def settled_up_to(self, stream: Stream, since: int, last: int) -> None:
        """Nothing is left between two ids: raises the floor if nothing is left below them either."""
        if since <= self.books.floor.get(stream, span_of(stream).first):
            self.books.floor[stream] = last + 1

    def weathered(self, error: sqlite3.Error) -> bool:
        """Deals with an error of the disk; True when all is on disk now, in a new file."""
        if disk_error_of(error) is not DiskError.DAMAGE:
            self.degrade(error)
            return False
        try:
            self._salvage()
            self._open_store()
            self._flush()
        except (sqlite3.Error, OSError) as failure:
            self.degrade(failure)
            return False
        return True

    def degrade(self, error: Exception) -> None:
        """From now on changes wait in memory, until `recover` succeeds."""
        weather = disk_error_of(error) if isinstance(error, sqlite3.Error) else DiskError.TROUBLE
        if self.weather is None:
            self._degraded_since = time.monotonic()
            self._tell(QueueDegraded(path=str(self.path), error=sentence(error)))
        self.weather = weather

    # --- recovering ---

    def recover(self) -> bool:
        """Tries the disk again, a piece at a time; True when more can be done at once."""
        try:
            store = self.store
            if store is None or self.weather is not DiskError.FULL:
                try_writing(self.path.with_suffix(".probe"))
                self.shut()
                store = self._open_store()
            else:
                self.reserve.release()
                try_to_move(store)
            bound_log(store, self.path)
            done = self._flush_some()
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and disk_error_of(error) is DiskError.DAMAGE:
                return self.weathered(error)
            self.degrade(error)
            return False
        if done:
            self.weather = None
            self._tell(QueueRecovered(path=str(self.path), degraded_seconds=time.monotonic() - self._degraded_since))
        return not done

    def flush(self) -> None:
        """Writes all that waits."""
        try:
            self._flush()
        except sqlite3.Error as error:
            self.weathered(error)

    def _flush(self) -> None:
        while not self._flush_some():
            pass

    def _flush_some(self) -> bool:
        """Writes what waits, deletions first because they make room; True when nothing is left."""
        if self.pending or not self.room or self.recount_due or self.room.doubts:
            done = self.pending
            doubts = [Span(batch_id, batch_id) for batch_id in self.room.doubts]
            self._apply(replace(done, deletes=done.deletes + doubts))
            self.pending = Change()
            self.room.doubts.clear()
            for span in done.deletes:
                self.desk.release(stream_of(span.first), span)
            if self.recount_due:
                self._recount()
        if self.room:
            some = self.room.some(FLUSH_BYTES)
            self.room.doubts.update(some)
            self._apply(Change(inserts=some))
            for batch_id in some:
                self.room.remove(Span(batch_id, batch_id))
        return not self.room

    def _recount(self) -> None:
        """Counts what is really there; what is missing is lost, and said."""
        assert self.store is not None
        owed = dict(self.counts.records)
        found = self.store.sums()
        for stream in Stream:
            self.counts.put(stream, *found[stream])
            for row in self.room.measures(span_of(stream)):
                self.counts.add(stream, row)
            lost = owed[stream] - self.counts.records[stream]
            post_lost(self.books.ledger, stream, lost, where=self.path, now_unix_nano=self._clock(), tell=self._tell)
        self.recount_due = False
        self.books.revision += 1
        self._apply(Change())

    def shut(self) -> None:
        """Closes the file; what is in memory stays."""
        if self.store is not None:
            self.store.close()
            self.store = None
            self.fresh.clear()

    def close(self) -> None:
        """Closes everything."""
        self.shut()
        self.mirror.close()


def rows_of(holding: QueueState, span: Span, limit: int) -> list[Row]:
    """The first rows of a span, on disk and in memory."""
    found: list[Row] = []
    if holding.weather is None and not len(holding.room):
        fresh = holding.fresh.rows(span, limit, held_batches=holding.counts.batches[stream_of(span.first)])
        if fresh is not None:
            return fresh
    if holding.store is not None:
        try:
            found = holding.store.measures(span, limit)
        except sqlite3.Error as error:
            if holding.weathered(error):
                return rows_of(holding, span, limit)
            holding.shut()
    if len(holding.room):
        on_disk = [row for row in found if row.id not in holding.room]
        found = sorted([*on_disk, *holding.room.measures(span, limit)])[:limit]
    return found


def batches_of(holding: QueueState, rows: list[Row]) -> dict[int, Batch]:
    """The batches behind neighbouring rows; a damaged one is missing, and counted as lost."""
    found = {row.id: batch for row in rows if (batch := holding.room.get(row.id) or holding.fresh.get(row.id))}
    if len(found) == len(rows) or holding.store is None:
        return found
    damaged = []
    try:
        for batch_id, batch in holding.store.batches(Span(rows[0].id, rows[-1].id)):
            if batch is None:
                damaged.append(batch_id)
            else:
                found[batch_id] = batch
        if len(found) + len(damaged) < len(rows):
            raise sqlite3.DataError("batches that a tree lists are not in it")  # damage like any other
    except sqlite3.Error as error:
        if not holding.weathered(error):
            holding.shut()
        return {}
    if damaged:
        _strike(holding, damaged)
    return found


def _strike(holding: QueueState, damaged: list[int]) -> None:
    """Gives up batches that are not what was written, and counts anew: what they held is known by what is left."""
    for batch_id in damaged:
        span = Span(batch_id, batch_id)
        holding.desk.block(stream_of(batch_id), span)
        holding.pending.deletes.append(span)
    holding.recount_due = True
    holding.flush()


def all_is_found(holding: QueueState) -> bool:
    """Asked when nothing free can be found: True if the counts agree; else the file is damaged, and is salvaged."""
    if holding.weather is None and holding.has_free():
        held = sum(holding.counts.batches.values())
        holding.weathered(sqlite3.DataError(f"{held} batches are held, and cannot be found"))
        return False
    return True


def room_for_pieces(holding: QueueState, loan: Loan) -> Span:
    """The unused ids between a loan's last row and the next one."""
    last = loan.rows[-1].id
    room = Span(last + 1, last | (1 << PIECE_BITS) - 1)
    following = rows_of(holding, room, 1)
    return Span(room.first, following[0].id - 1) if following else room


def oldest_received_unix_nano(holding: QueueState) -> int | None:
    """When the oldest record that is held was received; None when nothing is held."""
    heads = [
        row.oldest_received_unix_nano
        for stream in Stream
        if holding.counts.batches[stream]
        for row in rows_of(holding, span_of(stream), 1)
    ]
    return min(heads, default=None)


def dead_letters_of(holding: QueueState) -> list[DeadLetter]:
    """The dead letters on disk and those that wait for it, oldest first."""
    found: list[DeadLetter] = []
    if holding.store is not None:
        try:
            found = list(holding.store.dead_letters())
        except (sqlite3.Error, ValueError) as error:
            holding.weathered(error if isinstance(error, sqlite3.Error) else sqlite3.DataError(str(error)))
    pending = holding.pending
    gone = set(pending.dead_letter_deletes)
    return [letter for letter in (*found, *pending.dead_letters) if letter.id not in gone]
