"""Files that may change under us (Kubernetes swaps whole folders): their content now, and whether it is new."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

RECHECK_SECONDS = 5.0
"""Contents are compared, not times: a file is read again at most so often, and at once when somebody doubts it."""

MOST_BYTES = 1024 * 1024
"""Of one file: certificates, headers and tokens are a thousand times smaller, and a device has no end."""


def read_bounded(path: Path) -> bytes:
    """The content of a small file.

    Raises:
        OSError: it cannot be read, or is larger than `MOST_BYTES`.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", str(path))
    return content


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
                    self._contents = tuple(map(read_bounded, self._paths))
                    self.error = ""
                except OSError as error:
                    if not self._contents:
                        self._read_at = float("-inf")
                        raise
                    self.error = f"cannot read {error.filename}: {error.strerror}"
            return self._contents
