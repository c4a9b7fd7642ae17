"""What is held, on disk and in memory: written as changes, read as rows and batches, kept through every disk error.

A file that can't be read just now is left out; a damaged one is salvaged on the way. Reading and writing never raise
for what the disk does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, RecordGap, Stream
from otelbridge.queue.checkpoint import (
    WATCHING,
    Account,
    Checkpoint,
    CheckpointFile,
    Posting,
    QueueClock,
    Watched,
    note_of,
    read_note,
    read_page,
)
from otelbridge.queue.disk import DiskError, Folder, disk_error_of
from otelbridge.queue.file import MakeStore, QueueFile
from otelbridge.queue.memory import Leases, MemoryStore, StreamCounts, measure
from otelbridge.queue.model import Batch, Change, QueueInUse, QueueUnusable, Row, Span
from otelbridge.queue.recovery import corruption_gap, record_lost_history, restore_from_memory
from otelbridge.queue.store import Store, Sums, row_id, span_of, stream_of
from otelbridge.telemetry.events import RecordsShed, Tell

SEQUENCES_A_SECOND = 256
"""Since 1970, where a file that cannot be read hides how far an earlier life has come: it has not come so far."""
FLUSH_BYTES = 1024 * 1024  # one transaction of the recovery: short enough not to hold up a put


class QueueState:
    """Batches, ledger and counts. Not thread-safe: the queue's lock guards it."""

    def __init__(
        self, folder: Folder, make_store: MakeStore, tell: Tell, record_gap: RecordGap, clock: QueueClock
    ) -> None:
        self.file = QueueFile(folder, make_store, tell)
        self.clock = clock
        self.checkpoint = Checkpoint()
        self.counts = StreamCounts()
        self.leases = Leases()
        self.memory = MemoryStore()
        self.read_cache = MemoryStore()
        """Copies of batches that are in the open file."""
        self.earlier = Checkpoint()
        """As an earlier life left it."""
        self.watched: dict[tuple[str, Stream], int] = {}
        """Until when each upstream's stream was watched, in this life or an earlier one."""
        self.pending = Change()
        """What waits for the disk, but for batches, which `memory` has, and their deletions, which `leases` has."""
        self.checkpoint_file = CheckpointFile(folder.path)
        self._folder = folder
        self._tell, self._record_gap = tell, record_gap
        self.on_write: Callable[[], object] = int
        """Called at each change, with the queue's lock held."""
        self._note_due = False
        self._unread: list[Posting] | None = None
        """The ledger's postings at a start at which the file could not be read; None once it has been."""
        self._lost_until: int | None = None
        """When the file that is being counted anew was written last; None for a file of this life."""

    # --- opening ---

    def open(self) -> None:
        """Opens the file of an earlier life, or makes one; a damaged one is salvaged.

        Where nothing can be written just now, it is read, if that can be done, and what comes waits in memory.

        Raises:
            sqlite3.Error, OSError: the file can't be opened or made for want of a permission.
        """
        copied, note = self.checkpoint_file.read()
        self._adopt(copied or Checkpoint())
        try:
            self._take_over(self._adapt_to(self.file.open_with_reserve(self.checkpoint.floor)), copied, note)
            self.flush()
        except (sqlite3.Error, OSError) as error:
            if self.file.is_forbidden():
                raise
            self.file.degrade(error)
            self.file.open_to_read()
            if self.file.store is not None:
                with self._reading():
                    self._take_over(self.file.store, copied, note)
        if self.file.store is None:
            self._unread = self.checkpoint.ledger.postings()
            beyond = self.clock.now() // NANOSECONDS * SEQUENCES_A_SECOND
            self.checkpoint.next_sequence = max(self.checkpoint.next_sequence, beyond)
        elif self.file.error is not None:
            with self._reading():
                self._count_unwritten(self.file.store)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Closes a file that cannot even be read; it is tried again."""
        try:
            yield
        except sqlite3.Error:
            self.shut()

    def _take_over(self, store: Store, copied: Checkpoint | None, note: str) -> None:
        """Goes on from what an earlier life left in the database and in the file beside it."""
        stored = read_page(store.page())
        last = max((c for c in (copied, stored) if c), key=lambda c: c.revision, default=None)
        self._adopt(last or Checkpoint())
        self.checkpoint.next_sequence = max(self.checkpoint.next_sequence, store.last_sequence() + 1)
        for earlier in (read_note(store.notes(WATCHING).get(WATCHING)), read_note(note)):
            self.watched |= {key: max(until, self.watched.get(key, 0)) for key, until in earlier.items()}
        if last is not None:
            self.clock.resume(last.written, last.offset_nano, last.boot)
            self._lost_until = last.written.unix_nano - last.offset_nano
            if stored is None or last.revision > stored.revision:
                self._forget_settled()
        ledger = self.checkpoint.ledger
        seen = any(ledger.total(stream, Account.RECEIVED) for stream in UPSTREAM_STREAMS)
        if self._folder.trace_unix_nano and stored is None and (last is None or (seen and not self.watched)):
            record_lost_history(
                self._folder.path,
                self._folder.trace_unix_nano,
                now_unix_nano=self.clock.last.unix_nano,
                record_gap=self._record_gap,
            )

    def _join_earlier(self, store: Store, since: Iterable[Posting]) -> None:
        """Takes an earlier life over that could not be read at the start, with what was done since."""
        own = self.checkpoint
        self._take_over(store, *self.checkpoint_file.read())
        for posting in since:
            own.ledger.post(posting._replace(records=-posting.records))
        self.checkpoint.ledger.post_all(own.ledger.postings())
        self.checkpoint.revision = max(own.revision, self.checkpoint.revision)
        self.checkpoint.next_sequence = max(own.next_sequence, self.checkpoint.next_sequence)
        for stream in Stream:
            for row in self.memory.measures(span_of(stream)):
                self.counts.add(stream, row)
        self._unread = None

    def _adopt(self, checkpoint: Checkpoint) -> None:
        """Takes over a checkpoint; what should be there by its ledger counts as held until it is counted."""
        self.checkpoint, self.earlier = checkpoint, replace(checkpoint)
        self.file.uncounted = True
        for stream, owed in checkpoint.ledger.residue({}).items():
            self.counts.put(stream, 0, owed, 0)

    def _forget_settled(self) -> None:
        """The checkpoint is ahead of the file: batches settled since then came back to life with the old file."""
        for stream, floor in self.checkpoint.floor.items():
            self.leases.block(stream, Span(span_of(stream).first, floor - 1))

    def _adapt_to(self, store: Store) -> Store:
        """Puts what a file that was opened lacks, and memory still has, with what waits for it."""
        copies, self.read_cache = self.read_cache.all(), MemoryStore()
        if self.file.uncounted:
            restore_from_memory(self.leases, self.memory, copies, store)
        return store

    # --- writing ---

    def free_streams(self) -> list[Stream]:
        """The streams of which, by the counts, something is held that is not leased."""
        out = self.leases.batches
        return [stream for stream, held in self.counts.batches.items() if held > out.get(stream, 0)]

    def write(self, change: Change) -> bool:
        """Writes a change with the checkpoint; False when it has to wait in memory for the disk."""
        self.checkpoint.revision += 1
        try:
            self.on_write()
            if self.file.error is None:
                self._apply(change)
                return True
        except BaseException as error:  # noqa: BLE001 - whatever it is: nobody else has the change
            self._wait(change)
            self.memory.doubts.update(change.inserts)
            return self.handle(error)
        self._wait(change)
        return False

    def _apply(self, change: Change) -> None:
        assert self.file.store is not None
        if self._note_due:
            change.notes[WATCHING] = note_of(self.watched)
        checkpoint, now = self.checkpoint, self.clock.now()
        checkpoint.written, checkpoint.offset_nano, checkpoint.boot = (
            self.clock.last,
            self.clock.offset_nano,
            self.clock.boot,
        )
        for stream, records in self.counts.records.items():
            if not records:
                checkpoint.empty_at[stream] = now
        page = checkpoint.page()
        self.file.store.apply(change, page)
        self._note_due = False
        self.checkpoint_file.write(page)
        self.read_cache.follow(change)

    def _wait(self, change: Change) -> None:
        for batch_id, batch in change.inserts.items():
            self.memory.add(batch_id, replace(batch, plain=b""))
        for span in change.deletes:
            self.leases.block(stream_of(span.first), span)
            self.read_cache.remove(span)
        self.pending.add(replace(change, inserts={}, deletes=[]))

    def watch(self, watched: Watched) -> None:
        """Remembers until when streams of upstreams were watched; others keep their time.

        At once in the file beside the database, which needs no commit; in the database with the next change. While
        changes wait in memory, which a kill would lose, it is not written: they came after what was watched by then.
        """
        self.watched.update(watched)
        self._note_due = True
        if self.file.error is None:
            self.checkpoint_file.write_note(note_of(self.watched))
            self._folder.sign_of_life()

    def insert(self, batch: Batch, change: Change) -> None:
        """Adds a batch to the change, as the last in the order of arrival."""
        batch_id = row_id(batch.stream, self.checkpoint.next_sequence)
        self.checkpoint.next_sequence += 1
        self.counts.add(batch.stream, measure(batch_id, batch))
        change.inserts[batch_id] = batch

    def take_back(self, change: Change) -> None:
        """Uncounts the inserts of a change that will not be made; what was to make room for them goes all the same."""
        for batch_id, batch in change.inserts.items():
            self.counts.remove(batch.stream, [measure(batch_id, batch)])
        self.write(replace(change, inserts={}))

    def dated(self, batch: Batch) -> Batch:
        """A batch that was just received, with the queue's time in place of the machine's."""
        received = self.clock.time_of(batch.oldest_received_unix_nano)
        if received == batch.oldest_received_unix_nano:
            return batch
        return replace(batch, oldest_received_unix_nano=received)

    def settled_up_to(self, stream: Stream, since: int, last: int) -> None:
        """Nothing is left between two ids: raises the floor if nothing is left below them either."""
        if since <= self.checkpoint.floor.get(stream, span_of(stream).first):
            self.checkpoint.floor[stream] = last + 1

    # --- errors ---

    def mend(self) -> None:
        """After a fault of ours, perhaps in the midst of a change: goes on from the ledger and from what is there."""
        self.leases.block_again()
        self.read_cache = MemoryStore()
        self.file.uncounted = True
        if self.file.error is None and self.file.store is not None:
            self.flush()

    def handle(self, error: BaseException) -> bool:
        """Deals with an error of the disk, or of ours; True when all is on disk now, in a new file."""
        if not isinstance(error, sqlite3.Error) or disk_error_of(error) is not DiskError.DAMAGE:
            self.file.degrade(error)
            return False
        try:
            self.file.salvage(self.checkpoint.floor)
            self._open_again()
            self._flush()
        except (sqlite3.Error, OSError) as failure:
            self.file.degrade(failure)
            return False
        return True

    def _open_again(self) -> None:
        store = self.file.open(self.checkpoint.floor)
        if self._unread is not None:
            self._join_earlier(store, self._unread)
        if self.file.uncounted:
            self._forget_settled()
        self._adapt_to(store)

    def recover(self) -> bool:
        """Tries the disk again, a piece at a time; True when more can be done at once."""
        try:
            if self.file.prepare(self.checkpoint.floor):
                self.checkpoint_file.close()
                self._open_again()
                self.file.reopened()
            self.file.bound_log()
            done = self._flush_some()
        except (sqlite3.Error, OSError, QueueInUse, QueueUnusable) as error:
            if isinstance(error, sqlite3.Error) and disk_error_of(error) is DiskError.DAMAGE:
                return self.handle(error)
            self.file.degrade(error)
            if self.file.store is None:
                self.file.open_to_read()
            return False
        if done:
            self.file.recovered()
        return not done

    def flush(self) -> None:
        """Writes all that waits."""
        try:
            self._flush()
        except sqlite3.Error as error:
            self.handle(error)

    def _flush(self) -> None:
        while not self._flush_some():
            pass

    def _flush_some(self) -> bool:
        """Writes what waits, deletions first because they make room; True when nothing is left."""
        settled = self.leases.settled()
        if self.pending or settled or not self.memory or self.file.uncounted or self.memory.doubts:
            doubts = [Span(batch_id, batch_id) for batch_id in self.memory.doubts]
            self._apply(replace(self.pending, deletes=settled + doubts))
            self.pending = Change()
            self.memory.doubts.clear()
            self.leases.forget_settled()
            if self.file.uncounted:
                self._recount()
        if self.memory:
            some = self.memory.some(FLUSH_BYTES)
            self.memory.doubts.update(some)
            self._apply(Change(inserts=some))
            for batch_id in some:
                self.memory.remove(Span(batch_id, batch_id))
        return not self.memory

    def _recount(self) -> None:
        """Counts what is really there; what is missing is lost, and told as a gap."""
        assert self.file.store is not None
        self._count(self.file.store.sums_by_stream())
        self.file.uncounted = False
        self._lost_until = None
        self.checkpoint.revision += 1
        self._apply(Change())

    def _count_unwritten(self, store: Store) -> None:
        """The same at a start that cannot write, so that what is there can be leased; without what is settled."""
        found = {}
        for stream in Stream:
            batches, records, size = zip(*map(store.sums, self.leases.gaps(stream)), strict=True)
            found[stream] = (sum(batches), sum(records), sum(size))
        self._count(found)

    def _count(self, found: Mapping[Stream, Sums]) -> None:
        owed = self.checkpoint.ledger.residue({})
        for stream in Stream:
            self.counts.put(stream, *found[stream])
            for row in self.memory.measures(span_of(stream)):
                self.counts.add(stream, row)
            self._post_lost(stream, owed[stream] - self.counts.records[stream])

    def _post_lost(self, stream: Stream, lost: int) -> None:
        """Makes the ledger balance after a recount: `lost` records are missing, or came back if it is negative."""
        ledger = self.checkpoint.ledger
        if lost > 0:
            ledger.post(Posting(stream, Account.DROPPED, "corrupt", lost))
            self._tell(RecordsShed(stream=stream, reason="corrupt", records=lost))
            until = self.clock.now() if self._lost_until is None else self._lost_until
            since = min(self.checkpoint.empty_at.get(stream, until), until)
            times = (self.clock.unix_nano_of(since), self.clock.unix_nano_of(until))
            self._record_gap(corruption_gap(stream, times, lost, f"The queue file {self.file.path} was damaged."))
        elif lost < 0:
            # Batches that were delivered came back with an older state of the file: they are held again.
            delivered = min(-lost, ledger.total(stream, Account.DELIVERED))
            ledger.post(Posting(stream, Account.DELIVERED, "", -delivered))
            ledger.post(Posting(stream, Account.RECEIVED, "", -lost - delivered))

    def _renew(self) -> None:
        """Gives the file of a full disk up if nothing in it is owed, kept or leased; `recover` makes the next one."""
        store = self.file.store
        if store is None or self.file.uncounted or self.file.error is not DiskError.FULL or self.leases.open():
            return
        if sum(self.counts.batches.values()) > len(self.memory) or self.pending.dead_letters:
            return
        try:
            if store.dead_letter_sizes() or store.retained_bytes():
                return
        except sqlite3.Error:
            return  # `recover` will meet it too
        # The checkpoint first, in a file whose space is reserved: a start without the database goes by it.
        self.checkpoint_file.write(self.checkpoint.page())
        self.pending.notes[WATCHING] = note_of(self.watched)
        self.file.delete()
        self.read_cache = MemoryStore()

    def tidy(self) -> None:
        """Looks after the file's space; renews a file that is stuck on a full disk."""
        if self.file.error is not None or self.file.store is None:
            self._renew()
            return
        try:
            self.file.tidy(self.checkpoint.revision)
        except sqlite3.Error as error:
            self.handle(error)

    # --- closing ---

    def shut(self) -> None:
        """Closes the file; what waits in memory stays."""
        self.file.close()
        self.read_cache = MemoryStore()

    def close(self) -> None:
        """Closes everything."""
        self.shut()
        self.checkpoint_file.close()

    # --- reading ---

    def rows(self, span: Span, limit: int) -> list[Row]:
        """The first rows of a span, on disk and in memory."""
        found: list[Row] = []
        stream = stream_of(span.first)
        if (
            self.file.error is None
            and not self.memory
            and 0 < self.counts.batches[stream] == self.read_cache.count(stream)
        ):
            return self.read_cache.measures(span, limit)
        if self.file.store is not None:
            try:
                found = self.file.store.measures(span, limit)
            except sqlite3.Error as error:
                if self.handle(error):
                    return self.rows(span, limit)
                self.shut()
        if self.memory:
            on_disk = [row for row in found if row.id not in self.memory]
            found = sorted([*on_disk, *self.memory.measures(span, limit)])[:limit]
        return found

    def first_free(
        self, stream: Stream, first: int, limit: int, *, memory_only: bool = False
    ) -> tuple[Span, list[Row]] | None:
        """The first gap between leases, from an id on, that has rows, and its first rows."""
        empty = []
        found = None
        for gap in self.leases.gaps(stream, first):
            rows = self.memory.measures(gap, limit) if memory_only else self.rows(gap, limit)
            if rows:
                found = gap, rows
                break
            empty.append(gap)
        if self.file.store is not None and not memory_only:  # else there may be rows that were not seen
            for gap in empty:
                self.leases.join(stream, gap)
        return found

    def batches(self, rows: list[Row]) -> dict[int, Batch]:
        """The batches behind neighbouring rows; a damaged one is missing, and counted as lost."""
        found = {row.id: batch for row in rows if (batch := self.memory.get(row.id) or self.read_cache.get(row.id))}
        if len(found) == len(rows) or self.file.store is None:
            return found
        damaged = []
        try:
            for batch_id, batch in self.file.store.batches(Span(rows[0].id, rows[-1].id)):
                if batch is None:
                    damaged.append(batch_id)
                else:
                    found[batch_id] = batch
            if len(found) + len(damaged) < len(rows):
                raise sqlite3.DataError("batches that a tree lists are not in it")  # damage like any other
        except sqlite3.Error as error:
            if not self.handle(error):
                self.shut()
            return {}
        if damaged:
            self._strike(damaged)
        return found

    def _strike(self, damaged: Iterable[int]) -> None:
        """Gives up batches that are not what was written, and counts anew: what they held is known by what is left."""
        for batch_id in damaged:
            self.leases.block(stream_of(batch_id), Span(batch_id, batch_id))
        self.file.uncounted = True
        self.flush()

    def all_is_found(self, without: Collection[Stream]) -> bool:
        """Asked when nothing free can be found: True if the counts agree; else the file is damaged, and is salvaged."""
        if self.file.error is None and any(stream not in without for stream in self.free_streams()):
            held = sum(self.counts.batches.values())
            self.handle(sqlite3.DataError(f"{held} batches are held, and cannot be found"))
            return False
        return True

    def oldest_received_unix_nano(self) -> int | None:
        """When the oldest record that is held was received; None when nothing is held."""
        heads = [
            row.oldest_received_unix_nano
            for stream in Stream
            if self.counts.batches[stream]
            for row in self.rows(span_of(stream), 1)
        ]
        return self.clock.unix_nano_of(min(heads)) if heads else None
