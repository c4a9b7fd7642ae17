"""Proof that a thread of ours still turns: each loop beats its pulse, the liveness probe reads them all."""

from __future__ import annotations

import time


class Pulse:
    """One thread's last sign of life, on the monotonic clock. Beating is a single attribute write: no lock."""

    __slots__ = ("_last", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._last = time.monotonic()

    def beat(self) -> None:
        """Called by the thread itself at least every few seconds, also while it waits."""
        self._last = time.monotonic()

    def age_seconds(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last
