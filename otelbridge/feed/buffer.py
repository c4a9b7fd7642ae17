"""The buffer between the readers and the encoder, and the account of all bytes that are under way in the bridge.

While a reader does not read, KubeArmor's 1,000-slot buffers overflow and nobody counts it. So a reader takes no lock
here: it appends to a deque, which is atomic, and writes counters that only it writes. What does not fit is dropped and
counted, which is the better loss, because it becomes a gap record. Only large events wait for room: of those, slots and
window hold more than memory does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from otelbridge.event import RawEvent, Stream

GATHER_EVENTS = 10
"""At low rates a turn waits for so many."""
GATHER_SECONDS = 0.015
"""But not longer: with its turn, an event is on disk 20 ms after its receipt."""
GATHER_MIN_SECONDS = 0.008
GATHER_SECONDS_PER_RATE = 0.002 / 1000
"""From 1,000 events/s on it waits 10 ms, and 2 ms more per further 1,000."""
GATHER_MAX_SECONDS = 0.03
"""But never longer."""
SHORTEST_TURN_SECONDS = 0.0001
LEAST_TURN_SECONDS = 0.005
"""What is handed over sooner after a turn waits until so long after it."""


def gather_seconds(events_per_second: float) -> float:
    """How far apart turns begin at a rate, where no reader says when it is time."""
    for_events = min(GATHER_EVENTS / max(events_per_second, 1.0), GATHER_SECONDS)
    return min(max(for_events, GATHER_MIN_SECONDS + events_per_second * GATHER_SECONDS_PER_RATE), GATHER_MAX_SECONDS)


class TurnSchedule:
    """When the encoder takes events next. Times are monotonic seconds, given by the caller.

    Used by the encoder's thread, but for `hand_over`. An event after a quiet moment is not kept waiting: the time of
    the next turn has passed then.
    """

    def __init__(self) -> None:
        self._taken_at = 0.0
        self._next_turn_at = 0.0
        self._rate = 0.0
        self._pause_seconds = 0.0

    @property
    def expects_events(self) -> bool:
        """Whether, at the last turn's rate, events come before the next turn: one timed wait is cheaper then."""
        return self._rate * (self._next_turn_at - self._taken_at) > 1

    @property
    def handed_over(self) -> bool:
        """Whether a reader has handed over since the last turn."""
        return self._pause_seconds > 0

    def early_seconds(self, now: float) -> float:
        """How long it is until the next turn; negative when that moment has passed."""
        due = self._taken_at + LEAST_TURN_SECONDS if self.handed_over else self._next_turn_at
        return due - now

    def hand_over(self, pause_seconds: float) -> None:
        """A reader pauses, so there is nothing more to wait for. By any reader's thread."""
        self._pause_seconds = pause_seconds

    def took(self, events: int, now: float) -> None:
        """A turn has taken so many events, at least one."""
        self._rate = events / max(now - self._taken_at, SHORTEST_TURN_SECONDS)
        # After a hand-over, the next one comes when the reader has read what came during its pause.
        paused, self._pause_seconds = self._pause_seconds, 0.0
        self._next_turn_at = now + (paused + GATHER_SECONDS if paused else gather_seconds(self._rate))
        self._taken_at = now


CREDIT_BYTES = 64 * 1024
"""A writer looks at the account once per so many bytes; its bound is kept to as much."""

LARGE_EVENT_BYTES = CREDIT_BYTES
HOLD_SECONDS = 2.0
"""A large event waits so long for room, and flow control with it: the encoder makes some in tenths of a second. Where
it does not, because the disk stands still, large events are dropped as any other until it goes on."""

LOOKAHEAD_BYTES = 32 * 1024 * 1024
"""The HTTP/2 window of a stream: so much may be under way and not read yet, and is memory only while it is. Of a burst
of 100,000 events/s KubeArmor's 1,000 slots hold 10 ms; 37,000 events more fit in here (docs/decisions/pacing.md)."""
LEAST_LOOKAHEAD_BYTES = 64 * 1024
"""HTTP/2's own, where very many streams share the account."""
LOOKAHEAD_SHARE = 0.6
"""Of the account, for the windows of all streams together."""


class ByteBudget:
    """One account for all bytes under way, with one bound.

    It keeps no sum of its own: each owner counts what it has, and is asked. What gRPC may read ahead cannot be counted,
    so it is reserved whole.

    Args:
        max_bytes: the bound.
        elsewhere: bytes that other components have in memory: in requests, and in batches without a disk.
    """

    def __init__(self, max_bytes: int, elsewhere: Callable[[], int] = lambda: 0) -> None:
        self.max_bytes = max_bytes
        self.streams = 0
        """How many share the windows."""
        self._elsewhere = elsewhere

    @property
    def window_bytes(self) -> int:
        """The window of each stream."""
        share = int(self.max_bytes * LOOKAHEAD_SHARE) // max(1, self.streams)
        return max(LEAST_LOOKAHEAD_BYTES, min(LOOKAHEAD_BYTES, share))

    def used_bytes(self, received_bytes: int) -> int:
        """All that is under way, with what was received and is not on disk."""
        windows = min(self.streams * self.window_bytes, int(self.max_bytes * LOOKAHEAD_SHARE))
        return windows + received_bytes + self._elsewhere()


BURST_EVENTS = 600
BURST_SECONDS = 0.5
"""At 20,000 events/s (600 in 30 ms) reading comes first: the encoder waits, half a second at most, before it competes
for the interpreter. A reader that wants it from a busy encoder gets it for one event every 5 ms, and KubeArmor's slots
overflow meanwhile; alone, it takes 100,000 a second. docs/decisions/pacing.md has the figures."""

LET_IN_SECONDS = 0.0005
LET_IN_STEPS = 10
LET_IN_EVENTS = 40
"""In a long turn of the encoder readers are let in: half a millisecond, and again while they bring 40 events, which is
full speed, so there is more; 5 ms at most. At 10,000 events/s and 200 ms a commit an event waited up to 100 ms to be
read without this, with it up to 25."""

BUFFER_FULL = "buffer_full"
OVERSIZED = "oversized"

OVERFLOW_GATHER_NANOSECONDS = 1_000_000_000
"""Drops of one writer are gathered for a second before they are handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedEvents:
    """Events that one reader received, or could not take, and that went no further; since the last look."""

    stream: Stream
    upstream: str
    reason: str
    """`buffer_full`, or `oversized`: larger than what one message may be, so that gRPC did not hand it out."""
    events: int
    first_unix_nano: int
    last_unix_nano: int


class BufferWriter:
    """One reader's way into the buffer. Every counter has one writer, so each is exact without a lock."""

    __slots__ = (
        "_buffer", "_credit_bytes", "_held_in_vain", "_waiting", "behind_since_unix_nano", "bytes", "dropped",
        "dropped_bytes", "events",
        "first_drop_unix_nano", "last_drop_unix_nano", "last_event_unix_nano", "oversized", "reported", "stream",
        "upstream",
    )  # fmt: skip

    def __init__(self, buffer: Buffer, waiting: deque[RawEvent], stream: Stream, upstream: str) -> None:
        self._buffer = buffer
        self._waiting = waiting
        self._credit_bytes = 0
        self._held_in_vain = -1  # at that turn
        self.stream = stream
        self.upstream = upstream
        self.events = 0
        self.bytes = 0
        self.dropped = 0
        self.reported = 0
        """The encoder's: drops that take_overflow has handed out."""
        self.dropped_bytes = 0
        self.first_drop_unix_nano = 0
        self.last_drop_unix_nano = 0
        self.last_event_unix_nano = 0
        self.behind_since_unix_nano = 0
        """When an event was held, if its reader has not waited for one since: what came meanwhile may be unread."""
        self.oversized = 0
        """Events too large to be taken, which the ledger has not heard of: 1 at most, because it ends the stream."""

    def offer(self, event: RawEvent) -> bool:
        """Leaves an event for the encoder; False when it was dropped, and counted, because the buffer is full."""
        size = len(event[1])
        self.events += 1
        self.bytes += size
        self.last_event_unix_nano = event[2]
        buffer = self._buffer
        if len(self._waiting) >= buffer.max_events or (self._credit_bytes < size and not self._renew_credit(size)):
            self._drop(size, event[2])
            return False
        self._credit_bytes -= size
        self._waiting.append(event)
        if buffer.sleeping:
            buffer.rouse()
        return True

    @property
    def flooded(self) -> bool:
        """Whether nearly all events are only counted."""
        return self._buffer.flooded

    def hand_over(self, pause_seconds: float) -> None:
        """Its reader has read everything, and pauses for so long: what it has brought need not wait for more."""
        self._buffer.hand_over(pause_seconds)

    def _renew_credit(self, size: int) -> bool:
        # This event's bytes are counted as received already, so they are added back.
        room = self._buffer.room_bytes() + size
        # An event larger than the whole bound passes when it is alone: otherwise it could never pass at all.
        if size > room and self._buffer.received_bytes > size:
            return size >= LARGE_EVENT_BYTES and self._hold(size)
        self._credit_bytes = max(size, min(room, CREDIT_BYTES))
        return True

    def _hold(self, size: int) -> bool:
        """Waits for room; False where there was none in time."""
        self.dropped_bytes += size  # it is in nobody's way while it waits
        buffer, until = self._buffer, time.monotonic() + HOLD_SECONDS
        self.behind_since_unix_nano = self.behind_since_unix_nano or self.last_event_unix_nano
        with buffer.room_made:
            buffer.holding += 1
            fits = True
            while size > buffer.room_bytes() and buffer.received_bytes > 0:
                fits = self._held_in_vain != buffer.turns and buffer.room_made.wait(until - time.monotonic())
                if not fits:
                    self._held_in_vain = buffer.turns
                    break
            buffer.holding -= 1
            self.dropped_bytes -= size
        self._credit_bytes = size * fits
        return fits

    def _drop(self, size: int, unix_nano: int) -> None:
        self.last_drop_unix_nano = unix_nano
        if not self.first_drop_unix_nano:
            self.first_drop_unix_nano = unix_nano
        self.dropped_bytes += size
        self.dropped += 1

    def lose_oversized(self) -> None:
        """An event that is too large has ended the stream: it counts as received and dropped."""
        self.events += 1
        self.oversized += 1

    def take_oversized(self, unix_nano: int) -> DroppedEvents | None:
        """The event that was too large, once the reader has ended. For the encoder only."""
        events, self.oversized = self.oversized, 0
        return self._overflow(OVERSIZED, events, unix_nano, unix_nano) if events else None

    def take_overflow(self) -> DroppedEvents | None:
        """What was dropped since the last call, or None. For the encoder only."""
        # The start is taken before the count: a drop in between is counted now, and only dates a later report.
        first, self.first_drop_unix_nano = self.first_drop_unix_nano, 0
        events, last = self.dropped - self.reported, self.last_drop_unix_nano
        if not events:
            return None
        self.reported += events
        return self._overflow(BUFFER_FULL, events, first or last, last)

    def _overflow(self, reason: str, events: int, first: int, last: int) -> DroppedEvents:
        return DroppedEvents(
            stream=self.stream,
            upstream=self.upstream,
            reason=reason,
            events=events,
            first_unix_nano=first,
            last_unix_nano=last,
        )


@dataclass(frozen=True, slots=True)
class _Writers:
    """All open writers, and what the closed ones brought. Replaced as a whole, so that a reader of it needs no lock."""

    writers: tuple[BufferWriter, ...]
    closed_bytes: int
    """Without what was dropped."""


class Alarm:
    """One thread waits, others wake it: an Event at a fifth of its cost, which counts where a turn has one event."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Ends the wait, or the next one."""
        with suppress(RuntimeError):  # it is set already
            self._lock.release()

    def clear(self) -> None:
        """Forgets that it was set. For the thread that waits."""
        self._lock.acquire(blocking=False)

    def wait(self, seconds: float) -> None:
        """Until it is set, for so long at most; it is not set afterwards."""
        self._lock.acquire(timeout=max(0.0, seconds))


TAKE_BYTES = 4 * 1024 * 1024
"""Most bytes of one turn, unless a single event is larger: an event is several times its size while it is encoded."""


class Buffer:
    """The bounded buffer between readers (one thread per writer) and one encoder."""

    def __init__(self, max_events: int, budget: ByteBudget) -> None:
        self.max_events = max_events
        self.budget = budget
        self.room_made = threading.Condition()
        """Told when a turn's events are on disk, where a reader holds one."""
        self.holding = 0
        """So many readers do."""
        self.turns = 0
        """So many turns are."""
        self._turn_from_unix_nano = 0
        """When the first event of the present turn was received."""
        self.sleeping = False
        """The encoder waits for a first event. A plain flag: setting an Event for every event would cost 1 us each."""
        self.flooded = False
        """Nearly all events of the last turn were only counted. The encoder's."""
        self._waiting: deque[RawEvent] = deque()
        self._awake = Alarm()
        self._woken = False
        self._taken_bytes = 0
        self._done_bytes = 0
        self._schedule = TurnSchedule()
        self._burst_seconds_left = BURST_SECONDS
        self._writers = _Writers((), 0)
        self._ending: list[BufferWriter] = []
        self._writers_lock = threading.Lock()  # between those that open and end writers; never taken per event

    # --- readers ---

    def open_writer(self, stream: Stream, upstream: str) -> BufferWriter:
        """A way in for one reader thread, to be ended with `close_writer` when that thread is over."""
        writer = BufferWriter(self, self._waiting, stream, upstream)
        with self._writers_lock:
            before = self._writers
            self._writers = _Writers((*before.writers, writer), before.closed_bytes)
        return writer

    def close_writer(self, writer: BufferWriter) -> None:
        """Its reader is over: the writer's counts live on in the sums, its last drops in `take_overflow`."""
        with self._writers_lock:
            if writer.dropped or writer.oversized:
                self._ending.append(writer)
            before = self._writers
            self._writers = _Writers(
                tuple(other for other in before.writers if other is not writer),
                before.closed_bytes + writer.bytes - writer.dropped_bytes,
            )

    def rouse(self) -> None:
        """Ends the encoder's wait; called by the one that saw `sleeping`."""
        self.sleeping = False
        self._awake.set()

    def hand_over(self, pause_seconds: float) -> None:
        """Ends the encoder's wait for more events, as a reader pauses."""
        self._schedule.hand_over(pause_seconds)
        self._awake.set()

    # --- encoder ---

    def take(self, max_events: int, timeout_seconds: float) -> list[RawEvent]:
        """Up to `max_events` of the events that wait, and some `TAKE_BYTES` of them, oldest first.

        Waits for the first event: after a quiet moment it is taken at once. While events come, some of them are
        gathered before they are taken. What was taken before is on disk by now.

        Returns:
            An empty list after `timeout_seconds` without an event, or after `wake`.
        """
        waiting = self._waiting
        if self._done_bytes != self._taken_bytes:
            self._done_bytes = self._taken_bytes
            self.turns += 1
            if self.holding:  # set before its reader has looked at the bytes and the turns above
                with self.room_made:
                    self.room_made.notify_all()
        if not waiting:
            self._burst_seconds_left = BURST_SECONDS
        if waiting or self._schedule.expects_events:
            gathered = self._gather(max_events, timeout_seconds)
            if not waiting:
                self._sleep(timeout_seconds - gathered)
        else:  # one wake-up an event, not a second one at the end of a wait for events that seldom come
            self._sleep(timeout_seconds)
            if waiting:
                self._gather(max_events, timeout_seconds)
        self._let_a_burst_in()
        self._woken = False
        popleft = waiting.popleft
        events = [popleft() for _ in range(min(max_events, len(waiting)))]
        taken_bytes = sum([len(event[1]) for event in events])
        if taken_bytes > TAKE_BYTES:
            taken_bytes = self._put_surplus_back(events)
        self._taken_bytes += taken_bytes
        if events:
            self._turn_from_unix_nano = events[0][2]
            self._schedule.took(len(events), time.monotonic())
        return events

    def _put_surplus_back(self, events: list[RawEvent]) -> int:
        """Leaves as many events as fit into one turn, and at least one; returns their bytes."""
        kept, taken_bytes = 1, len(events[0].body)
        while kept < len(events) and taken_bytes + len(events[kept].body) <= TAKE_BYTES:
            taken_bytes += len(events[kept].body)
            kept += 1
        self._waiting.extendleft(reversed(events[kept:]))
        del events[kept:]
        return taken_bytes

    def _gather(self, max_events: int, most_seconds: float) -> float:
        """Waits until the next turn is due; returns for how long."""
        began = now = time.monotonic()
        most = began + most_seconds
        while not self._woken and len(self._waiting) < max_events:
            self._awake.clear()
            early = min(self._schedule.early_seconds(now), most - now)  # looked at after it is cleared
            if early <= 0:
                break
            self._awake.wait(early)  # no event ends this one, because `sleeping` is off; `hand_over` and `wake` do
            now = time.monotonic()
        return now - began

    def _let_a_burst_in(self) -> None:
        """Waits while events come in a burst, as long as half of the buffer is free."""
        waiting, before = self._waiting, 0
        while len(waiting) - before >= BURST_EVENTS and self._burst_seconds_left > 0 and not self._woken:
            before = len(waiting)
            if before > self.max_events // 2:
                return
            self._awake.clear()
            self._awake.wait(GATHER_MAX_SECONDS)
            self._burst_seconds_left -= GATHER_MAX_SECONDS

    def let_readers_in(self) -> None:
        """Steps aside, so that readers catch up with what has come in during a piece of a long turn."""
        for _ in range(LET_IN_STEPS):
            before = len(self._waiting)
            self._awake.clear()
            self._awake.wait(LET_IN_SECONDS)
            if len(self._waiting) - before < LET_IN_EVENTS:
                return

    def _sleep(self, timeout_seconds: float) -> None:
        # Safe without a lock: the flag is set before the deque is looked at again, and a reader appends before it looks
        # at the flag, so one of the two sees the other.
        self._awake.clear()
        self.sleeping = True
        if not self._waiting and not self._woken:
            self._awake.wait(timeout_seconds)
        self.sleeping = False

    def wake(self) -> None:
        """Makes the present `take`, or the next one, return without waiting."""
        self._woken = True
        self._awake.set()

    def take_overflow(self, *, at_once: bool = False) -> list[DroppedEvents]:
        """What was lost since it was last handed out, one per writer and reason; for the encoder, which posts it.

        Args:
            at_once: also what began less than a second ago and may go on. Otherwise an encoder that turns 500 times a
                second would make as many gaps of one overflow. What an ended writer dropped is always handed out.
        """
        with self._writers_lock:
            ended, self._ending = self._ending, []
            writers = self._writers.writers
        now = time.time_ns()
        due = [
            writer
            for writer in writers
            if writer.dropped != writer.reported
            and (at_once or writer.first_drop_unix_nano <= now - OVERFLOW_GATHER_NANOSECONDS)
        ]
        if not ended and not due:
            return []
        overflows = [overflow for writer in [*ended, *due] if (overflow := writer.take_overflow())]
        return overflows + [oversized for writer in ended if (oversized := writer.take_oversized(now))]

    # --- anyone ---

    @property
    def waiting_events(self) -> int:
        """Events that wait for the encoder."""
        return len(self._waiting)

    def settled_until(self, unix_nano: int) -> int:
        """Up to when all that was received is on disk; the given time, where nothing waits."""
        with suppress(IndexError):  # the encoder has just taken the last one
            unix_nano = min(unix_nano, self._waiting[0][2])
        return min(unix_nano, self._turn_from_unix_nano) if self._done_bytes != self._taken_bytes else unix_nano

    @property
    def received_bytes(self) -> int:
        """Bytes of the events that wait or are being encoded, exact up to the event being offered."""
        writers = self._writers
        received = sum([writer.bytes - writer.dropped_bytes for writer in writers.writers])
        return writers.closed_bytes + received - self._done_bytes

    def under_way_bytes(self) -> int:
        """All that the bridge has in memory on its way, and what gRPC may read ahead."""
        return self.budget.used_bytes(self.received_bytes)

    def room_bytes(self) -> int:
        """What may still come; negative where the account is overdrawn."""
        return self.budget.max_bytes - self.under_way_bytes()
