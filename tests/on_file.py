"""Answers on file: what a state machine says to a row of made-up events, a line each; a change of it is seen in a diff.

With `WRITE_ANSWERS=1` in the environment the files are written anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def told(*answers: Any) -> str:
    """A line; numbers to six digits, so that machines agree."""
    return " ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in answers)


def assert_on_file(file: Path, lines: Iterable[str]) -> None:
    """Fails at the first line that is another one than on file."""
    found = list(lines)
    if os.environ.get("WRITE_ANSWERS"):
        file.write_text("\n".join(found) + "\n", encoding="utf-8")
    assert found == file.read_text(encoding="utf-8").splitlines()
