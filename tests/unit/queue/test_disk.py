from __future__ import annotations

import sqlite3

import pytest

from otelbridge.queue.disk import DiskError, disk_error_of


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
