"""Where happenings wait for the thread that tells them: urgent ones wake it, everyday ones wait until it comes by.

Putting takes no lock and waits for nothing: a reader of events may do it, and a signal handler in the middle of it.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Filled by any thread, emptied by one; bounded.

    Args:
        max_letters: beyond it a letter is not taken.
    """

    def __init__(self, max_letters: int) -> None:
        self.max_letters = max_letters
        self._letters: deque[T] = deque()
        self._stirred: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put may be interrupted by another put

    def put(self, letter: T, *, urgent: bool) -> bool:
        """Leaves a letter; False when the box is full."""
        if len(self._letters) >= self.max_letters:
            return False
        self.insist(letter, urgent=urgent)
        return True

    def insist(self, letter: T, *, urgent: bool = True) -> None:
        """Leaves a letter even in a full box."""
        self._letters.append(letter)
        if urgent:
            self._stirred.put(None)

    def take(self, timeout_seconds: float) -> Iterator[T]:
        """What is there, in the order in which it came, as soon as a letter is urgent or time is up."""
        try:
            self._stirred.get(timeout=timeout_seconds)
            while True:
                self._stirred.get_nowait()  # the letters behind all of these are taken below
        except queue.Empty:
            pass
        for _ in range(len(self._letters)):  # not until it is empty: who takes has something to do in between
            yield self._letters.popleft()
