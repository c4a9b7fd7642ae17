"""One bridge per queue: a lock file in the folder, held for as long as the process lives."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from enum import StrEnum
from pathlib import Path

from otelbridge.queue.model import QueueInUse, QueueUnusable


class DiskError(StrEnum):
    """What to do about an error."""

    FULL = "full"
    """No space: the disk's, or our own bound's. Wait in memory, try again."""
    TROUBLE = "trouble"
    """Input/output error, read-only, locked, out of memory: wait in memory, open the file anew, try again."""
    DAMAGE = "damage"
    """The file is not what we wrote: salvage it."""


# Primary result codes of https://www.sqlite.org/rescode.html. What is not here is trouble: it may pass.
BY_CODE = {
    sqlite3.SQLITE_FULL: DiskError.FULL,
    sqlite3.SQLITE_CORRUPT: DiskError.DAMAGE,
    sqlite3.SQLITE_NOTADB: DiskError.DAMAGE,
    sqlite3.SQLITE_ERROR: DiskError.DAMAGE,  # our statements are right, so the schema they name is gone
    sqlite3.SQLITE_SCHEMA: DiskError.DAMAGE,
    sqlite3.SQLITE_FORMAT: DiskError.DAMAGE,
    sqlite3.SQLITE_MISMATCH: DiskError.DAMAGE,
    sqlite3.SQLITE_CONSTRAINT: DiskError.DAMAGE,  # an id that we give is new, unless the table holds what it should not
    sqlite3.SQLITE_TOOBIG: DiskError.DAMAGE,  # a length in the file that no batch of ours has
    sqlite3.SQLITE_RANGE: DiskError.DAMAGE,
}
PRIMARY_CODE = 0xFF


def disk_error_of(error: sqlite3.Error) -> DiskError:
    """Classifies by the primary result code; an error without a code comes from decoding a damaged row."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return (
            DiskError.DAMAGE if isinstance(error, sqlite3.DataError | sqlite3.OperationalError) else DiskError.TROUBLE
        )
    return BY_CODE.get(code & PRIMARY_CODE, DiskError.TROUBLE)


def sentence(error: Exception) -> str:
    """The error with SQLite's own name for it, for a human."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)


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
