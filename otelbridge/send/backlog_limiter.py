"""Limits how fast a backlog goes out after an outage or a start, relative to the rate of new records.

A token bucket on records, filled at `replay_rate_factor` times the live rate. Only old records are charged; new ones
never wait. It ends when the queue has been emptied once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

OLD_SECONDS = 10.0
"""A record that waited longer belongs to the backlog."""
FREE_RECORDS = 10_000
"""What may go at once: a short outage needs no pacing."""
MIN_RECORDS_PER_SECOND = 1_000.0
"""A cluster that is quiet now must still get rid of its backlog; far below what a Collector takes."""
RATE_WINDOW_SECONDS = 60.0
SAMPLE_SECONDS = 1.0
SLICE_SECONDS = 0.25
"""Requests are cut to what this time allows, so that new records never wait longer behind old ones."""


class BacklogLimiter:
    """Thread-safe.

    Args:
        factor: how many times as fast as new records arrive; 0 sets no limit.
        held: records in the queue now, leased ones included.
        clock: monotonic seconds.
    """

    def __init__(self, factor: float, *, held: Callable[[], int], clock: Callable[[], float]) -> None:
        self._factor, self._held, self._clock = factor, held, clock
        self._lock = threading.Lock()
        self._departed = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._filled_at = clock()
        self._tokens = float(FREE_RECORDS)
        self._active = True  # what an earlier life left behind is a backlog too
        self._restrained = factor > 0

    def observe(self) -> None:
        """Called often; looks at the queue once a second to learn the live rate."""
        now = self._clock()
        with self._lock:
            if self._samples and now - self._samples[-1][0] < SAMPLE_SECONDS:
                return
            departed = self._departed
        arrived = self._held() + departed
        with self._lock:
            self._samples.append((now, arrived))
            while now - self._samples[0][0] > RATE_WINDOW_SECONDS:
                self._samples.popleft()

    def departed(self, records: int) -> None:
        """So many records left the queue for good."""
        with self._lock:
            self._departed += records

    def begin(self) -> None:
        """An outage is over."""
        with self._lock:
            self._active = True

    def end(self) -> None:
        """The queue is empty: the backlog is gone."""
        with self._lock:
            self._active = False

    def lift(self) -> None:
        """No limit from now on: the bridge is draining, and its deadline rules."""
        with self._lock:
            self._restrained = False

    def records_per_second(self) -> float | None:
        """What old records are held to, None when they are not."""
        with self._lock:
            return self._rate() if self._active and self._restrained else None

    def max_records(self, wanted: int) -> int:
        """The most records to ask the queue for."""
        with self._lock:
            if not (self._active and self._restrained):
                return wanted
            allowed = max(self._filled(), self._rate() * SLICE_SECONDS)
            return max(1, min(wanted, int(allowed)))

    def wait_seconds(self) -> float:
        """How long to wait before asking the queue for the next lease."""
        with self._lock:
            if not (self._active and self._restrained):
                return 0.0
            return max(0.0, -self._filled() / self._rate())

    def charge(self, records: int, *, age_seconds: float) -> None:
        """A lease was taken whose oldest record is so old."""
        with self._lock:
            if self._active and age_seconds > OLD_SECONDS:
                self._tokens = self._filled() - records

    def _filled(self) -> float:
        """With the lock held: the tokens now, negative while more went out than was allowed."""
        now = self._clock()
        self._tokens = min(float(FREE_RECORDS), self._tokens + (now - self._filled_at) * self._rate())
        self._filled_at = now
        return self._tokens

    def _rate(self) -> float:
        if len(self._samples) < 2:  # noqa: PLR2004  # a rate needs two points
            return MIN_RECORDS_PER_SECOND
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        live = max(0.0, (last - first) / (ended - began))
        return max(MIN_RECORDS_PER_SECOND, self._factor * live)
