"""`kill -9` at random instants: what was on disk or delivered is never lost, and a big queue opens in little memory."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.killing import kill_again_and_again
from tests.acceptance.opening import MIB, open_with_backlog
from tests.acceptance.seeds import fresh_seed

KILLS = 5
EVENTS_PER_SECOND = 2_000
PEAK_MEMORY_BYTES = 150 * MIB


def test_kill_minus_nine_at_random_instants_loses_nothing_that_was_owed(tmp_path: Path) -> None:
    figures = kill_again_and_again(tmp_path, seed=fresh_seed(), kills=KILLS, per_second=EVENTS_PER_SECOND)
    assert figures.kills == KILLS
    assert figures.owed
    assert figures.passed, figures
    assert figures.peak_memory_bytes < PEAK_MEMORY_BYTES


def test_a_start_on_a_large_backlog_takes_no_more_memory_than_one_on_a_small_one(tmp_path: Path) -> None:
    small = open_with_backlog(tmp_path / "small", backlog_bytes=1 * MIB)
    large = open_with_backlog(tmp_path / "large", backlog_bytes=64 * MIB)
    assert large.held_records > 30 * small.held_records
    assert large.peak_memory_bytes < small.peak_memory_bytes + 16 * MIB
    assert large.peak_memory_bytes < PEAK_MEMORY_BYTES
    assert large.cpu_seconds < small.cpu_seconds + 0.5
