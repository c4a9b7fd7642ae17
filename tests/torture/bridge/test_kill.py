"""`kill -9`, up to a thousand times; and a start on half a gigabyte."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.acceptance.killing import Killed, kill_again_and_again
from tests.acceptance.opening import MIB, open_with_backlog
from tests.acceptance.pairs import in_pairs
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record

KILLS_PER_ROUND = 20
ROUNDS = 50
EVENTS_PER_SECOND = 5_000
COMPARE_EVERY = 5
"""One event in so many is compared with what was published."""
WHY_CHARS = 300
READY_SECONDS = 2.0
PEAK_MEMORY_BYTES = 150 * MIB


@dataclass(frozen=True, slots=True)
class Turn:
    """One seed's lives, in a folder of its own."""

    folder: Path
    seed: int


def kill(turn: Turn) -> Killed:
    return kill_again_and_again(
        turn.folder,
        seed=turn.seed,
        kills=KILLS_PER_ROUND,
        per_second=EVENTS_PER_SECOND,
        compare_every=COMPARE_EVERY,
    )


@pytest.mark.torture
@pytest.mark.timeout(4 * 3600)
def test_kill_minus_nine_a_thousand_times(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    began = time.monotonic()
    seen: list[Killed] = []
    turns = [Turn(tmp_path / str(seed), seed) for seed in range(first_seed, first_seed + rounds(ROUNDS))]
    bad: dict[int, str] = {}
    for turn, figures, fault in in_pairs(kill, turns):
        shutil.rmtree(turn.folder, ignore_errors=True)
        if figures is not None:
            seen.append(figures)
        if figures is None or not figures.passed:
            bad[turn.seed] = fault or f"{figures.unexcused[:2] if figures else ''} {figures}"
        peak = max((one.peak_memory_bytes for one in seen), default=0)
        passed = not bad and peak < PEAK_MEMORY_BYTES
        record(
            "bridge: kill -9 at random instants",
            {
                "first_seed": first_seed,
                "kills_per_seed": KILLS_PER_ROUND,
                "kills": sum(one.kills for one in seen),
                "seconds": round(time.monotonic() - began),
                "events_per_second": EVENTS_PER_SECOND,
                "owed": sum(one.owed for one in seen),
                "held_at_the_kills": sum(one.held_at_kills for one in seen),
                "owed_lost": sum(len(one.lost) for one in seen),
                "duplicates": sum(one.duplicates for one in seen),
                "duplicates_not_in_flight": sum(len(one.unexcused) for one in seen),
                "requests_out_of_order": sum(one.out_of_order for one in seen),
                "records_changed": sum(one.changed for one in seen),
                "bad_seeds": {seed: why[:WHY_CHARS] for seed, why in bad.items()},
                "peak_memory_mib": round(peak / MIB, 1),
            },
            passed,
        )
    assert passed, bad
    assert any(one.held_at_kills for one in seen), "nothing was at stake"


@pytest.mark.torture
def test_a_start_with_512_mib_held_is_ready_in_time_and_in_little_memory(tmp_path: Path) -> None:
    empty = open_with_backlog(tmp_path / "small", backlog_bytes=1 * MIB)
    opened = open_with_backlog(tmp_path / "queue", backlog_bytes=512 * MIB)
    slowest = max(opened.ready_seconds, opened.ready_again_seconds)
    passed = slowest < READY_SECONDS and opened.peak_memory_bytes < PEAK_MEMORY_BYTES
    record(
        "bridge: a start with 512 MiB held", {**asdict(opened), "ready_seconds_with_1_mib": empty.ready_seconds}, passed
    )
    assert passed, opened
