"""Records that are to arrive in order do so, all of them, whatever breaks between bridge and endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.ordered_delivery import deliver_in_order


@pytest.mark.parametrize("seed", [0, 3])
def test_ordered_records_arrive_in_order_through_resets_and_kills(tmp_path: Path, seed: int) -> None:
    seen = deliver_in_order(tmp_path, seed)
    assert seen.lost == []
    assert seen.overtaken == []
