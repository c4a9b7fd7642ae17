"""One bridge per queue: a lock file in the folder, held for as long as the process lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from otelbridge.queue.errors import QueueInUse, QueueUnusable

LOCK_FILE = "queue.lock"
CURE = "Give the bridge's user a writable folder there, or another one with queue.directory."


def own(directory: Path) -> int:
    """Makes the folder where it is missing and locks it; the kernel lets go when the process dies, however it dies.

    Returns:
        The open lock file; closing it gives the queue up.

    Raises:
        QueueInUse: another process has it.
        QueueUnusable: the folder can't be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise QueueUnusable(directory, error.strerror or str(error), CURE) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).strip()
        os.close(descriptor)
        raise QueueInUse(directory, int(owner) if owner.isdigit() else None) from error
    except OSError as error:  # a file system without locks
        os.close(descriptor)
        raise QueueUnusable(directory, f"it can't be locked: {error.strerror}", CURE) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # a full disk: the lock holds all the same, only its owner can't be named
    return descriptor


def owner_of(directory: Path) -> int | None:
    """The process that holds the queue now; 0 when its number can't be read, None when nobody does."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
