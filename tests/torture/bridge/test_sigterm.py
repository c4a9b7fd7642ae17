"""SIGTERM two hundred times, over all phases and at all moments."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.seeds import fresh_seed, rounds
from tests.acceptance.terminating import PHASES, terminate_in
from tests.torture_report import record

ROUNDS = 200


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_sigterm_in_every_phase(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    codes: dict[str, Counter[int]] = {phase: Counter() for phase in PHASES}
    lost = 0
    for turn in range(rounds(ROUNDS)):
        phase = tuple(PHASES)[turn % len(PHASES)]
        ended = terminate_in(phase, tmp_path / str(turn), random.Random(first_seed + turn))
        codes[phase][ended.code] += 1
        lost += len(ended.lost)
    passed = lost == 0 and all(set(seen) == {0} for seen in codes.values())
    figures = {phase: {str(code): times for code, times in seen.items()} for phase, seen in codes.items()}
    record("bridge: SIGTERM in every phase", {"first_seed": first_seed, "exit_codes": figures, "lost": lost}, passed)
    assert passed
