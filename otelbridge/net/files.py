"""Files that may change under us (Kubernetes swaps whole folders): their content now, and whether it is new."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

RECHECK_SECONDS = 5.0
"""Contents are compared, not times: a file is read again at most so often, and at once when somebody doubts it."""


class WatchedFiles:
    """A few small files that are read together. Thread-safe.

    Args:
        paths: read in this order.
        clock: monotonic seconds.
    """

    def __init__(self, *paths: Path, clock: Callable[[], float]) -> None:
        self._paths, self._clock = paths, clock
        self._lock = threading.Lock()
        self._contents: tuple[bytes, ...] = ()
        self._read_at = float("-inf")
        self.error = ""
        """Why the last reading failed; the contents are then those of the last good one."""

    def contents(self, *, doubted: bool = False) -> tuple[bytes, ...]:
        """The files' contents, read again if `doubted` or not read for a while.

        Raises:
            OSError: they could not be read, and never could be before.
        """
        with self._lock:
            now = self._clock()
            if doubted or now - self._read_at >= RECHECK_SECONDS:
                self._read_at = now
                try:
                    self._contents = tuple(path.read_bytes() for path in self._paths)
                    self.error = ""
                except OSError as error:
                    if not self._contents:
                        self._read_at = float("-inf")
                        raise
                    self.error = f"cannot read {error.filename}: {error.strerror}"
            return self._contents
