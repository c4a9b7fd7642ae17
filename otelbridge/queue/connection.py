"""SQLite's connection, with one fault of Python's module mended: damage that SQLite cannot put into UTF-8.

Of a damaged schema SQLite says which name or word is wrong, in the file's own bytes. The module fails to decode that,
so what comes is a UnicodeDecodeError in place of a sqlite3.Error, which nobody expects from a database.
"""

from __future__ import annotations

import sqlite3
from typing import Any


class QueueConnection(sqlite3.Connection):
    """Raises sqlite3.DataError where the module's own raises UnicodeDecodeError."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As in sqlite3."""
        try:
            return super().execute(sql, parameters)
        except UnicodeDecodeError as error:
            raise _damage(error) from error

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """As in sqlite3."""
        try:
            return super().executescript(sql_script)
        except UnicodeDecodeError as error:
            raise _damage(error) from error


def _damage(error: UnicodeDecodeError) -> sqlite3.DataError:
    said = bytes(error.object).decode(errors="backslashreplace")
    return sqlite3.DataError(said)
