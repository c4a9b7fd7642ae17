from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

import pytest

from otelbridge.queue.disk import INSTANCE_FILE, DiskError, disk_error_of, sentence, stable_instance_id


@pytest.mark.parametrize(
    ("code", "kind"),
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
def test_each_result_code_is_one_kind_of_error(code: int, kind: DiskError) -> None:
    error = sqlite3.OperationalError("text does not count")
    error.sqlite_errorcode = code
    assert disk_error_of(error) is kind


def test_the_id_is_the_same_in_every_life_of_a_queue(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "made" / "yet"
    first = stable_instance_id(folder)
    assert str(uuid.UUID(first)) == first
    assert stable_instance_id(folder) == first
    assert stable_instance_id(tmp_path / "another") != first


@pytest.mark.parametrize("content", [b"", b"not an id", b"\xff" * 1000, b"12345678-1234-"])
def test_what_is_no_id_is_replaced_by_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INSTANCE_FILE).write_bytes(content)
    made = stable_instance_id(tmp_path)
    assert (tmp_path / INSTANCE_FILE).read_text(encoding="ascii") == f"{made}\n"
    assert stable_instance_id(tmp_path) == made


def test_a_link_is_not_followed_and_a_folder_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious", encoding="ascii")
    (tmp_path / INSTANCE_FILE).symlink_to(target)
    uuid.UUID(stable_instance_id(tmp_path))
    (tmp_path / INSTANCE_FILE).unlink()
    (tmp_path / INSTANCE_FILE).hardlink_to(target)
    uuid.UUID(stable_instance_id(tmp_path))
    assert target.read_text(encoding="ascii") == "precious"
    uuid.UUID(stable_instance_id(target / "below a file"))


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INSTANCE_FILE)
    uuid.UUID(stable_instance_id(tmp_path))


def test_an_error_is_said_with_sqlites_name_for_it_where_it_has_one() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    assert sentence(error) == "disk I/O error"
    error.sqlite_errorname = "SQLITE_IOERR_WRITE"
    assert sentence(error) == "disk I/O error (SQLITE_IOERR_WRITE)"
