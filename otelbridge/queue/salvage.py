"""A damaged queue file goes in, a new one with every batch that can still be read comes out; the old is set aside."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.batch import Batch
from otelbridge.queue.carve import carve
from otelbridge.queue.change import Change
from otelbridge.queue.desk import Desk
from otelbridge.queue.opening import read_store
from otelbridge.queue.rows import STREAM_BY_RANK, Span, span_of, stream_of
from otelbridge.queue.store import Store
from otelbridge.queue.waiting_room import WaitingRoom, measure

MAX_SET_ASIDE = 2  # broken files that are kept for a human; older ones go
CHUNK_BYTES = 4 * 1024 * 1024
LOG_SUFFIXES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What a salvage came to."""

    set_aside: Path
    batches: int
    records: int


def salvage(path: Path, make_store: Callable[[Path], Store], floor: Mapping[Stream, int]) -> Salvaged:
    """Copies what is whole into a new file, then swaps the files. Nobody may have the file open.

    Args:
        path: the damaged file.
        make_store: opens a store, making the file where there is none.
        floor: per stream, the id below which every batch is settled: remains of those are not brought back.

    Raises:
        sqlite3.Error, OSError: the new file can't be written; the old one is as it was.
    """
    fresh = path.with_suffix(".new")
    remove(fresh)
    seen: set[int] = set()
    records = 0
    new = make_store(fresh)
    try:
        for chunk in _chunks(_readable(path, floor), seen):
            new.apply(Change(inserts=chunk), b"")
            records += sum(batch.records for batch in chunk.values())
        _keep_letters(path, new)
        new.checkpoint()
    finally:
        new.close()
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    # The log first: a new log beside the old file would be worse than the old file without its log.
    for suffix in ("-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    remove(path)
    fresh.replace(path)
    forget_oldest(path)
    return Salvaged(set_aside=aside, batches=len(seen), records=records)


def remove(path: Path) -> None:
    """Deletes a database with its log."""
    for suffix in ("", *LOG_SUFFIXES):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def forget_oldest(path: Path) -> None:
    """Keeps the newest broken files only."""
    kept = sorted(p for p in path.parent.glob(f"{path.name}.corrupt-*") if not p.name.endswith(LOG_SUFFIXES))
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
    if not whole:
        for batch_id, batch in carve(path):
            if batch_id >= floor.get(stream_of(batch_id), 0):
                yield batch_id, batch


def _keep_letters(path: Path, new: Store) -> None:
    """Dead letters and retained batches come along as far as SQL can read them: they are counted as gone already."""
    with contextlib.suppress(sqlite3.Error, ValueError):
        old = read_store(path)
        try:
            for letter in old.dead_letters():
                new.apply(Change(dead_letters=[letter]), b"")
            for _, kept in old.retained(0, 2**63 - 1):
                new.apply(Change(retained=[kept]), b"")
            new.apply(Change(notes=old.notes()), b"")
        finally:
            old.close()


def restore_loans(desk: Desk, room: WaitingRoom, store: Store, pending: Change) -> None:
    """Batches on loan that a salvage did not find are in memory still: they are written again, as one.

    Raises:
        sqlite3.Error: the new file can't be read.
    """
    for loan in desk.loans():
        lease = loan.lease
        kept = {row.id for row in store.measures(loan.span, -1)}
        if all(row.id in kept or row.id in room for row in loan.rows):
            continue
        for row in loan.rows:
            room.remove(Span(row.id, row.id))
        for row_id in kept:
            pending.deletes.append(Span(row_id, row_id))
            desk.block(lease.stream, Span(row_id, row_id))
        batch = Batch(
            stream=lease.stream,
            request=lease.request,
            records=lease.records,
            oldest_received_unix_nano=lease.oldest_received_unix_nano,
        )
        row = measure(loan.rows[0].id, batch)
        room.add(row.id, batch)
        desk.amend(replace(loan, rows=(row,)))
