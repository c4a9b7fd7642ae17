"""Keeps the latest log lines and gaps in memory, bounded, for the status page."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from otelbridge.event import Gap
from otelbridge.telemetry import events as h
from otelbridge.telemetry.log import Line

LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line as it was shown."""

    unix_nano: int
    line: Line
    more: int = 0
    """How many of the same reason it stands for, beside itself."""


class History:
    """Filled by the telemetry thread, read by the status server's."""

    def __init__(self, length: int = LENGTH) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=length)
        self._gaps: deque[Gap] = deque(maxlen=length)

    def add(self, entry: Entry) -> None:
        """Remembers a line."""
        with self._lock:
            self._entries.append(entry)

    def note(self, event: h.Event) -> None:
        """Remembers a gap, if that is what happened."""
        if isinstance(event, h.GapEnded):
            with self._lock:
                self._gaps.append(event.gap)

    def entries(self) -> list[Entry]:
        """The latest lines, oldest first."""
        with self._lock:
            return list(self._entries)

    def gaps(self) -> list[Gap]:
        """The latest gaps, oldest first."""
        with self._lock:
            return list(self._gaps)
