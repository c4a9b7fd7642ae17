from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.admission import shed_from
from otelbridge.queue.checkpoint import Checkpoint, Mirror, read_page
from otelbridge.queue.disk import DiskError, disk_error_of
from otelbridge.queue.durability import note_of, read_note
from otelbridge.queue.model import Change
from otelbridge.telemetry.ledger import Account, Ledger, Posting


def books() -> Checkpoint:
    ledger = Ledger([Posting(Stream.LOGS, Account.RECEIVED, "", 5), Posting(Stream.LOGS, Account.FILTERED, "rule", 2)])
    return Checkpoint(revision=3, next_sequence=9, ledger=ledger, floor={Stream.LOGS: 12}, open_under_boot="b")


def test_the_books_survive_their_page() -> None:
    read = read_page(books().page())
    assert read is not None
    assert read.ledger.postings() == books().ledger.postings()
    assert (read.revision, read.next_sequence, read.floor, read.open_under_boot) == (3, 9, {Stream.LOGS: 12}, "b")


def test_a_page_with_any_byte_changed_is_not_believed() -> None:
    page = books().page()
    for place in range(len(page)):
        spoiled = bytearray(page)
        spoiled[place] ^= 0x20
        assert read_page(bytes(spoiled)) is None
    assert read_page(page[:-1]) is None
    assert read_page(b"") is None
    assert read_page(None) is None


def test_the_mirror_gives_back_the_last_page_though_an_earlier_one_was_longer(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "queue.books")
    assert mirror.read() is None
    mirror.write(books().page())
    mirror.write(Checkpoint(revision=4).page())
    read = mirror.read()
    mirror.close()
    assert read is not None
    assert (read.revision, read.ledger.postings()) == (4, [])


@pytest.mark.parametrize(
    ("code", "weather"),
    [
        (sqlite3.SQLITE_FULL, DiskError.FULL),
        (sqlite3.SQLITE_IOERR_WRITE, DiskError.TROUBLE),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskError.TROUBLE),
        (sqlite3.SQLITE_CANTOPEN, DiskError.TROUBLE),
        (sqlite3.SQLITE_READONLY, DiskError.TROUBLE),
        (sqlite3.SQLITE_BUSY, DiskError.TROUBLE),
        (sqlite3.SQLITE_NOMEM, DiskError.TROUBLE),
        (sqlite3.SQLITE_CORRUPT_INDEX, DiskError.DAMAGE),
        (sqlite3.SQLITE_NOTADB, DiskError.DAMAGE),
        (sqlite3.SQLITE_ERROR, DiskError.DAMAGE),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, DiskError.DAMAGE),
    ],
)
def test_each_result_code_is_one_kind_of_weather(code: int, weather: DiskError) -> None:
    error = sqlite3.OperationalError("text does not count")
    error.sqlite_errorcode = code
    assert disk_error_of(error) is weather


def test_logs_go_before_messages_before_alerts_and_never_for_less() -> None:
    logs, messages, alerts, gaps = (Stream.LOGS,), (Stream.MESSAGES,), (Stream.ALERTS,), (Stream.GAPS,)
    assert shed_from("logs_first", Stream.LOGS) == (logs,)
    assert shed_from("logs_first", Stream.MESSAGES) == (logs, messages)
    assert shed_from("logs_first", Stream.ALERTS) == (logs, messages, alerts)
    assert shed_from("drop_newest", Stream.ALERTS) == ()
    for policy in ("logs_first", "drop_oldest", "drop_newest"):
        assert shed_from(policy, Stream.GAPS)[-1] == gaps


def test_the_note_about_watching_is_read_back_and_bounded() -> None:
    watched = {(f"node{n}:32767", Stream.ALERTS): n for n in range(3_100)}
    read = read_note(note_of(watched))
    assert len(read) == 3_000
    assert read["node3099:32767", Stream.ALERTS] == 3099
    assert read_note(None) == {}


def test_a_change_without_anything_is_false() -> None:
    assert not Change()
    assert Change(notes={"a": "b"})
