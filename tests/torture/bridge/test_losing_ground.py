"""The queue's folder deleted, emptied, renamed, replaced, made read-only and filled, again and again, under load."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.acceptance.losing_ground import ACTS, Survived, lose_ground
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record

ROUNDS = 20
SAY_SECONDS = 1.0


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_folder_that_is_taken_away_again_and_again(tmp_path: Path) -> None:
    seed = fresh_seed()
    worst: dict[str, Survived] = {}
    lost = duplicates = gaps = published = 0
    passed = True
    for turn in range(rounds(ROUNDS)):
        acts = list(ACTS.items())
        random.Random(seed + turn).shuffle(acts)
        life = lose_ground(tmp_path / str(turn), dict(acts))
        for one in life.acts:
            worst[one.act] = max(worst.get(one.act, one), one, key=lambda each: each.said_seconds)
        lost, duplicates, published = lost + life.lost, duplicates + life.duplicates, published + life.published
        gaps += life.corruption_gaps
        passed = passed and life.balanced and life.exit_code == 0 and not (life.lost or life.duplicates)
        # A full disk is met only when the log has used up the space that it has already.
        passed = passed and all(one.said_seconds <= SAY_SECONDS for one in life.acts)
        record(
            "bridge: the queue's folder is taken away",
            {
                "first_seed": seed,
                "rounds": turn + 1,
                "published": published,
                "lost": lost,
                "duplicates": duplicates,
                "corruption_gaps": gaps,
                "slowest_said_seconds": {name: one.said_seconds for name, one in sorted(worst.items())},
                "slowest_recovered_seconds": max(one.recovered_seconds for one in worst.values()),
            },
            passed,
        )
    assert passed, worst
