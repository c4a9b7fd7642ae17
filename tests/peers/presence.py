"""Whether a genuine peer is here: without it a test is skipped or, where peers are required, fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

REQUIRED = "REQUIRE_PEERS"
"""Set to 1 where a missing peer must not go unnoticed, as in .ci/run."""


def required(program: Path | None, *, name: str, cure: str) -> Path:
    """The program, where it is; else the test ends here, with the cure in the reason."""
    if program is not None and os.access(program, os.X_OK):
        return program
    reason = f"{name} is not here: {cure}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED} is set)")
    pytest.skip(reason)
