"""The durable queue: batches are put, taken and settled, each in one transaction that the ledger is part of.

Nothing that the disk does makes a call raise: while it takes no writes, batches and acknowledgements wait in memory,
and a thread of the queue's own writes them when it does again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from otelbridge.event import Stream
from otelbridge.queue.admission import Admission
from otelbridge.queue.commands import collect
from otelbridge.queue.dead_letters import DeadLetters
from otelbridge.queue.dequeue import Dequeue, accept, cut, give_back, refuse
from otelbridge.queue.disk import CURE, PRIMARY_CODE, own, sentence
from otelbridge.queue.durability import WATCHING, Log, boot_id, note_of, read_note, tell_of_power_cut
from otelbridge.queue.model import (
    Accepted,
    Batch,
    Change,
    DeadLetter,
    Depth,
    Lease,
    Outcome,
    QueueUnusable,
    Refused,
    TooLarge,
)
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.state import QueueState, dead_letters_of, oldest_received_unix_nano
from otelbridge.queue.store import QUEUE_FILE, Connect, connect, max_file_bytes, open_store
from otelbridge.queue.upkeep import Upkeep, tidy
from otelbridge.queue.work_signal import WorkSignal
from otelbridge.telemetry.events import Event, QueueOpened, RecordsShed, Tell
from otelbridge.telemetry.ledger import Ledger, Posting


def depth_of(holding: QueueState, letters: DeadLetters) -> Depth:
    """What is held at this instant; from counters, and a look at the oldest row of each stream."""
    return Depth(
        batches=sum(holding.counts.batches.values()),
        records=sum(holding.counts.records.values()),
        bytes=holding.counts.total_bytes(),
        leased_records=sum(loan.lease.records for loan in holding.desk.loans()),
        memory_records=holding.room.records,
        oldest_received_unix_nano=oldest_received_unix_nano(holding),
        by_stream=dict(holding.counts.records),
        dead_letters=letters.dead_letters,
        dead_letter_bytes=letters.dead_letter_bytes,
        retained_bytes=letters.retained_bytes,
        degraded=holding.weather is not None,
    )


PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)


def passing(error: Exception) -> bool:
    """Whether it is worth starting all the same: the disk may recover; a missing permission will not."""
    return getattr(error, "sqlite_errorcode", -1) & PRIMARY_CODE in PASSING


def start(holding: QueueState, letters: DeadLetters, settings: QueueSettings, *, boot: str, tell: Tell) -> None:
    """Opens the holding; on a full or failing disk it starts from memory.

    Raises:
        QueueUnusable: the file can't be made, read or written.
    """
    try:
        holding.open()
    except (sqlite3.Error, OSError) as error:
        if not passing(error):
            holding.close()
            raise QueueUnusable(settings.directory, sentence(error), CURE) from error
        holding.degrade(error)
    letters.count()
    tell_of_power_cut(holding.books, boot, tell)
    holding.books.open_under_boot = boot if settings.synchronous == "normal" else ""
    holding.write(Change())
    counts = holding.counts
    held = sum(counts.records.values())
    tell(QueueOpened(path=str(holding.path), held_records=held, held_bytes=counts.total_bytes()))


EXPIRE_AT_ONCE = 512


class DurableQueue:
    """One per process. Thread-safe. Made by `open`, given up by `close`."""

    def __init__(self, settings: QueueSettings, *, tell: Tell, clock: Callable[[], int], connect: Connect) -> None:
        self._settings = settings
        self._tell = tell
        self._clock = clock
        self._turn = threading.Lock()
        self._news: list[Event] = []
        self._closed = False
        self._owned = own(settings.directory)
        self.path = settings.directory / QUEUE_FILE
        bound, synchronous = max_file_bytes(settings), settings.synchronous
        make_store = partial(open_store, max_file_bytes=bound, synchronous=synchronous, connect=connect)
        self._log = Log(self.path, synced_by_itself=synchronous == "full")
        self._holding = QueueState(self.path, make_store, self._news.append, clock)
        self._admission = Admission(settings, self._holding)
        self._lending = Dequeue(settings.order, self._holding)
        self._bell = WorkSignal(self._turn, self._holding.has_free)
        self._letters = DeadLetters(settings, self._holding, clock)

    @classmethod
    def open(
        cls,
        settings: QueueSettings,
        *,
        tell: Tell,
        clock: Callable[[], int] = time.time_ns,
        connect: Connect = connect,
        boot: str | None = None,
    ) -> DurableQueue:
        """Opens the queue in its folder, makes it where there is none, salvages it where it is damaged.

        Args:
            settings: the operator's.
            tell: is told what happens to the queue.
            clock: unix time in nanoseconds.
            connect: makes the connection to the file; tests pass one that fails.
            boot: tells one run of the machine from another; the kernel's own id by default.

        Raises:
            QueueInUse: another process has it.
            QueueUnusable: the folder or the file can't be made, read or written.
        """
        queue = cls(settings, tell=tell, clock=clock, connect=connect)
        try:
            with queue._changing():
                start(
                    queue._holding,
                    queue._letters,
                    settings,
                    boot=boot_id() if boot is None else boot,
                    tell=queue._news.append,
                )
        except BaseException:
            os.close(queue._owned)
            raise
        queue.upkeep = Upkeep(queue.tend, tell)
        return queue

    upkeep: Upkeep
    """The thread that tends the queue; its pulse says that it lives."""

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The lock; what happened meanwhile is told after it is let go."""
        with self._turn:
            try:
                yield
            finally:
                news, shed = self._news[:], dict(self._admission.shed)
                self._news.clear()
                self._admission.shed.clear()
        for (stream, reason), records in shed.items():
            self._tell(RecordsShed(stream=stream, reason=reason, records=records))
        for happening in news:
            self._tell(happening)

    # --- the walk ---

    def put(self, batches: Sequence[Batch], postings: Sequence[Posting] = ()) -> None:
        """Holds batches, and posts to the ledger in the same transaction. Never raises for what the disk does.

        Args:
            batches: what was received and encoded.
            postings: their receipts (`RECEIVED`), and what was filtered or dropped before.
        """
        with self._changing():
            ledger = self._holding.books.ledger
            for posting in postings:
                ledger.post(posting)
            self._lending.note_arrival(self._clock(), self._holding.books.next_sequence)
            change = Change()
            passed: dict[Stream, int] = {}
            for batch in batches:
                self._admission.admit(batch, change, passed)
            self._holding.write(change)
            self._bell.ring()

    def take(self, *, max_bytes: int, max_records: int) -> Lease | None:
        """Lends the next batches of one stream, joined; None when nothing is free.

        A batch larger than the limits is lent alone. A lease is out until it is settled, replaced or dead-lettered.
        """
        with self._changing():
            lease = self._lending.lend(self._clock(), max_bytes=max_bytes, max_records=max_records)
            self._bell.asked(in_vain=lease is None)
            return lease

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Ends a lease: accepted batches are gone and counted, all others are given back.

        Raises:
            ValueError: the lease is not out.
        """
        with self._changing():
            if isinstance(outcome, Accepted):
                accept(self._holding, self._letters, lease, outcome)
            else:
                give_back(self._holding, lease)
                self._bell.ring()

    def dead_letter(self, lease: Lease, outcome: Refused | TooLarge) -> None:
        """Ends a lease on records that the endpoint will never take: they are set aside as a dead letter.

        Raises:
            ValueError: the lease is not out.
        """
        with self._changing():
            refuse(self._holding, self._letters, lease, outcome)

    def replace(self, lease: Lease, batches: Sequence[Batch]) -> None:
        """Ends a lease by putting smaller batches in its place, in one transaction; they are free at once, in order.

        Raises:
            ValueError: the lease is not out, or the batches do not hold as many records of the same stream.
        """
        with self._changing():
            cut(self._holding, lease, batches)
            self._bell.ring()

    def has_work(self) -> bool:
        """Whether something is free to be taken."""
        with self._turn:
            return self._bell.has_work()

    def wait_for_work(self, timeout_seconds: float) -> bool:
        """Waits until something is free to be taken, `wake` is called, or time is up; True when something is free."""
        return self._bell.wait(timeout_seconds)

    def wake(self) -> None:
        """Ends every `wait_for_work` that is under way."""
        self._bell.wake()

    # --- asking ---

    def depth(self) -> Depth:
        """What is held at this instant; from counters."""
        with self._changing():
            return depth_of(self._holding, self._letters)

    def ledger(self) -> Ledger:
        """A copy of the ledger."""
        return self.balance()[0]

    def held(self) -> Mapping[Stream, int]:
        """Records held per stream, counted apart from the ledger."""
        return self.balance()[1]

    def balance(self) -> tuple[Ledger, Mapping[Stream, int]]:
        """Ledger and held records of one instant: `ledger.residue(held)` is 0 everywhere."""
        with self._turn:
            return Ledger(self._holding.books.ledger.postings()), dict(self._holding.counts.records)

    def dead_letters(self, numbers: Sequence[int] | None = None) -> list[DeadLetter]:
        """The dead letters, oldest first: those asked for, or all. Bounded by `dead_letter_max_bytes`."""
        with self._changing():
            found = dead_letters_of(self._holding)
        return found if numbers is None else [letter for letter in found if letter.id in set(numbers)]

    def resend(self, numbers: Sequence[int]) -> int:
        """Puts dead letters back into the queue; returns their records."""
        letters = self.dead_letters(numbers)
        with self._changing():
            records = self._letters.resend(letters)
            self._bell.ring()
            return records

    def discard_dead_letters(self, numbers: Sequence[int]) -> None:
        """Deletes dead letters for good."""
        with self._changing():
            self._letters.discard(numbers)

    # --- notes for the next life ---

    def checkpoint_watching(self, watched_until: Mapping[tuple[str, Stream], int]) -> None:
        """Remembers until when (Unix nanoseconds) streams of upstreams were watched; others keep their time."""
        with self._changing():
            until = {**read_note(self._holding.notes.get(WATCHING)), **watched_until}
            self._holding.write(Change(notes={WATCHING: note_of(until)}))

    def last_watching(self) -> dict[tuple[str, Stream], int]:
        """Until when each upstream's stream was watched, in this life or an earlier one."""
        with self._turn:
            return read_note(self._holding.notes.get(WATCHING))

    # --- tending ---

    def tend(self) -> bool:
        """One round of upkeep: errands, what waits for the disk, what is too old; True when there is more to do."""
        for errand in collect(self._settings.directory):
            {"resend": self.resend, "discard": self.discard_dead_letters}[errand.verb](errand.numbers)
        with self._changing():
            if self._closed:
                return False
            more = self._holding.weather is not None and self._holding.recover()
            change = Change()
            more = self._admission.expire(self._clock(), change, EXPIRE_AT_ONCE) or more
            if change:
                self._holding.write(change)
            more = self._letters.trim() or more
            tidy(self._holding)
            self._bell.ring()
        try:
            self._log.sync(self._holding.books.revision)  # beside the lock: a put goes on meanwhile
        except OSError as error:
            with self._changing():
                self._holding.degrade(error)
        return more

    def close(self) -> None:
        """Gives the queue up; what is held waits for the next start. Leases that are out are given back."""
        self.upkeep.stop()
        with self._changing():
            if self._closed:
                return
            self._closed = True
            self._holding.books.open_under_boot = ""
            self._holding.write(Change())
            self._holding.close()
            os.close(self._owned)
        self._bell.wake()
