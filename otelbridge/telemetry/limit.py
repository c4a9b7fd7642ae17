"""So many lines per reason and window go through; the others are counted, and their latest is told when it is over."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

WINDOW_SECONDS = 10.0
MAX_REASONS = 1024
"""Reasons remembered; beyond it the oldest is forgotten, so that an attacker's values cannot fill the memory."""

T = TypeVar("T")


@dataclass(slots=True)
class _Window(Generic[T]):
    opened_seconds: float
    shown: int = 0
    more: int = 0
    latest: T | None = None


class Limit(Generic[T]):
    """Sans clock: every call is given the time, in monotonic seconds. Used by one thread."""

    def __init__(self, *, window_seconds: float = WINDOW_SECONDS, max_reasons: int = MAX_REASONS) -> None:
        self._window_seconds = window_seconds
        self._max_reasons = max_reasons
        self._windows: dict[Hashable, _Window[T]] = {}

    def admit(self, reason: Hashable, item: T, *, now_seconds: float, per_window: int = 1) -> bool:
        """Whether the item may be shown; if not, it is kept as the latest of its reason until `due` gives it back."""
        window = self._windows.get(reason)
        if window is None:
            if len(self._windows) >= self._max_reasons:
                self._windows.pop(next(iter(self._windows)))
            window = self._windows[reason] = _Window(now_seconds)
        if window.shown < per_window:
            window.shown += 1
            return True
        window.more += 1
        window.latest = item
        return False

    def due(self, *, now_seconds: float, all_windows: bool = False) -> list[tuple[T, int]]:
        """The latest item of each window that is over, with how many it stands for; a quiet window is forgotten.

        Args:
            now_seconds: the time.
            all_windows: what is held back of windows that are not over is given too; those without any go on.
        """
        given: list[tuple[T, int]] = []
        for reason, window in list(self._windows.items()):
            over = now_seconds - window.opened_seconds >= self._window_seconds
            if window.latest is not None and (over or all_windows):
                given.append((window.latest, window.more))
                self._windows[reason] = _Window(now_seconds, shown=1)
            elif over:
                del self._windows[reason]
        return given
