"""Reads small files that may change under us (Kubernetes swaps whole folders), and says what is wrong with them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

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


class Place(NamedTuple):
    """A file, and the setting that names it."""

    setting: str
    path: Path | None

    def __str__(self) -> str:
        return f"{self.setting} ({self.path})"


class TlsFileError(ValueError):
    """A file cannot be used: its place, what is wrong, and the cure."""

    def __init__(self, place: Place, wrong: str, cure: str) -> None:
        super().__init__(f"{place}: {wrong}: {cure}")
        self.place, self.wrong, self.cure = place, wrong, cure


class Validity(NamedTuple):
    """From when until when a certificate is valid."""

    begin: datetime
    end: datetime

    def fault(self, now: datetime) -> str:
        """What is wrong with it now; empty while nothing is."""
        if now > self.end:
            return f"the certificate expired on {self.end:%Y-%m-%d %H:%M} UTC"
        if now < self.begin:
            return f"the certificate is valid from {self.begin:%Y-%m-%d %H:%M} UTC on, or this machine's clock is wrong"
        return ""


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
