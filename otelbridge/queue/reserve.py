"""Disk space laid by, so that a full disk can still be told what was delivered.

On a full disk SQLite can't record a deletion: the log can't grow, and can't be moved into the database, which would
grow. Giving up this file makes room to move the log once; from then on deletions go into the log's own space, and new
batches into the pages that they free. Measured in docs/decisions/queue.md.
"""

from __future__ import annotations

import os
from pathlib import Path

RESERVE_BYTES = 8 * 1024 * 1024  # what a log can hold: the checkpoint's 4 MiB, and a large transaction on top
LEAST_FREE_BYTES = 2 * RESERVE_BYTES  # on a disk that is nearly full, the space serves better as space


class Reserve:
    """The file. Best effort: without it, acknowledgements wait in memory until there is space."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lay(self) -> None:
        """Lays the space by, unless it is there already or the disk is nearly full."""
        try:
            if self._path.exists():
                return
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()  # half a reserve is none

    def release(self) -> bool:
        """Gives the space up; True if there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
