from __future__ import annotations

from pathlib import Path

from tests.large_events import flood


def test_a_flood_of_the_largest_events_stays_below_the_limit_of_the_manifests(tmp_path: Path) -> None:
    found = flood(tmp_path, seconds=8)
    assert found["lost_by_gaps"] == [1] * int(str(found["too_large"]))
    assert found["balances"]
    assert float(str(found["peak_mib"])) <= float(str(found["limit_mib"])), found
