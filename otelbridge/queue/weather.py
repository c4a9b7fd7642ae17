"""What an error of SQLite means for the queue: an error goes in, a kind of weather comes out."""

from __future__ import annotations

import sqlite3
from enum import StrEnum


class Weather(StrEnum):
    """What to do about an error."""

    FULL = "full"
    """No space: the disk's, or our own bound's. Wait in memory, try again."""
    TROUBLE = "trouble"
    """Input/output error, read-only, locked, out of memory: wait in memory, open the file anew, try again."""
    DAMAGE = "damage"
    """The file is not what we wrote: salvage it."""


# Primary result codes of https://www.sqlite.org/rescode.html. What is not here is trouble: it may pass.
BY_CODE = {
    sqlite3.SQLITE_FULL: Weather.FULL,
    sqlite3.SQLITE_CORRUPT: Weather.DAMAGE,
    sqlite3.SQLITE_NOTADB: Weather.DAMAGE,
    sqlite3.SQLITE_ERROR: Weather.DAMAGE,  # our statements are right, so the schema they name is gone
    sqlite3.SQLITE_SCHEMA: Weather.DAMAGE,
    sqlite3.SQLITE_FORMAT: Weather.DAMAGE,
    sqlite3.SQLITE_MISMATCH: Weather.DAMAGE,
    sqlite3.SQLITE_CONSTRAINT: Weather.DAMAGE,  # an id that we give is new, unless the table holds what it should not
    sqlite3.SQLITE_TOOBIG: Weather.DAMAGE,  # a length in the file that no batch of ours has
    sqlite3.SQLITE_RANGE: Weather.DAMAGE,
}
PRIMARY_CODE = 0xFF


def weather_of(error: sqlite3.Error) -> Weather:
    """Classifies by the primary result code; an error without a code comes from decoding a damaged row."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return Weather.DAMAGE if isinstance(error, sqlite3.DataError | sqlite3.OperationalError) else Weather.TROUBLE
    return BY_CODE.get(code & PRIMARY_CODE, Weather.TROUBLE)


def sentence(error: Exception) -> str:
    """The error with SQLite's own name for it, for a human."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)
