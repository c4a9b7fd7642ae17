"""Decides how long a reader that has read everything pauses, so that it wakes for several events at once.

What comes meanwhile waits in gRPC's buffers: its own threads go on taking it from the socket, up to the stream's window
(channel.py), so KubeArmor's slots do not fill. docs/decisions/linger.md has the figures.
"""

from __future__ import annotations

WAITED_NANOS = 300_000
"""A reader that had to wait so long for an event has read everything that was there."""
LEAST_EVENTS_PER_SECOND = 60
"""Below, a pause rarely gathers two events, and ends with one more wake-up."""
MOST_EVENTS_PER_SECOND = 5_000
"""Above, events come several at a time anyway, and a wait may be one for a busy interpreter instead of for an event."""
WINDOW_NANOS = 1_000_000_000


class ReadPause:
    """One per reader. Sans clock: Unix nanoseconds are given by the caller; a clock that is set does no harm."""

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._since_unix_nano = 0
        self._events_then = 0
        self._rate = 0.0

    def seconds(self, now_unix_nano: int, events: int) -> float:
        """Asked by a reader that has read everything; 0 for reading on.

        Args:
            now_unix_nano: the time.
            events: how many it has read since it began.
        """
        elapsed, read = now_unix_nano - self._since_unix_nano, events - self._events_then
        if not 0 <= elapsed < WINDOW_NANOS:
            self._rate = max(0.0, read * WINDOW_NANOS / elapsed)
            self._since_unix_nano, self._events_then, read = now_unix_nano, events, 0
        rate = max(self._rate, read)
        return self._pause_seconds if LEAST_EVENTS_PER_SECOND <= rate <= MOST_EVENTS_PER_SECOND else 0.0
