from __future__ import annotations

import contextlib
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.event import Stream
from otelbridge.queue.model import Batch, Change, DeadLetter, Retained, Span
from otelbridge.queue.packing import packed
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.store import (
    CRC_BITS,
    FILE_EXTRA_BYTES,
    FILE_SLACK,
    LONGEST_ROW_BYTES,
    checksum,
    connect,
    max_file_bytes,
    open_store,
    piece_ids,
    read_alone,
    read_store,
    row_id,
    sequence_of,
    span_of,
    stream_of,
)


@given(st.sampled_from(Stream), st.integers(1, 2**40 - 1))
def test_an_id_tells_stream_and_place_and_fits_into_an_sqlite_integer(stream: Stream, sequence: int) -> None:
    number = row_id(stream, sequence)
    assert (stream_of(number), sequence_of(number)) == (stream, sequence)
    first, last = span_of(stream)
    assert 0 <= first < number <= last < 2**63


def test_the_ids_of_the_streams_lie_one_after_the_other() -> None:
    spans = sorted(map(span_of, Stream))
    assert spans[0].first == 0
    assert all(later.first == earlier.last + 1 for earlier, later in pairwise(spans))
    assert [stream_of(span.last) for span in spans] == [stream_of(span.first) for span in spans]


def test_pieces_keep_the_order_and_can_be_cut_eighteen_times() -> None:
    room = Span(row_id(Stream.LOGS, 7) + 1, row_id(Stream.LOGS, 8) - 1)
    cuts = 0
    while room.last - room.first > 1:
        first, second = piece_ids(room, 2)
        assert room.first <= first < second <= room.last
        room = Span(first + 1, second - 1)
        cuts += 1
    assert cuts == 18
    with pytest.raises(ValueError, match="do not fit"):
        piece_ids(room, 3)


@given(st.integers(0, 3), st.binary(min_size=1, max_size=64), st.integers(0, 2**32), st.data())
def test_a_seal_breaks_when_anything_that_the_row_says_changes(
    rank: int, request: bytes, records: int, data: st.DataObject
) -> None:
    stream = stream_of(rank << 60)
    number = row_id(stream, 5)
    batch = Batch(stream=stream, request=request, records=records, oldest_received_unix_nano=9)
    seal = checksum(number, batch)
    bit = data.draw(st.integers(0, len(request) * 8 - 1))
    flipped = bytearray(request)
    flipped[bit // 8] ^= 1 << bit % 8
    others = [
        (number + 1, batch),
        (number, Batch(stream=stream, request=bytes(flipped), records=records, oldest_received_unix_nano=9)),
        (number, Batch(stream=stream, request=request, records=records + 1, oldest_received_unix_nano=9)),
        (number, Batch(stream=stream, request=request, records=records, oldest_received_unix_nano=8)),
    ]
    assert seal not in [checksum(*other) for other in others]


def test_a_seal_says_how_large_a_packed_request_is() -> None:
    request = b"\x0a" + bytes(5000)
    batch = Batch(stream=Stream.LOGS, request=packed(request), records=1, oldest_received_unix_nano=9)
    as_it_is = Batch(stream=Stream.LOGS, request=request, records=1, oldest_received_unix_nano=9)
    assert checksum(1, batch) >> CRC_BITS == 5001
    assert checksum(1, as_it_is) >> CRC_BITS == 0
    assert checksum(1, batch) < 2**63


def test_a_change_without_anything_is_false() -> None:
    assert not Change()
    assert Change(notes={"a": "b"})


FULL, NORMAL = 2, 1  # https://www.sqlite.org/pragma.html#pragma_synchronous


@pytest.mark.parametrize(("synchronous", "after_a_put"), [("full", FULL), ("normal", NORMAL)])
def test_what_is_put_reaches_the_platter_in_full_mode_and_what_only_forgets_need_not(
    tmp_path: Path, synchronous: Literal["full", "normal"], after_a_put: int
) -> None:
    made: list[sqlite3.Connection] = []

    def remembered(path: Path) -> sqlite3.Connection:
        made.append(connect(path))
        return made[0]

    store = open_store(tmp_path / "q.db", max_file_bytes=1 << 24, synchronous=synchronous, connect=remembered)
    batch = Batch(stream=Stream.LOGS, request=b"x", records=1, oldest_received_unix_nano=1)
    number = row_id(Stream.LOGS, 1)

    def mode_after(change: Change) -> int:
        store.apply(change, b"")
        return int(made[0].execute("PRAGMA synchronous").fetchone()[0])

    assert mode_after(Change(deletes=[Span(1, 2)])) == NORMAL
    assert mode_after(Change(inserts={number: batch})) == after_a_put
    assert mode_after(Change(deletes=[Span(number, number)])) == NORMAL
    assert mode_after(Change(notes={"key": "value"})) == after_a_put
    store.close()


def test_the_file_grows_to_its_bound_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    store = open_store(path, max_file_bytes=1 << 20)
    batch = Batch(stream=Stream.LOGS, request=bytes(1 << 16), records=1, oldest_received_unix_nano=1)
    for n in range(1, 15):
        store.apply(Change(inserts={row_id(Stream.LOGS, n): batch}), b"")
    with pytest.raises(sqlite3.OperationalError) as full:  # beside the schema there is no room for another
        store.apply(Change(inserts={row_id(Stream.LOGS, 15): batch}), b"")
    assert full.value.sqlite_errorname == "SQLITE_FULL"
    store.close()
    assert path.stat().st_size <= 1 << 20


def test_rows_of_a_stream_that_only_a_later_version_knows_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    open_store(file, max_file_bytes=2**26).close()
    with sqlite3.connect(file) as later:
        for number, stream in enumerate(("profiles", "alerts"), start=1):
            later.execute("INSERT INTO dead_letters VALUES (?, ?, 1, 1, 1, 'c', 'w', x'0a')", (number, stream))
            later.execute("INSERT INTO retained VALUES (?, ?, 1, 1, 1, x'0a')", (number, stream))
    later.close()
    store = open_store(file, max_file_bytes=2**26)
    assert [letter.id for letter in store.dead_letters()] == [2]
    assert [kept.stream for kept in store.retained(0, 2)] == [Stream.ALERTS]
    store.close()


@pytest.mark.parametrize(("retain_seconds", "held"), [(0, 30), (60, 70)])
def test_the_files_bound_is_by_all_that_may_be_in_it(tmp_path: Path, retain_seconds: int, held: int) -> None:
    mib = 1 << 20
    settings = QueueSettings(
        directory=tmp_path,
        max_bytes=20 * mib,
        dead_letter_max_bytes=10 * mib,
        retain_seconds=retain_seconds,
        retain_max_bytes=40 * mib,
    )
    assert max_file_bytes(settings) == int(held * mib * FILE_SLACK) + FILE_EXTRA_BYTES


def test_a_row_longer_than_any_of_ours_is_damage_and_fills_no_memory(tmp_path: Path) -> None:
    store = open_store(tmp_path / "queue.db", max_file_bytes=1 << 30)
    store.close()
    other = sqlite3.connect(tmp_path / "queue.db")
    other.execute(
        "INSERT INTO batches VALUES (?, 1, 1, 1, zeroblob(?))", (row_id(Stream.ALERTS, 1), LONGEST_ROW_BYTES + 1)
    )
    other.commit()
    other.close()
    store = open_store(tmp_path / "queue.db", max_file_bytes=1 << 30)
    with pytest.raises(sqlite3.DataError, match="too big"):
        list(store.batches(span_of(Stream.ALERTS)))
    store.close()


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON batches BEGIN DELETE FROM batches; END",
    ],
)
def test_a_file_in_which_something_acts_is_damage(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "queue.db"
    open_store(path, max_file_bytes=1 << 30).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(foreign)
    for opened in (lambda path: open_store(path, max_file_bytes=1 << 30), read_store, read_alone):
        with pytest.raises(sqlite3.DataError, match="1 views or triggers"):
            opened(path)


@pytest.mark.parametrize("value", ["NULL", "'a'", "1.5"])
@pytest.mark.parametrize(
    "place", ["dead_letters.refused", "dead_letters.request", "retained.delivered", "retained.request"]
)
def test_a_row_that_nobody_wrote_is_passed_over_and_forgotten_in_time(tmp_path: Path, place: str, value: str) -> None:
    table, column = place.split(".")
    path = tmp_path / "queue.db"
    store = open_store(path, max_file_bytes=1 << 30)
    kept = Retained(stream=Stream.LOGS, request=b"r", records=1, oldest_received_unix_nano=1, delivered_unix_nano=2)
    letter = DeadLetter(
        id=1,
        stream=Stream.LOGS,
        request=b"r",
        records=1,
        oldest_received_unix_nano=1,
        refused_unix_nano=2,
        code="",
        why="",
    )
    store.apply(Change(retained=[kept], dead_letters=[letter]), b"")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql=replace(sql, ' NOT NULL', '')")
    store.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"UPDATE {table} SET {column} = {value}")
    store = open_store(path, max_file_bytes=1 << 30)
    assert len(list(store.dead_letters())) == (table != "dead_letters")
    assert len(list(store.retained(0, 9))) == (table != "retained")
    assert all(isinstance(size, int) for _, size in store.dead_letter_sizes())
    store.trim_retained(delivered_before_unix_nano=9, free_bytes=0, most=9)
    assert not list(store.retained(0, 9))
    store.close()
