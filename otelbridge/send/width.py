"""How large the next request may be: narrowed when one was too large or faulty, widened as others are accepted."""

from __future__ import annotations

import threading
from typing import NamedTuple

from otelbridge.send.settings import SendSettings

WIDEN_RECORDS_AFTER = 4
"""Accepted requests in a row: the faulty record is probably behind us."""
WIDEN_BYTES_AFTER = 256
"""A size limit is the endpoint's configuration and stays; trying it again costs one request in so many."""


class Limits(NamedTuple):
    """What the queue is asked for; it hands out a single larger batch all the same."""

    max_bytes: int
    max_records: int


class Width:
    """Thread-safe. Halving happens here rather than within a lease, so that each part is settled durably by itself."""

    def __init__(self, settings: SendSettings) -> None:
        self._full = Limits(settings.max_request_bytes, settings.max_request_records)
        self._lock = threading.Lock()
        self._now = self._full
        self._accepted = 0

    def limits(self) -> Limits:
        """For the next request."""
        with self._lock:
            return self._now

    @property
    def narrowed(self) -> bool:
        """Whether a faulty record is being closed in on."""
        return self._now.max_records < self._full.max_records

    def too_large(self, request_bytes: int) -> None:
        """A request of so many bytes was."""
        with self._lock:
            self._accepted = 0
            self._now = self._now._replace(max_bytes=max(1, min(self._now.max_bytes, request_bytes // 2)))

    def faulty(self, records: int) -> None:
        """There is something wrong in a request of so many records."""
        with self._lock:
            self._accepted = 0
            self._now = self._now._replace(max_records=max(1, min(self._now.max_records, records // 2)))

    def accepted(self) -> None:
        """A request was accepted."""
        with self._lock:
            if self._now == self._full:
                return
            self._accepted += 1
            max_bytes, max_records = self._now
            if self._accepted % WIDEN_RECORDS_AFTER == 0:
                max_records = min(self._full.max_records, max_records * 2)
            if self._accepted % WIDEN_BYTES_AFTER == 0:
                max_bytes = min(self._full.max_bytes, max_bytes * 2)
            self._now = Limits(max_bytes, max_records)
