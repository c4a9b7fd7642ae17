"""SQLite's write-ahead log beside the queue file: synced to the platter, and kept from growing without bound."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from otelbridge.queue.store import CHECKPOINT_PAGES, PAGE_BYTES, Store

LONGEST_PAGES = CHECKPOINT_PAGES + 64
"""The move was due half a MiB ago, a few hundred events or more."""
# https://www.sqlite.org/walformat.html: a header, then frames, each a header and a page. What is left of an earlier
# round behind the frames that count has other salts than the log's header.
LOG_HEADER_BYTES = 32
LOG_SALTS = slice(16, 24)
FRAME_HEADER_BYTES = 24
FRAME_SALTS = slice(8, 16)


class LogSync:
    """Brings the write-ahead log to the platter, where SQLite does not do so itself."""

    def __init__(self, database: Path, *, synced_by_itself: bool) -> None:
        self._path = Path(f"{database}-wal")
        self._synced_by_itself = synced_by_itself
        self._synced_revision = 0

    def sync(self, revision: int) -> None:
        """Syncs the log if there are changes since; SQLite keeps no lock on this file that closing it could drop.

        Raises:
            OSError: the disk did not take it.
        """
        if self._synced_by_itself or revision == self._synced_revision:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nothing was written since the log was moved into the database
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._synced_revision = revision


def bound_log(store: Store, database: Path) -> None:
    """Moves a log that is longer than it should ever be into the database.

    SQLite does so by itself after some commits, and says nothing when the database takes no writes: the commits
    succeed, and the log grows by up to 15 MiB a second, until it has the whole disk.

    Raises:
        sqlite3.Error: the database does not take it.
    """
    with contextlib.suppress(OSError):  # there is none, or the disk fails, which the next write says
        if too_long(Path(f"{database}-wal")):
            store.move_log()


def too_long(log: Path) -> bool:
    """Whether SQLite has failed to move it. No lock of SQLite's is on this file, which closing it would drop.

    Raises:
        OSError: it can't be read.
    """
    descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(descriptor, LOG_HEADER_BYTES, 0)
        at = LOG_HEADER_BYTES + LONGEST_PAGES * (FRAME_HEADER_BYTES + PAGE_BYTES)
        frame = os.pread(descriptor, FRAME_HEADER_BYTES, at)
    finally:
        os.close(descriptor)
    return len(frame) == FRAME_HEADER_BYTES and frame[FRAME_SALTS] == header[LOG_SALTS]


def try_to_move(store: Store) -> None:
    """Moves the log into the database, if that can be done; the next write says it if not."""
    with contextlib.suppress(sqlite3.Error):
        store.move_log()
