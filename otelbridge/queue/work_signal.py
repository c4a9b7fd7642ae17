"""Lets workers wait until work is due, and wakes one waiting worker at a time, last in first out.

Waking all would wake, for each batch, one worker that sends it and another that finds nothing: at 100 events a second
that one was a sixth of all that the bridge used (docs/decisions/pacing.md). A worker that takes something and leaves
something wakes the next one. The last one to wait has what it needs in the processor's caches. For what is due later
one of them sets an alarm, and nobody is woken before.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


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
