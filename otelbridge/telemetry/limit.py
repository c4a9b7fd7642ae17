"""One line per reason and window goes through; the others are counted, and told with the next one that does."""

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
    more: int = 0
    latest: T | None = None


class Limit(Generic[T]):
    """Sans clock: every call is given the time, in monotonic seconds. Used by one thread."""

    def __init__(self, *, window_seconds: float = WINDOW_SECONDS, max_reasons: int = MAX_REASONS) -> None:
        self._window_seconds = window_seconds
        self._max_reasons = max_reasons
        self._windows: dict[Hashable, _Window[T]] = {}

    def admit(self, reason: Hashable, item: T, *, now_seconds: float) -> bool:
        """Whether the item may be shown; if not, it is kept as the latest of its reason until `due` gives it back."""
        window = self._windows.get(reason)
        if window is None:
            if len(self._windows) >= self._max_reasons:
                self._windows.pop(next(iter(self._windows)))
            self._windows[reason] = _Window(now_seconds)
            return True
        window.more += 1
        window.latest = item
        return False

    def due(self, *, now_seconds: float, all_windows: bool = False) -> list[tuple[T, int]]:
        """The latest item of each window that is over, with how many it stands for; a quiet window is forgotten."""
        given: list[tuple[T, int]] = []
        for reason, window in list(self._windows.items()):
            if not all_windows and now_seconds - window.opened_seconds < self._window_seconds:
                continue
            del self._windows[reason]
            if window.latest is not None:
                given.append((window.latest, window.more))
                self._windows[reason] = _Window(now_seconds)
        return given
