"""Where couriers wait for work: news rings for one of them, and whoever leaves something behind rings for the next.

Ringing for all would wake, for each batch, one courier that sends it and another that finds nothing: at 100 events a
second that one was a sixth of all that the bridge used (docs/decisions/pacing.md). The one that came last is woken
first: what it needs is still in the processor's caches, and at low rates the others sleep on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class WorkSignal:
    """One per queue. Whoever calls anything but `wait` and `wake` holds the queue's lock.

    Args:
        lock: the queue's.
        is_free: whether, by the counts, something is held that is not out with a courier.
    """

    def __init__(self, lock: threading.Lock, is_free: Callable[[], bool]) -> None:
        self._lock = lock
        self._is_free = is_free
        self._sleepers: list[threading.Lock] = []
        """One for each that waits; released to wake it."""
        self._barren = False
        """What is free by the counts could not be read when it was last asked for: no work until there is news."""
        self._woken = False

    def has_work(self) -> bool:
        """Whether it is worth a courier's while to ask."""
        return not self._barren and self._is_free()

    def ring(self) -> None:
        """There is news: a batch came, or came back, or the disk was tended."""
        self._barren = False
        if self._is_free():
            self._wake_one()

    def asked(self, *, in_vain: bool) -> None:
        """A courier has asked: if it got something and left something, that is for another one."""
        self._barren = in_vain
        if not in_vain and self._is_free():
            self._wake_one()

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until there is work, `wake` is called, or time is up; True when there is work."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            while not self.has_work():
                left = deadline - time.monotonic()
                if self._woken or left <= 0:
                    break
                self._sleep(left)
            self._woken = False
            return self.has_work()

    def wake(self) -> None:
        """Ends every `wait` that is under way."""
        with self._lock:
            self._woken = True
            while self._sleepers:
                self._wake_one()

    @property
    def sleepers(self) -> int:
        """How many wait."""
        return len(self._sleepers)

    def _wake_one(self) -> None:
        if self._sleepers:
            self._sleepers.pop().release()

    def _sleep(self, seconds: float) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        self._sleepers.append(alarm)
        self._lock.release()
        try:
            alarm.acquire(timeout=seconds)
        finally:
            self._lock.acquire()
            if alarm in self._sleepers:  # time was up
                self._sleepers.remove(alarm)
