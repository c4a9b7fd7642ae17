"""Answers on file: what a state machine says to made-up events, as a table beside the test; a change of it is a diff.

A table has a title, the names of its columns, and a row for each event: what happened, then what was answered.
With `WRITE_ANSWERS=1` in the environment the tables are written anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = Sequence[Any]


def cell(value: Any) -> str:
    """Numbers to six digits, so that machines agree; nothing is a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value) or "-"


def table(title: str, columns: str, rows: Iterable[Row]) -> str:
    """The columns are parted by two spaces, in the heading and in the rows.

    Args:
        title: what happens, in a sentence.
        columns: their names, parted by commas.
        rows: a value for each column.
    """
    cells = [columns.split(", "), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([title, "", *lines, ""])


def assert_on_file(file: Path, title: str, columns: str, rows: Iterable[Row]) -> None:
    """Fails at the first row that is another one than on file."""
    found = table(title, columns, rows)
    if os.environ.get("WRITE_ANSWERS"):
        file.write_text(found, encoding="utf-8")
    assert found.splitlines() == file.read_text(encoding="utf-8").splitlines()
