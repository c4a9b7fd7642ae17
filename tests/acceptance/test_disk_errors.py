"""System calls on the queue's files fail under the whole process: said, survived, and over by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.weathering import (
    ALL_FULL,
    DATABASE_FULL,
    DELETE_ERROR,
    LOG_FULL,
    SYNC_ERROR,
    WRITE_ERROR,
    Fault,
    weather,
)

SAY_SECONDS = 3.0
"""The bar is one second; torture asks for it. Beside other tests everything takes its time."""
RECOVER_SECONDS = 5.0
FAULTS = {
    "normal": (WRITE_ERROR, DELETE_ERROR, DATABASE_FULL),
    "full": (SYNC_ERROR, LOG_FULL, ALL_FULL),
}


@pytest.mark.parametrize(("synchronous", "faults"), FAULTS.items(), ids=FAULTS)
def test_disk_errors_are_said_and_survived_without_a_human(
    tmp_path: Path, synchronous: str, faults: tuple[Fault, ...]
) -> None:
    seen = weather(tmp_path, faults, synchronous=synchronous, last_seconds=0.3)
    assert (seen.lost, seen.duplicates, seen.balanced, seen.exit_code) == (0, 0, True, 0), seen
    assert seen.said_in_log >= len(faults), seen
    for endured in seen.faults:
        assert endured.alive, endured
        assert endured.said_seconds <= SAY_SECONDS, endured
        assert endured.recovered_seconds <= RECOVER_SECONDS, endured
