"""Whether a genuine peer is here: without it a test is skipped or, where peers are required, fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

REQUIRED = "REQUIRE_PEERS"
"""Set to 1 where a missing peer must not go unnoticed, as in .ci/run."""


def required(program: Path | None, *, name: str, cure: str) -> Path:
    """The program, where it is; else the test ends here, with the cure in the reason."""
    if program is None or not os.access(program, os.X_OK):
        _absent(name, cure)
    return program


def required_jars(folder: Path, *, name: str, cure: str) -> Path:
    """The folder, where there are jars in it; else the test ends here, with the cure in the reason."""
    if not any(folder.glob("*.jar")):
        _absent(name, cure)
    return folder


def on_path(name: str) -> Path | None:
    """A program that is installed."""
    found = shutil.which(name)
    return Path(found) if found else None


def _absent(name: str, cure: str) -> NoReturn:
    reason = f"{name} is not here: {cure}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED} is set)")
    pytest.skip(reason)
