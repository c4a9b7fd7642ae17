"""The durable queue: batches are put, taken and settled, each in one transaction that the ledger is part of.

Nothing that the disk does makes a call raise: while it takes no writes, batches and acknowledgements wait in memory,
and a thread of the queue's own writes them when it does again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from otelbridge.event import STREAMS, Gap, RecordGap, Signal, Stream
from otelbridge.queue.checkpoint import Ledger, Posting, QueueClock, boot_id, elapsed_nanos
from otelbridge.queue.dead_letters import DeadLetters, collect
from otelbridge.queue.dequeue import Dequeue, LingerLimits, WorkSignal
from otelbridge.queue.disk import CURE, Folder, sentence
from otelbridge.queue.model import (
    Accepted,
    Batch,
    Change,
    DeadLetter,
    Depth,
    Lease,
    LeaseError,
    Outcome,
    QueueUnusable,
    Refused,
    Retained,
    TooLarge,
)
from otelbridge.queue.overflow import Overflow
from otelbridge.queue.packing import LARGE_BYTES, LEAST_BYTES
from otelbridge.queue.recovery import record_crash
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import Connect, connect, max_file_bytes, open_store
from otelbridge.telemetry.events import Event, QueueFolderExposed, QueueOpened, RecordsShed, Tell
from otelbridge.telemetry.supervisor import SupervisedThread

EXPIRE_AT_ONCE = 512
NO_LINGER = LingerLimits()
GAPS_EXTRA_BYTES = 1024 * 1024  # beyond the bound, for the records that say what was lost by it
SPANS_SHARE = 16  # so little of the queue may be spans: they must not take room from records
SENT_AT_ONCE_BYTES = 1024 * 1024  # held when nothing is in the way: some tenths of a second of 2,000 events/s
SYNC_SECONDS = 0.5  # what a power cut can take
STOP_SECONDS = 10  # a disk that hangs must not hang the end of the program


class _Changing:
    """The queue's lock; what happened meanwhile is told after it is let go, and what a fault left undone is mended."""

    def __init__(self, lock: threading.Lock, tell: Tell, record_gap: RecordGap) -> None:
        self._lock, self._tell, self._record_gap = lock, tell, record_gap
        self.mend: Callable[[], object] = int
        """What is done after a fault, with the lock held."""
        self.events: list[Event] = []
        self.gaps: list[Gap] = []
        self.shed: dict[tuple[Stream, str], int] = {}

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and not issubclass(kind, LeaseError):
                self.mend()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        happened = (self.events[:], self.gaps[:], dict(self.shed)) if self.events or self.gaps or self.shed else None
        if happened is None:
            self._lock.release()
            return
        self.events.clear()
        self.gaps.clear()
        self.shed.clear()
        self._lock.release()
        events, gaps, shed = happened
        for (stream, reason), records in shed.items():
            self._tell(RecordsShed(stream=stream, reason=reason, records=records))
        for event in events:
            self._tell(event)
        for gap in gaps:
            self._record_gap(gap)


class DurableQueue:
    """Holds batches until they are settled. Thread-safe; one per process, made by `open`, given up by `close`."""

    def __init__(
        self,
        settings: QueueSettings,
        *,
        tell: Tell,
        record_gap: RecordGap,
        linger: LingerLimits,
        clock: QueueClock,
        connect: Connect,
    ) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._changing = _Changing(self._lock, tell, record_gap)
        self._events, self._gaps = self._changing.events, self._changing.gaps
        self._closed = False
        self._last_turn: object = None
        self._folder = Folder(settings.directory)
        synchronous = settings.synchronous
        make_store = partial(
            open_store, max_file_bytes=max_file_bytes(settings), synchronous=synchronous, connect=connect
        )
        self._state = QueueState(self._folder, make_store, self._events.append, self._gaps.append, clock)
        self.path = self._state.file.path
        self._overflow = Overflow(settings, self._state)
        self._changing.shed = self._overflow.shed
        self._dead_letters = DeadLetters(settings, self._state)
        self._dequeue = Dequeue(settings.order, self._state, self._dead_letters, linger)
        self._work_signals = {
            signal: WorkSignal(self._lock, partial(self._dequeue.due_at, signal)) for signal in Signal
        }

    @classmethod
    def open(
        cls,
        settings: QueueSettings,
        *,
        tell: Tell,
        record_gap: RecordGap,
        linger: LingerLimits = NO_LINGER,
        clock: Callable[[], int] = time.time_ns,
        elapsed: Callable[[], int] = elapsed_nanos,
        connect: Connect = connect,
        boot: str | None = None,
    ) -> DurableQueue:
        """Opens the queue in its folder, makes it where there is none, salvages it where it is damaged.

        Args:
            settings: the operator's.
            tell: is told what happens to the queue.
            linger: how long what is free waits for more before it is leased.
            record_gap: gets the gaps that damage and power cuts leave.
            clock: unix time in nanoseconds, which may be set.
            elapsed: nanoseconds since the machine started.
            connect: makes the connection to the file; tests pass one that fails.
            boot: tells one run of the machine from another; the kernel's own id by default.

        Raises:
            QueueInUse: another process has it.
            QueueUnusable: the folder or the file can't be made, read or written.
        """
        queue_clock = QueueClock(clock, elapsed, boot_id() if boot is None else boot)
        queue = cls(settings, tell=tell, record_gap=record_gap, linger=linger, clock=queue_clock, connect=connect)
        try:
            queue._folder.acquire()
            with queue._changing:
                queue._start()
        except BaseException:
            queue._folder.release()
            raise
        state = queue._state
        queue._changing.mend = state.mend
        queue.upkeep = Upkeep(queue.tend, queue.glance, tell, revision=lambda: state.checkpoint.revision)
        state.on_write = queue.upkeep.note_write
        return queue

    upkeep: Upkeep
    """The thread that tends the queue; its pulse says that it lives."""

    def _start(self) -> None:
        state, tell = self._state, self._events.append
        if self._folder.writable_by_others:
            tell(QueueFolderExposed(path=str(self._folder.path)))
        try:
            state.open()
        except (sqlite3.Error, OSError) as error:
            state.close()
            raise QueueUnusable(self._settings.directory, sentence(error), CURE) from error
        self._dead_letters.count()
        record_crash(state.earlier, state.clock.boot, self._gaps.append)
        state.checkpoint.unsynced = self._settings.synchronous == "normal"
        state.write(Change())
        records, size = sum(state.counts.records.values()), state.counts.total_bytes()
        tell(QueueOpened(path=str(self.path), held_records=records, held_bytes=size))

    # --- the walk ---

    def put(
        self,
        batches: Sequence[Batch],
        postings: Sequence[Posting] = (),
        *,
        aside: Sequence[Retained] = (),
        notes: Mapping[str, str] | None = None,
        turn: object = None,
    ) -> None:
        """Holds batches, and posts to the ledger in the same transaction. Never raises for what the disk does.

        Where a fault of ours makes it raise, either nothing is held and posted, or all; a repeated call tells which by
        the turn, so that nothing is held twice.

        Args:
            batches: what was received and encoded.
            postings: their receipts (`RECEIVED`), and what was filtered, summarised, doubled or dropped before.
            aside: what the flight recorder keeps and nobody sends.
            notes: for the next life, by key; an empty one is deleted.
            turn: a call with the turn of the one before does nothing where that one held all.
        """
        with self._changing:
            if turn is not None and turn is self._last_turn:
                return
            state, change = self._state, Change(notes=dict(notes or {}))
            self._dequeue.note_arrivals(batches)
            try:
                without_room = self._admit(batches, change)
                state.checkpoint.ledger.post_all(postings)
            except BaseException:
                state.take_back(change)
                raise
            try:
                if aside:
                    self._dead_letters.keep(aside, change)
                for batch in without_room:
                    self._overflow.drop(batch)
            finally:
                state.write(change)
                self._last_turn = turn
            self._notify()

    def _admit(self, batches: Sequence[Batch], change: Change) -> list[Batch]:
        """Adds batches to the change, with what has to make room for them; returns those that found none."""
        passed: dict[Stream, int] = {}
        without_room: list[Batch] = []
        for batch in batches:
            excess, memory_only = self._excess(batch)
            if excess <= 0 or self._overflow.make_room(batch, excess, change, passed, memory_only=memory_only):
                self._state.insert(self._state.dated(batch), change)
            else:
                without_room.append(batch)
        return without_room

    def _excess(self, batch: Batch) -> tuple[int, bool]:
        """By how many bytes a newcomer exceeds the bounds, and whether only batches in memory can make room."""
        state, size = self._state, len(batch.request)
        bound = self._settings.max_bytes + (GAPS_EXTRA_BYTES if batch.stream is Stream.GAPS else 0)
        excess = state.counts.total_bytes() + size - bound
        if batch.stream is Stream.SPANS:
            excess = max(excess, state.counts.bytes[Stream.SPANS] + size - bound // SPANS_SHARE)
        if state.file.error is None:
            return excess, False
        in_memory = state.memory.bytes + size - self._settings.memory_max_bytes
        return max(excess, in_memory), in_memory > 0

    def take(self, *, max_bytes: int, max_records: int, signal: Signal = Signal.LOGS) -> Lease | None:
        """Leases the next batches of one stream of a signal, joined; None when nothing is free but what is left out.

        A batch larger than the limits is leased alone. A lease is out until it is settled, replaced or dead-lettered.
        """
        with self._changing:
            others = [stream for stream, facts in STREAMS.items() if facts.signal is not signal]
            lease = self._dequeue.lease(max_bytes=max_bytes, max_records=max_records, without=others)
            self._work_signals[signal].taken(anything=lease is not None)
            return lease

    @property
    def left_out(self) -> Collection[Stream]:
        """Streams from which nothing is leased for now."""
        return self._dequeue.left_out

    def leave_out(self, streams: Collection[Stream]) -> None:
        """Leases nothing from these streams until `let_in`."""
        with self._lock:
            self._dequeue.left_out.update(streams)

    def let_in(self, streams: Collection[Stream]) -> None:
        """Ends `leave_out` for some streams."""
        with self._lock:
            self._dequeue.left_out.difference_update(streams)
            self._notify()

    def change_linger(self, limits: LingerLimits) -> None:
        """Lets requests wait by these limits from now on."""
        with self._lock:
            self._dequeue.linger.change(limits)
        self.wake()

    def lift_linger(self) -> None:
        """From now on whatever is free is leased at once."""
        self.change_linger(NO_LINGER)

    def _notify(self) -> None:
        for work_signal in self._work_signals.values():
            work_signal.notify()

    def leases(self, signal: Signal = Signal.LOGS) -> list[Lease]:
        """All leases of a signal that are out."""
        with self._lock:
            leases = [out.lease for out in self._state.leases.open()]
            return [lease for lease in leases if STREAMS[lease.stream].signal is signal]

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Ends a lease: accepted batches are gone and counted, all others are given back.

        Raises:
            LeaseError: the lease is not out.
        """
        with self._changing:
            if isinstance(outcome, Accepted):
                self._dequeue.accept(lease, outcome)
            else:
                self._dequeue.give_back(lease)
                self._notify()

    def dead_letter(self, lease: Lease, outcome: Refused | TooLarge) -> None:
        """Ends a lease on records that the endpoint will never take: they are set aside as a dead letter.

        Raises:
            LeaseError: the lease is not out.
        """
        with self._changing:
            self._dequeue.refuse(lease, outcome)

    def replace(self, lease: Lease, batches: Sequence[Batch], *, keep: bool = False) -> list[Lease]:
        """Ends a lease by putting smaller batches in its place, in one transaction.

        Returns them as leases where the caller keeps them; otherwise they are free at once, in order, and the list is
        empty.

        Raises:
            LeaseError: the lease is not out, or the batches do not hold as many records of the same stream.
        """
        with self._changing:
            leases = self._dequeue.replace(lease, batches, keep=keep)
            self._notify()
            return leases

    @property
    def least_packed_bytes(self) -> int:
        """From which size on a request that is put now should be packed: small ones too while a backlog is held."""
        return LARGE_BYTES if self._state.counts.total_bytes() < SENT_AT_ONCE_BYTES else LEAST_BYTES

    def has_work(self, signal: Signal = Signal.LOGS) -> bool:
        """Whether something is free to be taken."""
        with self._lock:
            return self._work_signals[signal].has_work()

    def wait_for_work(self, timeout_seconds: float, signal: Signal = Signal.LOGS) -> bool:
        """Waits until something is free to be taken, `wake` is called, or time is up; True when something is free."""
        return self._work_signals[signal].wait(timeout_seconds)

    def wake(self) -> None:
        """Ends every `wait_for_work` that is under way."""
        for work_signal in self._work_signals.values():
            work_signal.wake()

    # --- asking ---

    def depth(self) -> Depth:
        """What is held at this instant; from counters, and a look at the oldest row of each stream."""
        with self._changing:
            counts, dead_letters = self._state.counts, self._dead_letters
            return Depth(
                batches=sum(counts.batches.values()),
                records=sum(counts.records.values()),
                bytes=counts.total_bytes(),
                memory_records=self._state.memory.records,
                oldest_received_unix_nano=self._state.oldest_received_unix_nano(),
                streams=dict(counts.records),
                dead_letters=dead_letters.dead_letters,
                dead_letter_bytes=dead_letters.dead_letter_bytes,
                retained_bytes=dead_letters.retained_bytes,
                degraded=self._state.file.degraded,
            )

    @property
    def held_bytes(self) -> int:
        """Of all that is held. Takes no lock, so that a probe waits for no disk."""
        return self._state.counts.total_bytes()

    @property
    def bytes_in_memory(self) -> int:
        """Of batches without a disk and of leases that are out. Takes no lock."""
        state = self._state
        return state.memory.bytes + sum([out.lease.request_bytes for out in state.leases.open()])

    def ledger(self) -> Ledger:
        """A copy of the ledger."""
        return self.balance()[0]

    def held(self) -> Mapping[Stream, int]:
        """Records held per stream, counted apart from the ledger."""
        return self.balance()[1]

    def balance(self) -> tuple[Ledger, Mapping[Stream, int]]:
        """Ledger and held records of one instant: `ledger.residue(held)` is 0 everywhere."""
        with self._lock:
            return Ledger(self._state.checkpoint.ledger.postings()), dict(self._state.counts.records)

    def dead_letters(self, numbers: Sequence[int] | None = None) -> list[DeadLetter]:
        """The dead letters, oldest first: those asked for, or all. Bounded by `dead_letter_max_bytes`."""
        with self._changing:
            found = self._dead_letters.all()
        return found if numbers is None else [dead_letter for dead_letter in found if dead_letter.id in set(numbers)]

    def resend(self, numbers: Sequence[int]) -> int:
        """Puts dead letters back into the queue; returns their records."""
        dead_letters = self.dead_letters(numbers)
        with self._changing:
            records = self._dead_letters.resend(dead_letters)
            self._notify()
            return records

    def discard_dead_letters(self, numbers: Sequence[int]) -> None:
        """Deletes dead letters for good."""
        with self._changing:
            self._dead_letters.discard(numbers)

    # --- notes for the next life ---

    def checkpoint_watching(self, watched_until: Mapping[tuple[str, Stream], int]) -> None:
        """Remembers until when (Unix nanoseconds) streams of upstreams were watched; others keep their time."""
        with self._changing:
            self._state.watch(watched_until)

    def last_watching(self) -> dict[tuple[str, Stream], int]:
        """Until when each upstream's stream was watched, in this life or an earlier one."""
        with self._lock:
            return dict(self._state.watched)

    def notes(self, beginning: str) -> dict[str, str]:
        """What an earlier life noted under keys that begin so; nothing where it cannot be read."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            store = self._state.file.store
            return store.notes(beginning) if store is not None else {}
        return {}

    # --- tending ---

    def tend(self) -> bool:
        """One round of upkeep; True when there is more to do.

        Does commands, looks after the folder and the disk, writes what waits for it, drops what is too old.
        """
        for command in collect(self._settings.directory):
            {"resend": self.resend, "discard": self.discard_dead_letters}[command.verb](command.numbers)
        state = self._state
        with self._changing:
            if self._closed:
                return False
            if state.file.look_at_folder():
                return True  # it is told before the work on it begins
            more = (state.file.error is not None or state.file.uncounted) and state.recover()
            change = Change()
            more = self._overflow.expire(change, EXPIRE_AT_ONCE) or more
            if change:
                state.write(change)
            more = self._dead_letters.trim() or more
            state.tidy()
            self._notify()
        self.sync()
        return more

    def glance(self) -> bool:
        """Half a round: looks whether the files are still there, and syncs; True when `tend` has to see to them."""
        with self._changing:
            if self._closed:
                return False
            if self._state.file.look_at_folder():
                return True
        self.sync()
        return False

    def sync(self) -> None:
        """Syncs to disk what was written since the last call, where commits do not. A put goes on meanwhile."""
        state = self._state
        try:
            if self._settings.synchronous == "normal" and not self._closed:
                state.file.sync(state.checkpoint.revision)
        except OSError as error:
            with self._changing:
                state.file.degrade(error)

    def close(self) -> None:
        """Gives the queue up; what is held waits for the next start. Leases that are out are given back."""
        self.upkeep.stop()
        state = self._state
        with self._changing:
            if self._closed:
                return
            self._closed = True
            if state.file.look_at_folder():
                while state.recover():
                    pass
            state.checkpoint.unsynced = False
            state.write(Change())
            state.close()
            self._folder.release()
        self.wake()


class QueueOfSignal:
    """As much of the queue as is of one signal, for the workers that carry it."""

    def __init__(self, queue: DurableQueue, signal: Signal) -> None:
        self._signal = signal
        self._queue = queue
        self.wake, self.lift_linger = queue.wake, queue.lift_linger
        self.leave_out, self.let_in = queue.leave_out, queue.let_in
        self.settle, self.dead_letter, self.replace = queue.settle, queue.dead_letter, queue.replace
        self.has_work = partial(queue.has_work, signal)
        self.wait_for_work = partial(queue.wait_for_work, signal=signal)
        self.take = partial(queue.take, signal=signal)
        self.leases = partial(queue.leases, signal)

    @property
    def left_out(self) -> Collection[Stream]:
        """Streams from which nothing is leased for now."""
        return self._queue.left_out

    def held(self) -> Mapping[Stream, int]:
        """Records held per stream."""
        return {stream: held for stream, held in self._queue.held().items() if STREAMS[stream].signal is self._signal}


LeasingQueue: TypeAlias = DurableQueue | QueueOfSignal
"""What workers take from."""


class Upkeep:
    """The thread that runs `tend` each second, or at once where there is more to do, and `glance` in between.

    Where nothing was written since the last of them, it rests for the second, or until something is.
    """

    def __init__(
        self, tend: Callable[[], bool], glance: Callable[[], bool], tell: Tell, *, revision: Callable[[], int]
    ) -> None:
        self._tend, self._glance, self._revision = tend, glance, revision
        self._stopping, self._written = threading.Event(), threading.Event()
        self._resting, self._seen = False, -1
        self._thread = SupervisedThread("queue-upkeep", self._turn, tell=tell)
        self.pulse = self._thread.pulse
        self._thread.start()

    def _turn(self) -> bool:
        seen, self._seen = self._seen, self._revision()
        at_once = self._tend() or (seen == self._seen and self._rest())
        if not at_once and not self._stopping.wait(SYNC_SECONDS) and not self._glance():
            self._stopping.wait(SYNC_SECONDS)
        return not self._stopping.is_set()

    def _rest(self) -> bool:
        """Waits for a second, or until something is written: that is synced half a second later. True for a second."""
        self._written.clear()
        self._resting = True  # before the revision is looked at: who writes looks at this afterwards
        quiet = self._revision() == self._seen and not self._stopping.is_set()
        over = quiet and not self._written.wait(2 * SYNC_SECONDS)
        self._resting = False
        return over

    def note_write(self) -> None:
        """Something was written. Any thread."""
        if self._resting:
            self._written.set()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._written.set()
        self._thread.join(STOP_SECONDS)
