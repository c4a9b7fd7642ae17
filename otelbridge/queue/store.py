"""The SQLite file: its layout, its rows' ids, and one transaction per change."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from otelbridge.event import STREAM_BY_RANK, Stream
from otelbridge.queue.disk import DATABASE_ENDINGS, WAL_LIMIT_BYTES
from otelbridge.queue.model import Batch, Change, DeadLetter, LeaseError, Retained, Row, Span
from otelbridge.queue.packing import MAX_REQUEST_BYTES, is_packed, request_bytes
from otelbridge.queue.settings import QueueSettings

RANK_BITS = 60
PIECE_BITS = 20  # a million pieces of one batch; leaves 2**40 batches, a century at 300 a second
RANK = {stream: rank for rank, stream in enumerate(STREAM_BY_RANK)}
SEAL = struct.Struct(">qqq")
CRC_BITS = 32


def row_id(stream: Stream, sequence: int) -> int:
    """The id of the batch that arrived as number `sequence`."""
    return RANK[stream] << RANK_BITS | sequence << PIECE_BITS


def sequence_of(batch_id: int) -> int:
    """The place in the order of arrival, comparable across streams."""
    return (batch_id & (1 << RANK_BITS) - 1) >> PIECE_BITS


def stream_of(batch_id: int) -> Stream:
    """The stream of a row. Raises IndexError for an id that we never gave."""
    return STREAM_BY_RANK[batch_id >> RANK_BITS]


def span_of(stream: Stream) -> Span:
    """All ids that the stream's rows can have."""
    return Span(RANK[stream] << RANK_BITS, (RANK[stream] + 1 << RANK_BITS) - 1)


def checksum(batch_id: int, batch: Batch) -> int:
    """CRC-32 over everything that the row says: a row that still matches it is the one that was written.

    Above it stands the length of a packed request once it is unpacked, and 0 of others: SQLite reads a whole request to
    tell its first bytes, but not to tell this.
    """
    crc = zlib.crc32(batch.request, zlib.crc32(SEAL.pack(batch_id, batch.records, batch.oldest_received_unix_nano)))
    return request_bytes(batch.request) << CRC_BITS | crc if is_packed(batch.request) else crc


def piece_ids(free: Span, pieces: int) -> list[int]:
    """Ids for the pieces of a batch, in order, evenly spread so that a piece can be cut again.

    Raises:
        LeaseError: the span is too small; cutting has gone further than a million pieces of one batch.
    """
    step = (free.last - free.first + 1) // pieces
    if not step:
        raise LeaseError(f"{pieces} pieces do not fit into {free}")
    return [free.first + step * n for n in range(pieces)]


STREAM_NAMES = frozenset(Stream)
"""Rows of another stream are a later version's, and are passed over."""
Synchronous = Literal["normal", "full"]
Connect = Callable[[Path], sqlite3.Connection]
APPLICATION_ID = 0x6F74656C  # "otel": `file queue.db` and salvage tell it by that
SCHEMA_VERSION = 3
"""Before 3 the flight recorder held nothing but requests."""
PAGE_BYTES = 8192
"""Measured (docs/decisions/queue.md): 4 KiB wastes half of the space at 2 KB a batch, 16 KiB costs CPU."""
LONGEST_ROW_BYTES = MAX_REQUEST_BYTES + PAGE_BYTES
"""SQLite's own bound is 1 GB, four times the memory that a container has."""
CACHE_KIB = 4096  # the part of the file that stays in memory, whatever the backlog
CHECKPOINT_PAGES = 512  # 4 MiB of write-ahead log, then its pages move into the file; a stall of milliseconds
OWNER_ONLY = 0o600  # events hold command lines, so secrets; SQLite gives the log beside the file the same mode
FILE_SLACK = 2.1  # at the unluckiest size, just over half a page, each batch takes a page of its own
FILE_EXTRA_BYTES = 16 * 1024 * 1024  # the tables' own pages, gap records beyond the bound, space to delete in
READ_WAIT_SECONDS = 2  # a reader may have to wait for the writer's recovery of the log
# https://www.sqlite.org/walformat.html: a header, then frames, each a header and a page. What is left of an earlier
# round behind the frames that count has other salts than the log's header.
LOG_HEADER_BYTES = 32
LOG_SALTS = slice(16, 24)
FRAME_HEADER_BYTES = 24
FRAME_SALTS = slice(8, 16)
SCHEMA = """
CREATE TABLE batches (
  id INTEGER PRIMARY KEY, records INTEGER NOT NULL, oldest INTEGER NOT NULL, checksum INTEGER NOT NULL,
  request BLOB NOT NULL);
CREATE TABLE checkpoint (id INTEGER PRIMARY KEY, page BLOB NOT NULL);
INSERT INTO checkpoint VALUES (1, x'');
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, records INTEGER NOT NULL, oldest INTEGER NOT NULL,
  refused INTEGER NOT NULL, code TEXT NOT NULL, why TEXT NOT NULL, request BLOB NOT NULL);
CREATE TABLE retained (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, records INTEGER NOT NULL, oldest INTEGER NOT NULL,
  delivered INTEGER NOT NULL, request BLOB NOT NULL);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
RETAIN = "INSERT INTO retained (stream, records, oldest, delivered, request) VALUES (?, ?, ?, ?, ?)"


class QueueCursor(sqlite3.Cursor):
    """Rows, read as by a `QueueConnection`."""

    def __next__(self) -> Any:
        """As in sqlite3."""
        try:
            return super().__next__()
        except MemoryError as error:
            raise _damage(error) from error


class QueueConnection(sqlite3.Connection):
    """A connection that raises sqlite3.DataError where the module's own raises UnicodeDecodeError or MemoryError.

    The latter comes of a damaged row, whose columns may seem to be of any length: they are read up to a bound.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_ROW_BYTES)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As in sqlite3."""
        try:
            return QueueCursor(self).execute(sql, parameters)
        except (UnicodeDecodeError, MemoryError) as error:
            raise _damage(error) from error

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """As in sqlite3."""
        try:
            return super().executescript(sql_script)
        except (UnicodeDecodeError, MemoryError) as error:
            raise _damage(error) from error


def _damage(error: UnicodeDecodeError | MemoryError) -> sqlite3.DataError:
    if isinstance(error, MemoryError):
        return sqlite3.DataError("a row that asks for more memory than any of ours")
    return sqlite3.DataError(bytes(error.object).decode(errors="backslashreplace"))


Sums = tuple[int, int, int]
"""Batches, records, bytes."""


def _integers(row: tuple[object, ...]) -> Sums:
    """The row, if it holds what we write there."""
    first, second, third = row
    if isinstance(first, int) and isinstance(second, int) and isinstance(third, int):
        return first, second, third
    raise sqlite3.DataError(f"a row that nobody wrote: {row}")


def _holds(row: tuple[object, ...], *kinds: type) -> bool:
    """Whether the row holds what we write there; a damaged one is passed over."""
    return len(row) == len(kinds) and all(map(isinstance, row, kinds))


def _measured(row: tuple[int, object, object, object, object]) -> Row:
    row_id, records, size, oldest, seal = row
    records, size, oldest = _integers((records, size, oldest))
    unpacked_bytes = seal >> CRC_BITS if isinstance(seal, int) else 0
    return Row(row_id, records, size, oldest, unpacked_bytes if unpacked_bytes > 0 else size)


class Store:
    """The open file. Not thread-safe."""

    def __init__(self, connection: sqlite3.Connection, *, synchronous: Synchronous) -> None:
        self._connection = connection
        self._synchronous = synchronous
        self.alone = False
        """No other connection can be opened beside this one."""

    def close(self) -> None:
        """Releases the file; moves the log into it where it can."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # --- writing ---

    def apply(self, change: Change, page: bytes) -> None:
        """One transaction: the change and the checkpoint that goes with it."""
        execute = self._connection.execute
        if self._synchronous == "full":
            # What only forgets batches need not reach the platter: lost, it costs a duplicate. The next put syncs it.
            execute(f"PRAGMA synchronous={'FULL' if change.inserts or not change.deletes else 'NORMAL'}")
        execute("BEGIN IMMEDIATE")
        try:
            self._write(change)
            execute("UPDATE checkpoint SET page = ?", (page,))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    execute("ROLLBACK")
            raise

    def _write(self, change: Change) -> None:
        execute = self._connection.execute
        for span, delivered in change.retain:
            for batch_id, records, oldest, _, request in self._full_rows(span):
                execute(RETAIN, (stream_of(batch_id), records, oldest, delivered, request))
        for kept in change.retained:
            execute(RETAIN, kept)
        for span in change.deletes:
            execute("DELETE FROM batches WHERE id BETWEEN ? AND ?", span)
        for batch_id, batch in change.inserts.items():
            oldest, seal = batch.oldest_received_unix_nano, checksum(batch_id, batch)
            execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)", (batch_id, batch.records, oldest, seal, batch.request)
            )
        for dead_letter in change.dead_letters:
            execute("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?)", dead_letter)
        for letter_id in change.dead_letter_deletes:
            execute("DELETE FROM dead_letters WHERE id = ?", (letter_id,))
        for key, note in change.notes.items():
            if note:
                execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, note))
            else:
                execute("DELETE FROM notes WHERE key = ?", (key,))

    def move_log(self) -> bool:
        """Moves the whole log into the file and starts it anew; True when nothing was left in it."""
        busy, log, moved = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return not busy and bool(log == moved)

    def give_back_space(self, pages: int) -> None:
        """Cuts so many unused pages off the file."""
        self._connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    # --- reading ---

    def file_pages(self) -> tuple[int, int]:
        """Pages of the file, and how many of them are unused."""
        pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        return pages, self._connection.execute("PRAGMA freelist_count").fetchone()[0]

    def page(self) -> bytes | None:
        """The checkpoint's page as it is stored; None when there is none yet."""
        row = self._connection.execute("SELECT page FROM checkpoint WHERE id = 1").fetchone()
        return row[0] if row and isinstance(row[0], bytes) else None

    def notes(self, beginning: str) -> dict[str, str]:
        """All notes whose keys begin so."""
        found = self._connection.execute(
            "SELECT key, value FROM notes WHERE substr(key, 1, ?) = ?", (len(beginning), beginning)
        )
        return {key: value for key, value in found if isinstance(value, str)}

    def copy_to(self, path: Path) -> None:
        """Copies all that can be seen through this connection into another file."""
        with contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def measures(self, span: Span, limit: int) -> list[Row]:
        """The first rows of a span in order, without their bytes."""
        found = self._connection.execute(
            "SELECT id, records, length(request), oldest, checksum FROM batches"
            " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (*span, limit),
        )
        return [_measured(row) for row in found]

    def _full_rows(self, span: Span) -> Iterator[tuple[int, int, int, int, bytes]]:
        yield from self._connection.execute(
            "SELECT id, records, oldest, checksum, request FROM batches WHERE id BETWEEN ? AND ? ORDER BY id", span
        )

    def batches(self, span: Span) -> Iterator[tuple[int, Batch | None]]:
        """The batches of a span in order; None for one that is not what was written."""
        for row_id, records, oldest, expected, request in self._full_rows(span):
            batch = None
            if isinstance(request, bytes) and isinstance(records, int) and isinstance(oldest, int):
                batch = Batch(
                    stream=stream_of(row_id), request=request, records=records, oldest_received_unix_nano=oldest
                )
                if checksum(row_id, batch) != expected:
                    batch = None
            yield row_id, batch

    def sums(self, span: Span) -> Sums:
        """Batches, records and bytes in a span of one stream's ids, counted row by row."""
        # One query per stream: a GROUP BY would carry every request through SQLite's sorter.
        return _integers(
            self._connection.execute(
                "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(request)), 0)"
                " FROM batches WHERE id BETWEEN ? AND ?",
                span,
            ).fetchone()
        )

    def sums_by_stream(self) -> dict[Stream, Sums]:
        """The same of all that is there."""
        return {stream: self.sums(span_of(stream)) for stream in STREAM_BY_RANK}

    def last_sequence(self) -> int:
        """The highest place in the order of arrival that any row has."""
        found = 0
        for stream in STREAM_BY_RANK:
            last = self._connection.execute(
                "SELECT max(id) FROM batches WHERE id BETWEEN ? AND ?", span_of(stream)
            ).fetchone()[0]
            found = max(found, sequence_of(last or 0))
        return found

    def dead_letters(self) -> Iterator[DeadLetter]:
        """The dead letters, oldest first."""
        for row in self._connection.execute("SELECT * FROM dead_letters ORDER BY id"):
            if _holds(row, int, str, int, int, int, str, str, bytes) and row[1] in STREAM_NAMES:
                yield DeadLetter(*row)._replace(stream=Stream(row[1]))

    def dead_letter_sizes(self) -> list[tuple[int, int]]:
        """Number and bytes of each dead letter, oldest first."""
        return self._connection.execute(
            "SELECT id, coalesce(length(request), 0) FROM dead_letters ORDER BY id"
        ).fetchall()

    def retained(self, since_unix_nano: int, until_unix_nano: int) -> Iterator[Retained]:
        """Delivered batches that were received in a stretch of time, in the order of delivery."""
        for row in self._connection.execute(
            "SELECT stream, records, oldest, delivered, request FROM retained WHERE oldest BETWEEN ? AND ? ORDER BY id",
            (since_unix_nano, until_unix_nano),
        ):
            if _holds(row, str, int, int, int, bytes) and row[0] in STREAM_NAMES:
                yield Retained(*row)._replace(stream=Stream(row[0]))

    def quick_check(self) -> str:
        """What SQLite finds wrong with the file's structure; empty when nothing."""
        try:
            found = self._connection.execute("PRAGMA quick_check(10)").fetchall()
        except sqlite3.Error as error:
            return str(error)
        lines = [str(line) for (line,) in found]
        return "" if lines == ["ok"] else "; ".join(lines)

    def retained_bytes(self) -> int:
        """Bytes that the flight recorder holds."""
        size = self._connection.execute("SELECT sum(length(request)) FROM retained").fetchone()[0]
        return int(size or 0)

    def trim_retained(self, *, delivered_before_unix_nano: int, free_bytes: int, most: int) -> int:
        """Forgets the oldest retained batches, those too old and more for the space; returns the bytes freed."""
        freed = 0
        last = None
        for number, delivered, size in self._connection.execute(
            "SELECT id, delivered, coalesce(length(request), 0) FROM retained ORDER BY id LIMIT ?", (most,)
        ):
            if _holds((delivered,), int) and delivered >= delivered_before_unix_nano and freed >= free_bytes:
                break
            freed += size
            last = number
        if last is not None:
            self._connection.execute("DELETE FROM retained WHERE id <= ?", (last,))
        return freed


def max_file_bytes(settings: QueueSettings) -> int:
    """The bound of the file, by the bounds of what may be in it."""
    retained = settings.retain_max_bytes * bool(settings.retain_seconds)
    return int((settings.max_bytes + settings.dead_letter_max_bytes + retained) * FILE_SLACK) + FILE_EXTRA_BYTES


def connect(path: Path) -> sqlite3.Connection:
    """The connection that the queue uses: autocommit, waits for no lock, used by one thread at a time."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=QueueConnection)


def refuse_what_is_no_file(path: Path) -> None:
    """Looks at the database and what SQLite keeps beside it: it would follow a link, and read from a pipe for ever.

    Raises:
        OSError: one of them is a link, or no file at all.
    """
    for file in (Path(f"{path}{ending}") for ending in DATABASE_ENDINGS):
        if file.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link", str(file))
        if file.exists() and not file.is_file():
            raise OSError(errno.EISDIR, "it is no file", str(file))


def open_store(
    path: Path, *, max_file_bytes: int, synchronous: Synchronous = "normal", connect: Connect = connect
) -> Store:
    """Opens the file for writing, making it where there is none, for its owner only.

    Raises:
        sqlite3.Error: it can't be opened or made.
        OSError: it is a link, or no file at all.
    """
    refuse_what_is_no_file(path)
    if not path.exists():  # closing a file that is open already would drop SQLite's locks on it
        with contextlib.suppress(OSError):  # SQLite fails in the same way a line below, and says more
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY))
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
        elif version == SCHEMA_VERSION - 1:
            execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise sqlite3.DataError(  # noqa: TRY301  # it is damage like any other
                f"schema version {version}, not {SCHEMA_VERSION}"
            )
        execute(f"PRAGMA max_page_count={max_file_bytes // PAGE_BYTES}")
        _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return Store(connection, synchronous=synchronous)


def _check_tables(connection: sqlite3.Connection) -> None:
    """Refuses a file in which something acts: a view may have rows without end, a trigger undo what is written.

    Raises:
        sqlite3.Error: there is one, or the file can't be read.
    """
    others = connection.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()[0]
    if others:
        raise sqlite3.DataError(f"{others} views or triggers, which are none of ours")


def read_store(path: Path) -> Store:
    """Opens the file to look at it only: nothing is written, no lock is left, whether its bridge runs or not."""
    # A log beside the file must be read too; without one, nobody writes, and SQLite need not make files to share locks.
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    return Store(_reading(path, f"ro{immutable}", READ_WAIT_SECONDS), synchronous="normal")


def read_alone(path: Path) -> Store:
    """Opens the file of which we are the only user, to read it where nothing can be written, not even shared memory."""
    # The log's index is then kept in this process's memory.
    return Store(_reading(path, "rw", 0, "PRAGMA locking_mode=EXCLUSIVE"), synchronous="normal")


def _reading(path: Path, mode: str, wait_seconds: float, first: str = "") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=wait_seconds,
        isolation_level=None,
        check_same_thread=False,
        factory=QueueConnection,
    )
    try:
        connection.execute(first)
        _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection
