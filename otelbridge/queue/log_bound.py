"""The write-ahead log's length: where it grows because its pages can't be moved into the database, that comes out.

SQLite moves them by itself after some commits, and says nothing when the database takes no writes: the commits succeed,
and the log grows, by up to 15 MiB a second, until it has the whole disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from otelbridge.queue.opening import CHECKPOINT_PAGES, PAGE_BYTES
from otelbridge.queue.store import Store

LONGEST_PAGES = CHECKPOINT_PAGES + 64
"""The move was due half a MiB ago, a few hundred events or more."""

# https://www.sqlite.org/walformat.html: a header, then frames, each a header and a page. What is left of an earlier
# round behind the frames that count has other salts than the log's header.
LOG_HEADER_BYTES = 32
LOG_SALTS = slice(16, 24)
FRAME_HEADER_BYTES = 24
FRAME_SALTS = slice(8, 16)


def bound_log(store: Store, database: Path) -> None:
    """Moves a log that is longer than it should ever be into the database.

    Raises:
        sqlite3.Error: the database does not take it.
    """
    with contextlib.suppress(OSError):  # there is none, or the disk fails, which the next write says
        if too_long(Path(f"{database}-wal")):
            store.checkpoint()


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
        store.checkpoint()
