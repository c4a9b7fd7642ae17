"""`kill -9`, up to a thousand times; and a start on half a gigabyte."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.acceptance.killing import kill_again_and_again
from tests.acceptance.opening import MIB, open_with_backlog
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record

KILLS_PER_ROUND = 20
ROUNDS = 50
EVENTS_PER_SECOND = 5_000
READY_SECONDS = 2.0
PEAK_MEMORY_BYTES = 150 * MIB


@pytest.mark.torture
@pytest.mark.timeout(4 * 3600)
def test_kill_minus_nine_a_thousand_times(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    kills = owed = lost = duplicates = peak = 0
    bad_seeds: list[int] = []
    for seed in range(first_seed, first_seed + rounds(ROUNDS)):
        figures = kill_again_and_again(
            tmp_path / str(seed), seed=seed, kills=KILLS_PER_ROUND, per_second=EVENTS_PER_SECOND
        )
        kills += figures.kills
        owed += len(figures.owed)
        lost += len(figures.lost)
        duplicates += figures.duplicates
        peak = max(peak, figures.peak_memory_bytes)
        if figures.lost or not figures.balanced or not figures.duplicates_share_their_uid:
            bad_seeds.append(seed)
        passed = not bad_seeds and peak < PEAK_MEMORY_BYTES
        record(
            "bridge: kill -9 at random instants",
            {
                "first_seed": first_seed,
                "kills_per_seed": KILLS_PER_ROUND,
                "kills": kills,
                "events_per_second": EVENTS_PER_SECOND,
                "owed": owed,
                "owed_lost": lost,
                "duplicates": duplicates,
                "bad_seeds": bad_seeds,
                "peak_memory_mib": round(peak / MIB, 1),
            },
            passed,
        )
    assert passed


@pytest.mark.torture
def test_a_start_with_512_mib_held_is_ready_in_time_and_in_little_memory(tmp_path: Path) -> None:
    opened = open_with_backlog(tmp_path / "queue", backlog_bytes=512 * MIB)
    passed = opened.ready_seconds < READY_SECONDS and opened.peak_memory_bytes < PEAK_MEMORY_BYTES
    record("bridge: a start with 512 MiB held", dict(asdict(opened)), passed)
    assert passed, opened
