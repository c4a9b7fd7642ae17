"""The queue's folder is taken away under a whole bridge: said at once, nothing lost, nothing doubled, no gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.losing_ground import ACTS, lose_ground

SAY_SECONDS = 3.0
"""The bar is one second; torture asks for it. Beside other tests everything takes its time."""


@pytest.mark.timeout(240)
def test_a_folder_that_is_taken_away_costs_nothing(tmp_path: Path) -> None:
    life = lose_ground(tmp_path, ACTS, per_second=400)
    assert (life.lost, life.duplicates, life.corruption_gaps, life.balanced, life.exit_code) == (0, 0, 0, True, 0), life
    for survived in life.acts:
        assert survived.said_seconds <= SAY_SECONDS, survived
