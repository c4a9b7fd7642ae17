"""The queue's folder: who owns it, what disk errors mean, and reserved space."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import uuid
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from otelbridge.queue.checkpoint import CHECKPOINT_FILE
from otelbridge.queue.model import QueueInUse, QueueUnusable

PRIMARY_CODE = 0xFF
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A full disk, a quota that is used up, a limit on the size of files."""
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR})
"""A permission, a link or a folder in the place of a file: it stays so until somebody changes it."""
PROBE_BYTES = 8192
RESERVE_BYTES = 8 * 1024 * 1024  # what a log can hold: the checkpoint's 4 MiB, and a large transaction on top
LEAST_FREE_BYTES = 2 * RESERVE_BYTES  # on a disk that is nearly full, the space serves better as space
LOCK_FILE = "queue.lock"
QUEUE_FILE = "queue.db"
MADE_AGAIN = (CHECKPOINT_FILE, LOCK_FILE)  # where they are gone: all that they have is in memory too
CURE = "Give the bridge's user a writable folder there, or another one with queue.directory."
NOT_A_LINK = "Remove the link: the queue follows none inside its folder."
NO_FOLDER_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP})  # NFS, say: the file must do
DATABASE_ENDINGS = ("", "-wal", "-shm")
WAL_LIMIT_BYTES = 8 * 1024 * 1024  # a write-ahead log that grew beyond is cut back to this by SQLite


class DiskError(StrEnum):
    """Kinds of disk errors, by what to do about them."""

    FULL = "full"
    """No space: the disk's, or our own bound's. Wait in memory, try again."""
    TROUBLE = "trouble"
    """Input/output error, read-only, locked, out of memory: wait in memory, open the file anew, try again."""
    DAMAGE = "damage"
    """The file is not what we wrote: salvage it."""
    GONE = "gone"
    """Files were deleted, moved or replaced under us: copy what is still open into new ones."""


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


def disk_error_of(error: sqlite3.Error) -> DiskError:
    """Classifies by the primary result code; an error without a code comes from decoding a damaged row."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return (
            DiskError.DAMAGE if isinstance(error, sqlite3.DataError | sqlite3.OperationalError) else DiskError.TROUBLE
        )
    return BY_CODE.get(code & PRIMARY_CODE, DiskError.TROUBLE)


def sentence(error: BaseException) -> str:
    """The error with SQLite's own name for it, for a human."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)


def has_space(path: Path) -> bool:
    """Whether the disk takes a page in a new file, written through; the file is gone again afterwards.

    Raises:
        OSError: it takes nothing, for another reason than space.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(descriptor, bytes(PROBE_BYTES), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        return False
    return True


class Reserve:
    """Disk space kept in a file for a full disk. Without it, acknowledgements wait in memory until there is space."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lay(self) -> None:
        """Reserves the space, unless it is reserved already or the disk is nearly full."""
        try:
            if self._path.exists():
                return
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()  # half a reserve is none

    def release(self) -> bool:
        """Deletes the file; True if there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


class FolderChange(NamedTuple):
    """What has happened to the folder or to a file in it."""

    kind: DiskError
    why: str


class Folder:
    """The queue's folder: locked against a second bridge, and watched for what is done to its files.

    The folder is locked as well as a file in it, so that whoever deletes the lock file lets nobody in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: int | None = None
        self._lock: int | None = None
        self._seen: dict[Path, os.stat_result] = {}
        self.trace_unix_nano = 0
        """When anything of an earlier bridge's queue in the folder was last written; 0 where there was nothing."""

    def acquire(self) -> None:
        """Makes the folder where it is missing, and locks it; called again, it locks what was made anew.

        The kernel lets go when the process dies, however it dies.

        Raises:
            QueueInUse: another process has it.
            QueueUnusable: the folder can't be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._folder is None:
                self.trace_unix_nano = max(map(_changed_unix_nano, self.path.glob("queue.*")), default=0)
                self._refuse_second_names()
            self._folder = self._locked(self._folder, self.path, os.O_RDONLY | os.O_DIRECTORY)
            self._lock = self._lock_file()
        except BlockingIOError as error:
            raise QueueInUse(self.path, _pid_in(self.path) or None) from error
        except OSError as error:
            cure = NOT_A_LINK if error.errno == errno.ELOOP else CURE
            raise QueueUnusable(self.path, error.strerror or str(error), cure) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only its owner can't be named
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _refuse_second_names(self) -> None:
        """What is ours by one name may be any file of our user's by another, where others can put it there."""
        names = (LOCK_FILE, CHECKPOINT_FILE, *(f"{QUEUE_FILE}{ending}" for ending in DATABASE_ENDINGS))
        for path in map(self.path.joinpath, names if self.writable_by_others else ()):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG((found := path.lstat()).st_mode) and found.st_nlink > 1:
                    raise QueueUnusable(self.path, f"{path.name} is a link", NOT_A_LINK)

    def _lock_file(self) -> int:
        lock = self.path / LOCK_FILE
        try:
            return self._locked(self._lock, lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in FORBIDDEN or isinstance(error, BlockingIOError):
                raise
            with contextlib.suppress(FileNotFoundError):  # a disk that takes no writes: the lock needs none
                return self._locked(self._lock, lock, os.O_RDONLY | os.O_NOFOLLOW)
            raise

    def _locked(self, held: int | None, path: Path, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        if held is not None and os.path.sameopenfile(held, descriptor):
            os.close(descriptor)
            return held
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not flags & os.O_DIRECTORY or error.errno not in NO_FOLDER_LOCKS:
                os.close(descriptor)
                raise
        if held is not None:
            os.close(held)
        return descriptor

    def sign_of_life(self) -> None:
        """Updates the lock file's time: if all else is gone at the next start, it tells until when a bridge ran."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.utime(self._lock)

    def release(self) -> None:
        """Unlocks the folder."""
        for descriptor in (self._lock, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._folder = None

    @property
    def writable_by_others(self) -> bool:
        """Whether others than its owner may put files there, or take ours away."""
        with contextlib.suppress(OSError):
            return bool(self.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        return False

    # --- what others do to it ---

    def watch(self, database: Path) -> None:
        """Remembers which files are ours now: the lock, the open database and its two companions."""
        # The lock last: what has happened to the database decides what is to be done.
        paths = (self.path, *(Path(f"{database}{ending}") for ending in DATABASE_ENDINGS), self.path / LOCK_FILE)
        self._seen = {}
        for path in paths:
            with contextlib.suppress(OSError):  # not made yet, or taken away already: the database's errors tell that
                self._seen[path] = path.stat()

    def change(self) -> FolderChange | None:
        """What happened to our files since `watch`; None if nothing."""
        if (checkpoint := self.path / CHECKPOINT_FILE) not in self._seen:  # it is made by the first write
            with contextlib.suppress(OSError):
                self._seen[checkpoint] = checkpoint.stat()
        for path, seen in self._seen.items():
            try:
                now = os.stat(path)  # noqa: PTH116  # twice a second, for ever: half of Path's cost
            except (FileNotFoundError, NotADirectoryError):
                now = None
            except OSError as error:
                return FolderChange(DiskError.TROUBLE, f"{path} can't be reached: {error.strerror}")
            if now is not None and now.st_ctime_ns == seen.st_ctime_ns and os.path.samestat(now, seen):
                continue  # neither its content nor its owner or mode has changed
            if now is None or (done := _done_to(path, seen, now)):
                kind = DiskError.TROUBLE if path.name in MADE_AGAIN else DiskError.GONE
                return FolderChange(kind, f"{path} {'is gone' if now is None else done}")
            if not os.access(path, os.R_OK | os.W_OK):
                return FolderChange(DiskError.TROUBLE, f"{path} can't be read and written any more")
            self._seen[path] = now
        if self._seen and os.statvfs(self.path).f_flag & os.ST_RDONLY:
            return FolderChange(DiskError.TROUBLE, f"{self.path} is read-only")
        return None

    def nearly_full(self) -> bool:
        """Whether the disk says that it may not take another file. Raises OSError where it can't be asked."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize < PROBE_BYTES or (disk.f_files > 0 and not disk.f_favail)


def _changed_unix_nano(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0  # gone again


def _done_to(path: Path, seen: os.stat_result, now: os.stat_result) -> str:
    """What another program did to one of our files; empty if nothing."""
    if not os.path.samestat(now, seen):
        return "is another one than was opened"
    least = {"-wal": min(seen.st_size, WAL_LIMIT_BYTES), "-shm": seen.st_size, ".db": 1}
    if now.st_size < next((size for ending, size in least.items() if path.name.endswith(ending)), 0):
        return "was cut short"
    return ""


def owner_of(directory: Path) -> int | None:
    """The process that holds the queue now; 0 when its number can't be read, None when nobody does."""
    for path in (directory / LOCK_FILE, directory):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid_in(directory)
        except OSError:  # a file system without locks
            continue
        finally:
            os.close(descriptor)
    return None


def _pid_in(directory: Path) -> int:
    try:
        text = (directory / LOCK_FILE).read_bytes()[:32].strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


INSTANCE_FILE = "instance-id"
MAX_BYTES = 64


def stable_instance_id(directory: Path) -> str:
    """The id kept in the queue's folder, made where there is none; one for this life only where none can be kept."""
    new = str(uuid.uuid4())
    path = directory / INSTANCE_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError:
        return new  # the queue says why its folder cannot be used
    try:
        kept = os.read(descriptor, MAX_BYTES)
        try:
            return str(uuid.UUID(kept.decode("ascii").strip()))
        except ValueError:  # empty, cut off by a crash, or somebody else's
            if os.fstat(descriptor).st_nlink > 1:  # under another name
                return new
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{new}\n".encode(), 0)
            return new
    except OSError:
        return new
    finally:
        os.close(descriptor)
