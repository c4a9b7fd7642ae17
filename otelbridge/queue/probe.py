"""Does the disk take writes again? Asked before the queue file is closed and opened anew, which a bad disk won't undo.

An open file can still be read where nothing can be written: a backlog is delivered from a disk that is read-only now.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def try_writing(path: Path) -> None:
    """Writes a byte through to the disk. A full disk is no failure: the queue can work on one.

    Raises:
        OSError: the disk does not take it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, b"\n", 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
