"""The open queue file and its log: opened, synced, salvaged or made anew, and what is wrong with its disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.disk import (
    DATABASE_ENDINGS,
    FORBIDDEN,
    QUEUE_FILE,
    DiskError,
    Folder,
    Reserve,
    disk_error_of,
    has_space,
    sentence,
)
from otelbridge.queue.recovery import finish_swap, put_in_place, rebuild, salvage
from otelbridge.queue.store import (
    CHECKPOINT_PAGES,
    FRAME_HEADER_BYTES,
    FRAME_SALTS,
    LOG_HEADER_BYTES,
    LOG_SALTS,
    PAGE_BYTES,
    Store,
    read_alone,
    read_store,
    refuse_what_is_no_file,
)
from otelbridge.telemetry.events import QueueDegraded, QueueRecovered, QueueSalvaged, Tell

MakeStore = Callable[[Path], Store]
Floor = Mapping[Stream, int]
"""Per stream, an id below which every batch is settled: remains of those are not brought back."""
SALVAGES_IN_A_ROW = 2  # a disk that damages every new file is trouble, not damage: wait in memory
SPARE_PAGES = 8192  # 64 MiB may stay unused in the file: the next outage needs no new space
GIVE_BACK_PAGES = 256  # 2 MiB each second: no put waits for long
LONGEST_LOG_PAGES = CHECKPOINT_PAGES + 64
"""Its move was due half a MiB ago, a few hundred events or more."""


class QueueFile:
    """The open file and its log. The queue's lock guards it, but for `sync`, which one thread calls."""

    def __init__(self, folder: Folder, make_store: MakeStore, tell: Tell) -> None:
        self.path = folder.path / QUEUE_FILE
        self.log = Path(f"{self.path}-wal")
        self.store: Store | None = None
        self.error: DiskError | None = None
        """Why nothing is written; None when all is."""
        self.full = False
        """No space is left on the disk, or no inode; what fits into the files as they are is written all the same."""
        self.uncounted = True
        """It is not the file whose batches were counted: opened for the first time, salvaged, or made anew."""
        self._folder = folder
        self._make_store = make_store
        self._tell = tell
        self._reserve = Reserve(self.path.with_suffix(".reserve"))
        self._probe = self.path.with_suffix(".probe")
        self._degraded_since = 0.0
        self._reopen_due = False
        """The open file is not to be written any more; it is read as long as it can be."""
        self._synced_revision = 0
        self._tidied_revision = -1

    # --- opening ---

    def open(self, floor: Floor) -> Store:
        """Opens the file, salvaged first where it must be.

        Raises:
            sqlite3.Error, OSError: it can't be opened; what was open before is open still, unless that was damaged.
        """
        if self.store is not None and self.store.alone:
            self.close()
        finish_swap(self.path)
        for _ in range(SALVAGES_IN_A_ROW):
            try:
                store = self._checked(self._make_store)
                break
            except sqlite3.Error as error:
                if disk_error_of(error) is not DiskError.DAMAGE:
                    raise
                self.salvage(floor)
        else:
            store = self._make_store(self.path)
        self.close()
        self.store = store
        self._folder.watch(self.path)
        return store

    def open_with_reserve(self, floor: Floor) -> Store:
        """Opens the file; uses the reserved space where the disk is too full for SQLite to open it."""
        try:
            return self.open(floor)
        except sqlite3.Error:
            if not self._reserve.release():
                raise
            return self.open(floor)

    def is_forbidden(self) -> bool:
        """Whether only an operator can make the folder writable."""
        try:
            has_space(self._probe)
            refuse_what_is_no_file(self.path)
            with contextlib.suppress(FileNotFoundError):  # no connection is open, whose locks closing it would drop
                os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
        except OSError as error:
            return error.errno in FORBIDDEN
        return False

    def open_to_read(self) -> None:
        """Opens the file to read it only, if at least that can be done."""
        for read in (read_alone, read_store):  # a disk that is read-only takes no lock for the first
            if self.store is None:
                with contextlib.suppress(sqlite3.Error, OSError):
                    self.store = self._checked(read)
                    self.store.alone = True

    def _checked(self, make_store: MakeStore) -> Store:
        store = make_store(self.path)
        try:
            store.page()
            store.sums_by_stream()
        except sqlite3.Error:
            store.close()
            raise
        return store

    def salvage(self, floor: Floor) -> None:
        """Makes a new file of what can be read of the broken one."""
        self.close()
        set_aside, records = salvage(self.path, self._make_store, floor)
        self.uncounted = True
        self._tell(QueueSalvaged(path=str(self.path), set_aside=str(set_aside), kept_records=records))

    def close(self) -> None:
        """Closes the file."""
        if self.store is not None:
            self.store.close()
            self.store = None

    # --- errors ---

    @property
    def degraded(self) -> bool:
        """Whether the disk does not take what is written, or will not for long."""
        return self.full or self.error is not None

    def degrade(self, error: BaseException) -> None:
        """Stops writing until `recovered`."""
        kind = disk_error_of(error) if isinstance(error, sqlite3.Error) else DiskError.TROUBLE
        self._degrade(kind, sentence(error))

    def _degrade(self, kind: DiskError, why: str) -> None:
        self._tell_degraded(why)
        self._reopen_due = kind is not DiskError.FULL
        if self.error is not DiskError.GONE:  # until its files are made anew, whatever else fails
            self.error = kind

    def _tell_degraded(self, why: str) -> None:
        if not self.degraded:
            self._degraded_since = time.monotonic()
            self._tell(QueueDegraded(path=str(self.path), error=why))

    def look_at_folder(self) -> bool:
        """Degrades if another program changed the folder or its files; True if that is new."""
        was_well = self.error is None
        change = self._folder.change() if self.error is not DiskError.GONE else None
        if change is not None:
            self._degrade(*change)
        else:
            self._look_at_space()
        return was_well and change is not None

    def _look_at_space(self) -> None:
        """Reports a full disk before a write fails: SQLite's log has space of its own for a while."""
        try:
            full = self._folder.nearly_full() and not has_space(self._probe)
        except OSError:
            return  # the next write says what it is
        if full and not self.full:
            self._tell_degraded("no space is left on the disk")
        was, self.full = self.degraded, full
        self._tell_recovered(was=was)

    def prepare(self, floor: Floor) -> bool:
        """Prepares the next attempt to write: frees space, takes the folder's locks, replaces files that are gone.

        Returns:
            Whether the file has to be opened anew; what is open is kept until that has succeeded, as it can be read.
        """
        if self.error is DiskError.FULL:
            self._reserve.release()
            if self.store is not None:
                with contextlib.suppress(sqlite3.Error):  # the next write says it
                    self.store.move_log()
        if self.store is not None and not self._reopen_due:
            return False
        self._folder.acquire()
        if not has_space(self._probe):
            self._reserve.release()
        if self.error is DiskError.GONE:
            self.uncounted = True
            if self.store is not None and rebuild(self.path, self.store):
                self.close()  # before the new one is in place: it deletes the log that lies there
                put_in_place(self.path)
            elif not finish_swap(self.path):
                self.salvage(floor)
            self.error = DiskError.TROUBLE
        return True

    def reopened(self) -> None:
        """The file was opened anew."""
        self._reopen_due = False

    def recovered(self) -> None:
        """All that waited is on disk."""
        was, self.error = self.degraded, None
        self._tell_recovered(was=was)

    def _tell_recovered(self, *, was: bool) -> None:
        if was and not self.degraded:
            self._tell(QueueRecovered(path=str(self.path), degraded_seconds=time.monotonic() - self._degraded_since))

    def delete(self) -> None:
        """Closes the file and deletes it: `recover` makes the next one."""
        self.close()
        with contextlib.suppress(OSError):  # what is left is opened again, and what waits is deleted in it
            for ending in reversed(DATABASE_ENDINGS):  # an old log beside a new database would be taken for its own
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
        self._folder.watch(self.path)

    # --- upkeep ---

    def tidy(self, revision: int) -> None:
        """Reserves space for a full disk, bounds the log, gives unused space back.

        Where nothing was written since there was nothing to do, there is nothing to look at.

        Raises:
            sqlite3.Error: the disk does not take it.
        """
        self._reserve.lay()
        if revision == self._tidied_revision:
            return
        bounded = self.bound_log()
        assert self.store is not None
        pages, unused = self.store.file_pages()
        if unused > max(SPARE_PAGES, pages // 2):
            self.store.give_back_space(GIVE_BACK_PAGES)
        elif bounded:
            self._tidied_revision = revision

    def bound_log(self) -> bool:
        """Moves a log that is longer than it should ever be into the database; True where it was not.

        SQLite does so by itself after some commits, and says nothing when the database takes no writes: the commits
        succeed, and the log grows by up to 15 MiB a second, until it has the whole disk.

        Raises:
            sqlite3.Error: the database does not take it.
        """
        with contextlib.suppress(OSError):  # there is none, or the disk fails, which the next write says
            if too_long(self.log) and self.store is not None:
                self.store.move_log()
                return False
        return True

    def sync(self, revision: int) -> None:
        """Syncs the log to disk if it has changed since; SQLite has no lock on it that closing it could drop.

        Raises:
            OSError: the disk did not take it.
        """
        if revision == self._synced_revision:
            return
        try:
            descriptor = os.open(self.log, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nothing was written since the log was moved into the database
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._synced_revision = revision


def too_long(log: Path) -> bool:
    """Whether SQLite has failed to move it. No lock of SQLite's is on this file, which closing it would drop.

    Raises:
        OSError: it can't be read.
    """
    descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(descriptor, LOG_HEADER_BYTES, 0)
        at = LOG_HEADER_BYTES + LONGEST_LOG_PAGES * (FRAME_HEADER_BYTES + PAGE_BYTES)
        frame = os.pread(descriptor, FRAME_HEADER_BYTES, at)
    finally:
        os.close(descriptor)
    return len(frame) == FRAME_HEADER_BYTES and frame[FRAME_SALTS] == header[LOG_SALTS]
