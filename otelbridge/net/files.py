"""Reads small files that may change under us (Kubernetes swaps whole folders), and says what is wrong with them."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

RECHECK_SECONDS = 5.0
"""Contents are compared, not times: a file is read again at most so often, and at once when somebody doubts it."""

MOST_BYTES = 1024 * 1024
"""Of one file: certificates, headers and tokens are a thousand times smaller, and a device has no end."""


MOST_SECONDS = 5.0
"""For a pipe that somebody is writing to; one without a writer is empty."""


def read_bounded(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The content of a small file, or of a pipe.

    Raises:
        OSError: it cannot be read, is larger than `most` bytes, or a pipe that brings nothing; or no file can have
            such a name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a zero byte, or half a character
        raise OSError(errno.EINVAL, "no file can have this name", ascii(str(path))) from error
    content, deadline = b"", time.monotonic() + MOST_SECONDS
    try:
        while chunk := _piece(descriptor, deadline):
            content += chunk
            if len(content) > most:
                raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
        return content
    finally:
        os.close(descriptor)


def _piece(descriptor: int, deadline: float) -> bytes:
    """The next bytes; none at the end."""
    while True:
        try:
            return os.read(descriptor, MOST_BYTES + 1)
        except BlockingIOError:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise OSError(errno.ETIMEDOUT, f"it brings nothing for {MOST_SECONDS:g} s") from None


class SettingFile(NamedTuple):
    """A file, and the setting that names it."""

    setting: str
    path: Path | None

    def __str__(self) -> str:
        return f"{self.setting} ({self.path})"


class TlsFileError(ValueError):
    """A file cannot be used: its place, what is wrong, and the cure."""

    def __init__(self, place: SettingFile, wrong: str, cure: str) -> None:
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
    """A few small files that are read together, in this order. Thread-safe."""

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
