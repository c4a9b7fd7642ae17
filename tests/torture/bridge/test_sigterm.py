"""SIGTERM two hundred times, over all phases and at all moments."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.pairs import in_pairs
from tests.acceptance.seeds import fresh_seed, rounds
from tests.acceptance.terminating import PHASES, Ended, terminate_in
from tests.torture_report import record

ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Turn:
    """One SIGTERM, in a folder of its own."""

    phase: str
    seed: int
    folder: Path


def terminate(turn: Turn) -> Ended:
    return terminate_in(turn.phase, turn.folder, random.Random(turn.seed))


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_sigterm_in_every_phase(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    phases = tuple(PHASES)
    turns = [
        Turn(phases[seed % len(phases)], seed, tmp_path / str(seed))
        for seed in range(first_seed, first_seed + rounds(ROUNDS))
    ]
    codes: dict[str, Counter[str]] = {phase: Counter() for phase in phases}
    slowest = dict.fromkeys(phases, 0.0)
    bad: list[tuple[int, str]] = []
    times = received = lost = 0
    for turn, ended, fault in in_pairs(terminate, turns):
        shutil.rmtree(turn.folder, ignore_errors=True)
        if ended is None:
            bad.append((turn.seed, fault))
            continue
        codes[turn.phase][str(ended.code)] += 1
        slowest[turn.phase] = max(slowest[turn.phase], ended.seconds)
        times, received, lost = times + 1, received + ended.received, lost + len(ended.lost)
        if not ended.passed:
            bad.append((turn.seed, str(ended)))
        figures: dict[str, object] = {
            "first_seed": first_seed,
            "times": times,
            "received": received,
            "lost": lost,
            "exit_codes": {phase: dict(seen) for phase, seen in codes.items()},
            "slowest_end_seconds": slowest,
            "bad_seeds": [seed for seed, _ in bad],
        }
        record("bridge: SIGTERM in every phase", figures, passed=not bad)
    assert not bad, bad
