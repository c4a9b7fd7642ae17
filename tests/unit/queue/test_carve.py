"""Carving: every batch that SQLite wrote is found in its pages without SQLite, in the file as in its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.event import STREAM_BY_RANK, Stream
from otelbridge.queue.model import Batch, Change
from otelbridge.queue.recovery import MAX_LOCAL, MIN_LOCAL, OVERFLOW_BYTES, carve
from otelbridge.queue.store import Store, open_store, row_id

COLUMN_BYTES = 24
"""Of the columns before the request, roughly."""
SIZES = [
    *(1, 2, 57, 58, 59, 121, 122, 6_000),
    *(around - COLUMN_BYTES + n for around in (MAX_LOCAL, MIN_LOCAL + OVERFLOW_BYTES, MAX_LOCAL + OVERFLOW_BYTES)
      for n in range(-30, 31)),
    *(pages * OVERFLOW_BYTES + n for pages in (2, 3) for n in (-40, 0, 40)),
    70_000,
]  # fmt: skip
"""Around what fits into a page, into a page with an overflow page, and so on."""
NUMBERS = [0, 1, 2, 127, 128, 32_767, 32_768, 2**23 - 1, 2**23, 2**31 - 1, 2**31, 2**47 - 1, 2**47, 2**63 - 1]
"""At the ends of what SQLite stores in 0, 1, 2, 3, 4, 6 and 8 bytes; negative ones are made of them."""


def batches() -> Iterator[tuple[int, Batch]]:
    for sequence, size in enumerate(SIZES, start=1):
        stream, number = STREAM_BY_RANK[sequence % 5], NUMBERS[sequence % len(NUMBERS)]
        request = b"\x0a" + bytes((sequence + n) % 251 for n in range(size - 1))
        oldest = -number if sequence % 3 else number
        batch = Batch(stream=stream, request=request, records=number, oldest_received_unix_nano=oldest)
        yield row_id(stream, sequence << sequence % 30), batch


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Path, Store, dict[int, Batch]]]:
    path, held = tmp_path / "queue.db", dict(batches())
    store = open_store(path, max_file_bytes=1 << 26)
    store.apply(Change(inserts=held), b"")
    yield path, store, held
    store.close()


def test_it_finds_what_was_written_in_the_log_and_in_the_file(filled: tuple[Path, Store, dict[int, Batch]]) -> None:
    path, store, held = filled
    assert dict(carve(path)) == held
    assert store.move_log()
    later = Batch(stream=Stream.LOGS, request=b"later", records=1, oldest_received_unix_nano=1)
    number = row_id(Stream.LOGS, 1 << 31)
    store.apply(Change(inserts={number: later}), b"")  # what is left in the log is of an earlier round
    assert dict(carve(path)) == held | {number: later}
    store.close()
    assert dict(carve(path)) == held | {number: later}


def test_it_finds_the_others_whichever_page_is_gone(filled: tuple[Path, Store, dict[int, Batch]]) -> None:
    path, store, held = filled
    store.close()
    content = path.read_bytes()
    found: set[int] = set()
    for page in (0, 1 << 16, 1 << 19, len(content) - 8192):
        path.write_bytes(content[:page] + bytes([0xFF]) * 8192 + content[page + 8192 :])
        left = dict(carve(path))
        assert left.items() <= held.items()
        assert len(left) > len(held) // 2
        found.update(left)
    path.write_bytes(content[:-1])
    assert dict(carve(path)).items() <= held.items()
    assert found == held.keys()
