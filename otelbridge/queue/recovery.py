"""Makes a new file of what can be read of a damaged or deleted one, and of what memory still has."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from otelbridge.event import STREAM_BY_RANK, UPSTREAM_STREAMS, Gap, GapCause, RecordGap, Stream
from otelbridge.queue.checkpoint import Account, Checkpoint
from otelbridge.queue.disk import DATABASE_ENDINGS, DiskError, disk_error_of
from otelbridge.queue.memory import Leases, MemoryStore, measure
from otelbridge.queue.model import Batch, Change, Span
from otelbridge.queue.packing import MAX_REQUEST_BYTES, joined
from otelbridge.queue.store import (
    FRAME_HEADER_BYTES,
    FRAME_SALTS,
    LOG_HEADER_BYTES,
    LOG_SALTS,
    PAGE_BYTES,
    Store,
    checksum,
    read_store,
    span_of,
    stream_of,
)

LEAF = 0x0D
LEAF_HEADER_BYTES = 8
FILE_HEADER_BYTES = 100
MAX_LOCAL = PAGE_BYTES - 35
MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
OVERFLOW_BYTES = PAGE_BYTES - 4
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)  # by serial type
SERIAL_ZERO, SERIAL_ONE, FIRST_BLOB = 8, 9, 12
COLUMNS = 5
MORE_FOLLOWS = 0x80
NEW = ".new"
MAX_SET_ASIDE = 2  # broken files that are kept for a human; older ones go
CHUNK_BYTES = 4 * 1024 * 1024


class Pages:
    """Pages by number: the latest version that the write-ahead log has, or the file's."""

    def __init__(self, file: BinaryIO, log: BinaryIO | None) -> None:
        self._file = file
        self._log = log
        self.count = file.seek(0, 2) // PAGE_BYTES
        self._in_log: dict[int, int] = {}
        if log is not None:
            self._read_log(log)

    def _read_log(self, log: BinaryIO) -> None:
        end = log.seek(0, 2)
        log.seek(0)
        salt = log.read(LOG_HEADER_BYTES)[LOG_SALTS]
        place = LOG_HEADER_BYTES
        while place + FRAME_HEADER_BYTES + PAGE_BYTES <= end:
            log.seek(place)
            header = log.read(FRAME_HEADER_BYTES)
            if header[FRAME_SALTS] == salt:  # else: a frame of an earlier round of the log
                number = int.from_bytes(header[:4], "big")
                self._in_log[number] = place + FRAME_HEADER_BYTES
                self.count = max(self.count, min(number, self.count + end // PAGE_BYTES))
            place += FRAME_HEADER_BYTES + PAGE_BYTES

    def get(self, number: int) -> bytes:
        """The page; empty when there is no such page."""
        place = self._in_log.get(number)
        if place is not None and self._log is not None:
            self._log.seek(place)
            return self._log.read(PAGE_BYTES)
        if not 1 <= number <= self.count:
            return b""
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)


def carve(path: Path) -> Iterator[tuple[int, Batch]]:
    """Every batch in the file or its log whose seal is whole. Some may be remains of batches deleted since.

    Raises:
        OSError: the file can't be read at all.
    """
    log_path = Path(f"{path}-wal")
    with path.open("rb") as file:
        log = log_path.open("rb") if log_path.exists() else None
        try:
            pages = Pages(file, log)
            for number in range(1, pages.count + 1):
                yield from _batches_of(pages, pages.get(number), FILE_HEADER_BYTES if number == 1 else 0)
        finally:
            if log is not None:
                log.close()


def _batches_of(pages: Pages, page: bytes, start: int) -> Iterator[tuple[int, Batch]]:
    if len(page) < PAGE_BYTES or page[start] != LEAF:
        return
    cells = int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + LEAF_HEADER_BYTES
    for n in range(min(cells, (PAGE_BYTES - first) // 2)):
        place = int.from_bytes(page[first + 2 * n : first + 2 * n + 2], "big")
        try:
            found = _batch_at(pages, page, place)
        except (IndexError, ValueError, struct.error):
            continue
        if found is not None:
            yield found


def _batch_at(pages: Pages, page: bytes, place: int) -> tuple[int, Batch] | None:
    size, place = _varint(page, place)
    batch_id, place = _varint(page, place)
    if not 0 < size <= MAX_REQUEST_BYTES or batch_id >= 1 << 63:
        return None
    payload = _payload(pages, page, place, size)
    if payload is None:
        return None
    header_bytes, at = _varint(payload, 0)
    types = []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != COLUMNS or at != header_bytes or types[0] != 0:  # the id is stored as NULL: it is the key itself
        return None
    values = []
    for kind in types[1:-1]:
        value, at = _integer(payload, at, kind)
        values.append(value)
    records, oldest, seal = values
    if types[-1] < FIRST_BLOB or types[-1] % 2 or (types[-1] - FIRST_BLOB) // 2 != len(payload) - at:
        return None
    batch = Batch(stream=stream_of(batch_id), request=payload[at:], records=records, oldest_received_unix_nano=oldest)
    return (batch_id, batch) if checksum(batch_id, batch) == seal else None


def _payload(pages: Pages, page: bytes, place: int, size: int) -> bytes | None:
    if size <= MAX_LOCAL:
        return page[place : place + size]
    local = MIN_LOCAL + (size - MIN_LOCAL) % OVERFLOW_BYTES
    if local > MAX_LOCAL:
        local = MIN_LOCAL
    parts = [page[place : place + local]]
    following = int.from_bytes(page[place + local : place + local + 4], "big")
    left = size - local
    while left > 0:
        more = pages.get(following)
        if len(more) < PAGE_BYTES:
            return None
        parts.append(more[4 : 4 + min(left, OVERFLOW_BYTES)])
        left -= OVERFLOW_BYTES
        following = int.from_bytes(more[:4], "big")
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(8):
        byte = data[at + n]
        value = value << 7 | byte & 0x7F
        if byte < MORE_FOLLOWS:
            return value, at + n + 1
    return value << 8 | data[at + 8], at + 9


def _integer(data: bytes, at: int, kind: int) -> tuple[int, int]:
    if kind in (SERIAL_ZERO, SERIAL_ONE):
        return kind - SERIAL_ZERO, at
    width = INTEGER_BYTES[kind]
    return int.from_bytes(data[at : at + width], "big", signed=True), at + width


def salvage(path: Path, make_store: Callable[[Path], Store], floor: Mapping[Stream, int]) -> tuple[Path, int]:
    """Copies what is whole into a new file, then swaps the files. Nobody may have the file open.

    Returns where the old file is now, and how many records were copied.

    Args:
        path: the damaged file.
        make_store: opens a store, making the file where there is none.
        floor: per stream, the id below which every batch is settled: remains of those are not brought back.

    Raises:
        sqlite3.Error, OSError: the new file can't be written; the old one is as it was.
    """
    new_path = path.with_suffix(NEW)
    remove(new_path)
    seen: set[int] = set()
    records = 0
    new = make_store(new_path)
    try:
        for chunk in _chunks(_readable(path, floor), seen):
            new.apply(Change(inserts=chunk), b"")
            records += sum(batch.records for batch in chunk.values())
        _keep_others(path, new)
        new.move_log()
    except BaseException:
        new.close()
        with contextlib.suppress(OSError):
            remove(new_path)
        raise
    new.close()
    return put_in_place(path), records


def rebuild(path: Path, store: Store) -> bool:
    """Makes a new file of one that is open, though it is not at its path any more; False if it can't be read.

    Raises:
        sqlite3.Error, OSError: the new file can't be written; the open one can be read on.
    """
    new_path = path.with_suffix(NEW)
    remove(new_path)
    try:
        store.copy_to(new_path)
    except sqlite3.Error as error:
        remove(new_path)
        if disk_error_of(error) is not DiskError.FULL and store.quick_check():
            return False
        raise
    return True


def put_in_place(path: Path) -> Path:
    """Sets aside what lies at the path, if anything does, and puts the new file there; returns where the old one is."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    # The database first: where it is gone and a new one is there, `finish_swap` does what is left.
    for ending in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{aside}{ending}")
    finish_swap(path)
    forget_oldest(path)
    return aside


def finish_swap(path: Path) -> bool:
    """Puts the new file in place, if the old one was set aside, and then the disk failed or the process was killed."""
    new_path = path.with_suffix(NEW)
    due = new_path.exists() and not path.exists()
    if due:
        remove(path)  # what is left of the old one
        new_path.replace(path)
    return due


def remove(path: Path) -> None:
    """Deletes a database with its log."""
    for ending in DATABASE_ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def forget_oldest(path: Path) -> None:
    """Keeps the newest broken files only."""
    kept = sorted(p for p in path.parent.glob(f"{path.name}.corrupt-*") if not p.name.endswith(DATABASE_ENDINGS[1:]))
    for old in kept[:-MAX_SET_ASIDE]:
        remove(old)


def _chunks(batches: Iterator[tuple[int, Batch]], seen: set[int]) -> Iterator[dict[int, Batch]]:
    chunk: dict[int, Batch] = {}
    size = 0
    for batch_id, batch in batches:
        if batch_id in seen:
            continue
        seen.add(batch_id)
        chunk[batch_id] = batch
        size += len(batch.request)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _readable(path: Path, floor: Mapping[Stream, int]) -> Iterator[tuple[int, Batch]]:
    """By SQL where the trees are whole; by looking into every page where they are not."""
    whole = False
    try:
        old = read_store(path)
    except sqlite3.Error:
        pass
    else:
        try:
            for stream in STREAM_BY_RANK:
                for batch_id, batch in old.batches(span_of(stream)):
                    if batch is not None:
                        yield batch_id, batch
            whole = True
        except sqlite3.Error:
            whole = False
        finally:
            old.close()
    if not whole and path.exists():
        for batch_id, batch in carve(path):
            if batch_id >= floor.get(stream_of(batch_id), 0):
                yield batch_id, batch


def _keep_others(path: Path, new: Store) -> None:
    """Dead letters and retained batches come along as far as SQL can read them: they are counted as gone already."""
    with contextlib.suppress(sqlite3.Error, ValueError):
        old = read_store(path)
        try:
            for dead_letter in old.dead_letters():
                new.apply(Change(dead_letters=[dead_letter]), b"")
            for kept in old.retained(0, 2**63 - 1):
                new.apply(Change(retained=[kept]), b"")
        finally:
            old.close()


def restore_from_memory(leases: Leases, memory: MemoryStore, copies: Mapping[int, Batch], store: Store) -> None:
    """Puts back what a new file lacks and memory still has: batches that are leased, and copies of those just written.

    Args:
        leases: those that are out; the batches of one are written again as one, and what is left of them deleted.
        memory: takes what is to be written again.
        copies: batches that were in the old file.
        store: the new file.

    Raises:
        sqlite3.Error: the new file can't be read.
    """
    leased: set[int] = set()
    for open_lease in leases.open():
        lease = open_lease.lease
        leased.update(row.id for row in open_lease.rows)
        kept = {row.id for row in store.measures(open_lease.span, -1)}
        if all(row.id in kept or row.id in memory for row in open_lease.rows):
            continue
        for row in open_lease.rows:
            memory.remove(Span(row.id, row.id))
        for row_id in kept:
            leases.block(lease.stream, Span(row_id, row_id))
        batch = Batch(
            stream=lease.stream,
            request=joined(lease.parts),
            records=lease.records,
            oldest_received_unix_nano=open_lease.oldest,
        )
        row = measure(open_lease.rows[0].id, batch)
        memory.add(row.id, batch)
        leases.amend(replace(open_lease, rows=(row,)))
    for batch_id, batch in copies.items():
        if batch_id not in leased and batch_id not in memory and not store.measures(Span(batch_id, batch_id), 1):
            memory.add(batch_id, batch)


WINDOW_NANOS = 1_000_000_000  # between two syncs, with the time that a sync takes


def corruption_gap(stream: Stream, times: tuple[int, int], lost_records: int | None, detail: str) -> Gap:
    """The record of what the disk has lost of a stream, received between two Unix times; the upstream is unknown."""
    return Gap(
        stream=stream,
        upstream="",
        cause=GapCause.CORRUPTION,
        started_unix_nano=times[0],
        ended_unix_nano=times[1],
        lost_records=lost_records,
        detail=detail,
    )


def record_crash(last: Checkpoint, boot: str, record_gap: RecordGap) -> None:
    """Records what a power cut may have cost, if the machine was started anew while an unsynced queue was open."""
    if not last.unsynced or not boot or last.boot == boot:
        return
    written = last.written.unix_nano
    detail = "The machine stopped without notice; its last second may not have reached the disk."
    for stream in UPSTREAM_STREAMS:
        if last.ledger.total(stream, Account.RECEIVED):
            record_gap(corruption_gap(stream, (written, written + WINDOW_NANOS), None, detail))


def record_lost_history(folder: Path, trace_unix_nano: int, *, now_unix_nano: int, record_gap: RecordGap) -> None:
    """Records that an earlier life left files, but not until when it watched: what was missed since is unknown."""
    detail = f"A bridge has used the folder {folder} before, and what it noted there is gone."
    for stream in UPSTREAM_STREAMS:
        times = (trace_unix_nano, max(trace_unix_nano, now_unix_nano))
        record_gap(corruption_gap(stream, times, None, detail))
