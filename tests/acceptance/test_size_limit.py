"""A bridge whose files may not grow any more: it says so, delivers all the same, and is well once they may."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.size_limit import live_under_a_limit


@pytest.mark.parametrize("seed", [0, 1, 10])
def test_files_that_may_not_grow_stop_neither_bridge_nor_exports(tmp_path: Path, seed: int) -> None:
    live_under_a_limit(tmp_path / "life", seed)
