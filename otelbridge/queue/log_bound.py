"""The write-ahead log's size: where it grows because its pages can't be moved into the database, that comes out.

SQLite moves them by itself after some commits, and says nothing when the database takes no writes: the commits succeed,
and the log grows by up to 15 MiB a second until it has the whole disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from otelbridge.queue.opening import WAL_LIMIT_BYTES
from otelbridge.queue.store import Store


def bound_log(store: Store, database: Path) -> None:
    """Moves a log that is larger than it ever should be into the database.

    Raises:
        sqlite3.Error: the database does not take it.
    """
    try:
        size = Path(f"{database}-wal").stat().st_size
    except OSError:
        return  # there is none, or the disk fails, which the next write says
    if size > WAL_LIMIT_BYTES:
        store.checkpoint()


def try_to_move(store: Store) -> None:
    """Moves the log into the database, if that can be done; the next write says it if not."""
    with contextlib.suppress(sqlite3.Error):
        store.checkpoint()
