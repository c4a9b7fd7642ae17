"""Opening the queue file, for writing or to look at it: its schema and its settings are here and nowhere else."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from otelbridge.queue.connection import QueueConnection
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.store import Store, Synchronous

QUEUE_FILE = "queue.db"

Connect = Callable[[Path], sqlite3.Connection]

APPLICATION_ID = 0x6F74656C  # "otel": `file queue.db` and salvage tell it by that
SCHEMA_VERSION = 1
PAGE_BYTES = (
    8192  # measured (docs/decisions/queue.md): 4 KiB wastes half of the space at 2 KB a batch, 16 KiB costs CPU
)
CACHE_KIB = 4096  # the part of the file that stays in memory, whatever the backlog
CHECKPOINT_PAGES = 512  # 4 MiB of write-ahead log, then its pages move into the file; a stall of milliseconds
WAL_LIMIT_BYTES = 8 * 1024 * 1024  # a log that grew beyond is cut back
OWNER_ONLY = 0o600  # events hold command lines, so secrets; SQLite gives the log beside the file the same mode
FILE_SLACK = 2.1  # at the unluckiest size, just over half a page, each batch takes a page of its own
FILE_ROOM_BYTES = 16 * 1024 * 1024  # the tables' own pages, gap records beyond the bound, room to delete in
READ_WAIT_SECONDS = 2  # a reader may have to wait for the writer's recovery of the log

SCHEMA = """
CREATE TABLE batches (
  id INTEGER PRIMARY KEY, records INTEGER NOT NULL, oldest INTEGER NOT NULL, checksum INTEGER NOT NULL,
  request BLOB NOT NULL);
CREATE TABLE books (id INTEGER PRIMARY KEY, page BLOB NOT NULL);
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, records INTEGER NOT NULL, oldest INTEGER NOT NULL,
  refused INTEGER NOT NULL, code TEXT NOT NULL, why TEXT NOT NULL, request BLOB NOT NULL);
CREATE TABLE retained (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, records INTEGER NOT NULL, oldest INTEGER NOT NULL,
  delivered INTEGER NOT NULL, request BLOB NOT NULL);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def max_file_bytes(settings: QueueSettings) -> int:
    """The bound of the file, by the bounds of what may be in it."""
    retained = settings.retain_max_bytes * bool(settings.retain_seconds)
    return int((settings.max_bytes + settings.dead_letter_max_bytes + retained) * FILE_SLACK) + FILE_ROOM_BYTES


def connect(path: Path) -> sqlite3.Connection:
    """The connection that the queue uses: autocommit, waits for no lock, used by one thread at a time."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=QueueConnection)


def open_store(
    path: Path, *, max_file_bytes: int, synchronous: Synchronous = "normal", connect: Connect = connect
) -> Store:
    """Opens the file for writing, making it where there is none, for its owner only."""
    with contextlib.suppress(OSError):  # SQLite fails in the same way a line below, and says more
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY))
    connection = connect(path)
    try:
        execute = connection.execute
        execute(f"PRAGMA page_size={PAGE_BYTES}")
        execute("PRAGMA auto_vacuum=INCREMENTAL")
        execute("PRAGMA journal_mode=WAL")
        execute(f"PRAGMA synchronous={synchronous}")
        execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        execute("PRAGMA secure_delete=OFF")
        execute("PRAGMA cell_size_check=ON")
        execute("PRAGMA trusted_schema=OFF")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID};"
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DataError(  # noqa: TRY301  # it is damage like any other
                f"schema version {version}, not {SCHEMA_VERSION}"
            )
        execute(f"PRAGMA max_page_count={max_file_bytes // PAGE_BYTES}")
    except BaseException:
        connection.close()
        raise
    return Store(connection, synchronous=synchronous)


def read_store(path: Path) -> Store:
    """Opens the file to look at it only: nothing is written, no lock is left, whether its bridge runs or not."""
    # A log beside the file must be read too; without one, nobody writes, and SQLite need not make files to share locks.
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro{immutable}",
        uri=True,
        timeout=READ_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=QueueConnection,
    )
    return Store(connection, synchronous="normal")
