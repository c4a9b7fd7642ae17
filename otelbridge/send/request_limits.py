"""Limits requests: how large one may be, and how fast a backlog goes out. State machines without a socket.

`RequestSize` finds the size by the endpoint's answers rather than by their words:

| answer | the limit |
|---|---|
| accepted, about as large as allowed | doubles up to the ceiling, then grows to what failed in 4 to 256 steps |
| accepted, as large as what failed | what failed is forgotten |
| accepted, but a larger one would need more than half of the deadline | stays; falls where time grows with size |
| too large | half of what was sent, remembered |
| failed twice in a row, or as often as small requests do by chance | one small request, as a probe; then a quarter |
| failed once, as firewalls answer; or grown towards a size that is known to fail | the same, once |
| ... the probe was accepted | half of what failed is the ceiling, remembered; grows up to it |
| the deadline passed | a quarter: the endpoint may have stored what it was sent, so little is left in doubt |

`BacklogLimiter` is a token bucket on records, filled at `replay_rate_factor` times the live rate. Only old records are
charged; new ones never wait. It ends when the queue has been emptied once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from otelbridge.queue.model import Lease
from otelbridge.send.settings import SendSettings

FIRST_SHARE = 1 / 32
"""Of the full size: what an unknown endpoint is sent first (32 KiB, 256 records by default), and what probes are."""
FIRST_RECORDS = 64
"""But no fewer than these, where full requests are small."""
LEAST_SHARE = 1 / 8192
FAILURES_UNTIL_PROBE = 2
CHANCE = 1e-4
"""More failures are needed where small requests fail as well: as many as chance brings less often than this."""
MAX_CHANCE_FAILURES = 64
SENT_BEFORE = 8
"""Requests that may be under way when the limit falls."""
SMALL_REQUESTS = 32
"""Older ones weigh half."""
FIRST_STEPS = 4
LAST_STEPS = 256
"""In so many steps the limit grows from its ceiling to the size that failed; twice as many each time it fails again: an
endpoint that fails by chance is soon sent large requests again, one with a limit loses one request in so many."""
NEARLY = 0.5
"""A request this close to the limit shows that more may pass."""
WORST_DEADLINE_SHARE = 0.5
"""No larger request is tried that would take longer, by what the smaller ones took."""
LEVEL_MEMORY = 0.5
"""Weight of the latest request in what is known of its size's duration."""


class Limits(NamedTuple):
    """What the queue is asked for; it hands out a single larger batch all the same."""

    max_bytes: int
    max_records: int


class RequestSize:
    """Finds how large a request may be: a share of a full one, by bytes or records, whichever is more. No lock."""

    def __init__(self, settings: SendSettings) -> None:
        self._full = Limits(settings.max_request_bytes, settings.max_request_records)
        self._timeout_seconds = settings.timeout_seconds
        self._first = min(1.0, max(FIRST_SHARE, FIRST_RECORDS / self._full.max_records))
        self._share = self._first
        self._ceiling = 1.0
        self._blamed: float | None = None
        """The size that is known to fail; tried again when growth comes to it."""
        self._largest_accepted = 0.0
        self._steps = FIRST_STEPS
        self._failures = 0
        """In a row, since the limit was last changed."""
        self._smallest_failed = math.inf
        """Of all failures in a row."""
        self._sent_before = 0
        """Failures of larger requests that may have been under way when the limit fell: they say nothing new."""
        self._small_requests = self._small_failures = 0.0
        """Requests of a size that is known to pass, and how many of them failed by chance."""
        self._level_seconds: dict[int, float] = {}

    def limits(self) -> Limits:
        """For the next request."""
        return Limits(*(max(1, math.ceil(full * self._share)) for full in self._full))

    def share_of(self, lease: Lease) -> float:
        """A lease's size as a multiple of the limits."""
        limits = self.limits()
        return max(lease.request_bytes / limits.max_bytes, lease.records / limits.max_records)

    def is_unproven(self, request_bytes: int, records: int) -> bool:
        """Whether nothing as large has been accepted yet."""
        return self._size_of(request_bytes, records) > self._largest_accepted

    def accepted(self, request_bytes: int, records: int, seconds: float) -> None:
        """A request was accepted."""
        size = self._size_of(request_bytes, records)
        self._learn(size, seconds)
        self._count_small(size, failed=False)
        self._largest_accepted = max(self._largest_accepted, size)
        if size < self._smallest_failed < math.inf and self._share < self._smallest_failed:
            self._blame(self._smallest_failed)
            self._share = min(self._share, self._ceiling)
        elif self._blamed is not None and size >= self._blamed:
            self._blamed, self._ceiling, self._steps = None, 1.0, FIRST_STEPS
        self._failures, self._smallest_failed = 0, math.inf
        if size > self._share * NEARLY:  # not by what was sent before the limit was last doubled
            self._grow(size)

    def too_large(self, request_bytes: int, records: int) -> None:
        """A request was too large, the endpoint says."""
        self._failures, self._smallest_failed = 0, math.inf
        self._blame(self._size_of(request_bytes, records))
        self._share = self._ceiling

    def failed(self, request_bytes: int, records: int, *, timed_out: bool, at_first: bool = False) -> bool:
        """A request failed, and may succeed later. Returns whether to try a smaller one now, as size may be the cause.

        Args:
            request_bytes: how large it was.
            records: how many it held.
            timed_out: it may have been stored.
            at_first: the first of several failures is enough to try a smaller one, unless small ones fail by chance.
        """
        size, before = self._size_of(request_bytes, records), self._share
        as_before = self._blamed is not None and size > self._ceiling
        enough = 1 if (at_first or as_before) and self._smallest_failed == math.inf else FAILURES_UNTIL_PROBE
        self._smallest_failed = min(self._smallest_failed, size)
        self._failures += 1
        self._count_small(size, failed=not timed_out)
        if timed_out:
            self._share = max(LEAST_SHARE, min(before, size / 4))
        elif records > 1 and self._failures >= max(enough, self._failures_by_chance()):
            self._failures = 0
            self._share = max(LEAST_SHARE, min(before, self._first, size / 4))
        fell = self._share < before
        late = not (fell or at_first) and records > 1 and size > self._share and self._sent_before > 0
        self._sent_before = SENT_BEFORE if fell else self._sent_before - late
        return not timed_out and (fell or late)

    def _count_small(self, size: float, *, failed: bool) -> None:
        sound = self._first if self._blamed is None else max(self._first, self._ceiling)
        if size > min(sound, self._largest_accepted):
            return
        if self._small_requests > SMALL_REQUESTS:
            self._small_requests, self._small_failures = self._small_requests / 2, self._small_failures / 2
        self._small_requests += 1
        self._small_failures += failed

    def _failures_by_chance(self) -> int:
        """Failures in a row that chance is unlikely to bring, by how often small requests fail."""
        share = self._small_failures / (self._small_requests + 1)
        return 0 if share < 1 / SMALL_REQUESTS else min(MAX_CHANCE_FAILURES, round(math.log(CHANCE) / math.log(share)))

    def _size_of(self, request_bytes: int, records: int) -> float:
        return min(1.0, max(request_bytes / self._full.max_bytes, records / self._full.max_records))

    def _blame(self, size: float) -> None:
        if self._blamed is not None and size >= self._blamed * NEARLY:
            self._steps = min(LAST_STEPS, 2 * self._steps)
        self._blamed = size
        self._ceiling = max(LEAST_SHARE, size / 2)

    def _grow(self, size: float) -> None:
        level, seconds = _level(size), self._level_seconds[_level(size)]
        below, above = self._level_seconds.get(level - 1), self._level_seconds.get(level + 1)
        if above is not None:
            more = max(0.0, above - seconds)
        else:
            more = seconds if below is None else max(0.0, 2 * (seconds - below))
        if seconds + more > self._timeout_seconds * WORST_DEADLINE_SHARE and more > self._timeout_seconds / 10:
            # Twice the size would come near the deadline. Half of it, once, tells whether time grows with size at all.
            if (below is None and above is None) or seconds > self._timeout_seconds * WORST_DEADLINE_SHARE:
                self._share = max(LEAST_SHARE, size / 2)
        elif self._share < self._ceiling:
            self._share = min(self._ceiling, 2 * self._share)
        else:
            self._share = min(1.0, self._share + (self._blamed or 1.0) / 2 / self._steps)

    def _learn(self, size: float, seconds: float) -> None:
        level = _level(size)
        known = self._level_seconds.get(level, seconds)
        self._level_seconds[level] = known + LEVEL_MEMORY * (seconds - known)


def _level(size: float) -> int:
    return math.floor(math.log2(max(size, LEAST_SHARE)))


OLD_NANOS = 10_000_000_000
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
    """After an outage sends old records at most `factor` times as fast as new ones arrive; 0 is no limit."""

    def __init__(
        self,
        factor: float,
        *,
        held: Callable[[], int],
        clock: Callable[[], float],
        wall_clock_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        self._factor, self._held, self._clock, self._wall_clock_nano = factor, held, clock, wall_clock_nano
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
        """Removes the limit for the drain, which has a deadline."""
        with self._lock:
            self._restrained = False

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

    def charge(self, records: int, oldest_received_unix_nano: int) -> None:
        """A lease was taken; only one whose oldest record is old counts."""
        with self._lock:
            if self._active and self._wall_clock_nano() - oldest_received_unix_nano > OLD_NANOS:
                self._tokens = self._filled() - records

    def returned(self, records: int, oldest_received_unix_nano: int) -> None:
        """Refunds a lease that came back unsent: it is charged when it is taken again."""
        self.charge(-records, oldest_received_unix_nano)

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
