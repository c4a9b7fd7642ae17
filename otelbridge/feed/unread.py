"""Knows how much of what has come on a connection waits unread, and since when: gRPC drops it when its stream ends.

The kernel counts the bytes that came, the readers those that they have read. What no event explains (TLS, pings) is
learnt from the least that waits in a second, where it is no more than such overhead can be: else a reader that is a
little slow would look like overhead.
"""

from __future__ import annotations

import time

ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine is suspended, and nobody sets it."""

LEARN_NANOS = 1_000_000_000
"""The least that waited in so long was no event, where it is no more than overhead."""
OVERHEAD_BYTES = 4096
"""Of pings, in such a stretch."""
OVERHEAD_SHARE = 0.002
TLS_OVERHEAD_SHARE = 0.035
"""Of what came, at most: a reader that is slower by less than that is not told from it."""
PING_BYTES = 256
"""Less than an event: pings and an answer to a health check, which nobody reads, and which are not learnt yet."""
UNDER_WAY_NANOS = 100_000_000
"""What came in so long is being read, in gulps."""


class Unread:
    """One per connection, for one thread at a time. Times are those of `ELAPSED_CLOCK` in nanoseconds, passed in.

    Args:
        tls: whether the connection speaks it.
    """

    def __init__(self, *, tls: bool) -> None:
        self._overhead_share = TLS_OVERHEAD_SHARE if tls else OVERHEAD_SHARE
        self._never_read: int | None = None
        """Bytes that came and are no events'."""
        self._least = (0, 0, 0)
        """When it was begun to look for the least that waits, what had come by then, and how much it is."""
        self._has_dropped = False
        self._before = (0, 0)
        """When the stretch before began, and what had come by then."""
        self.read_until: int | None = None
        """All that had come by then was read; None before the first look. One number for all streams: of what is
        unread nobody says whose it is, and one reader may be further behind than the others."""

    def look(self, now: int, arrived: int, read: int) -> int:
        """Takes in how it stands; returns how many bytes wait.

        Args:
            now: not later than `arrived` was asked for.
            arrived: bytes that the kernel has received.
            read: bytes of the events read, with what frames them; not asked for later than `arrived`.
        """
        more = arrived - read
        since, arrived_then, least = self._least
        if self._never_read is None:
            self._never_read, since, arrived_then, least = more, now, arrived, more
            self._before = now - LEARN_NANOS, arrived
        elif now - since >= LEARN_NANOS:
            overhead = OVERHEAD_BYTES + self._overhead_share * (arrived - arrived_then)
            if self._never_read < least <= self._never_read + overhead or self._has_dropped:
                self._never_read, self._has_dropped = least, False
            self._before = since, arrived_then
            since, arrived_then, least = now, arrived, more
        self._least = since, arrived_then, min(least, more)
        self._never_read = min(self._never_read, more)
        unread, (began, arrived_then) = more - self._never_read, self._before
        if unread <= PING_BYTES + (arrived - arrived_then) / (now - began) * UNDER_WAY_NANOS:
            self.read_until = now
        return unread

    def dropped(self) -> None:
        """A stream has ended, and what waited of it is no event any more."""
        self._has_dropped = True
