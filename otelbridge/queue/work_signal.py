"""Lets workers wait for work, and wakes one waiting worker at a time, last in first out.

Waking all would wake, for each batch, one worker that sends it and another that finds nothing: at 100 events a second
that one was a sixth of all that the bridge used (docs/decisions/pacing.md). A worker that takes something and leaves
something wakes the next one. The last one to wait has what it needs in the processor's caches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class WorkSignal:
    """One per queue. Whoever calls anything but `wait` and `wake` holds the queue's lock.

    Args:
        lock: the queue's.
        is_free: whether, by the counts, something is held that is not leased.
    """

    def __init__(self, lock: threading.Lock, is_free: Callable[[], bool]) -> None:
        self._lock = lock
        self._is_free = is_free
        self._waiters: list[threading.Lock] = []
        """One for each waiting worker; released to wake it."""
        self._unreadable = False
        """What is free by the counts could not be read when it was last asked for: no work until something changes."""
        self._woken = False

    def has_work(self) -> bool:
        """Whether a worker would probably get something."""
        return not self._unreadable and self._is_free()

    def notify(self) -> None:
        """A batch came, or came back, or the disk was tended."""
        self._unreadable = False
        if self._is_free():
            self._wake_one()

    def taken(self, *, anything: bool) -> None:
        """A worker has asked for work; if it got something and left something, that is for another one."""
        self._unreadable = not anything
        if anything and self._is_free():
            self._wake_one()

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until there is work, `wake` is called, or time is up; True when there is work."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            while not self.has_work():
                left = deadline - time.monotonic()
                if self._woken or left <= 0:
                    break
                self._block(left)
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
