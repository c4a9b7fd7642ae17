"""Decides when free batches are due, and wakes one waiting worker at a time, last in first out.

Waking all would wake, for each batch, one worker that sends it and another that finds nothing: at 100 events a second
that one was a sixth of all that the bridge used (docs/decisions/pacing.md). A worker that takes something and leaves
something wakes the next one. The last one to wait has what it needs in the processor's caches. For what is due later
one of them sets an alarm, and nobody is woken before. What waits for its linger is on disk already; what was free
before this process began, or came back from a failed request, is due at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otelbridge.event import Stream
from otelbridge.queue.model import Batch
from otelbridge.queue.packing import request_bytes

AT_ONCE = -math.inf


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
    """What of one stream has come since a request last took all that was free."""

    first_at: float = AT_ONCE
    bytes: int = 0
    records: int = 0


class Linger:
    """Sans clock: times are monotonic seconds, given by the caller. Not thread-safe."""

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
        """A request took so much of what was free, or all of it."""
        arrivals = self._arrivals[stream]
        if all_of_it:
            self._arrivals[stream] = _Arrivals()
        else:
            arrivals.bytes = max(0, arrivals.bytes - size)
            arrivals.records = max(1, arrivals.records - records)

    def hurry(self, stream: Stream) -> None:
        """What is free of a stream is due now."""
        self._arrivals[stream].first_at = AT_ONCE
        self._arrivals[stream].records = max(1, self._arrivals[stream].records)

    def change(self, limits: LingerLimits) -> None:
        """Waits by these limits from now on."""
        self._limits = limits

    def lift(self) -> None:
        """Nothing waits from now on."""
        self._limits = LingerLimits()

    def due_at(self, stream: Stream) -> float:
        """When what is free of a stream is due."""
        arrivals, limits = self._arrivals[stream], self._limits
        if arrivals.bytes >= limits.enough_bytes or arrivals.records >= limits.enough_records:
            return AT_ONCE
        return arrivals.first_at + limits.seconds.get(stream, 0.0)


class WorkSignal:
    """One per queue. Whoever calls anything but `wait` and `wake` holds the queue's lock.

    Args:
        lock: the queue's.
        due_at: when, on the monotonic clock, something that is not leased is due; infinity when, by the counts, all is
            leased.
    """

    def __init__(self, lock: threading.Lock, due_at: Callable[[], float]) -> None:
        self._lock = lock
        self._due_at = due_at
        self._waiters: list[threading.Lock] = []
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
        """A batch came, or came back, or the disk was tended."""
        self._unreadable = False
        self._wake_in_time()

    def taken(self, *, anything: bool) -> None:
        """A worker has asked for work; if it got something and left something, that is for another one."""
        self._unreadable = not anything
        if anything:
            self._wake_in_time()

    def _wake_in_time(self) -> None:
        """Wakes a worker for what is due, or to set its alarm for what is due before anybody wakes by himself."""
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
            while self._waiters:
                self._wake_one()

    @property
    def waiters(self) -> int:
        """How many workers wait."""
        return len(self._waiters)

    def _wake_one(self) -> None:
        if self._waiters:
            self._waiters.pop().release()

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
        self._waiters.append(waiter)
        self._lock.release()
        try:
            waiter.acquire(timeout=seconds)
        finally:
            self._lock.acquire()
            if waiter in self._waiters:  # time was up
                self._waiters.remove(waiter)
