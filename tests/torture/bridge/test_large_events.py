"""Ten minutes of the largest legal events, too large ones in between, under the memory limit of the manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.large_events import flood
from tests.torture_report import record

pytestmark = pytest.mark.torture
SECONDS = 600


def test_ten_minutes_of_the_largest_events_stay_below_the_limit_of_the_manifests(tmp_path: Path) -> None:
    found = flood(tmp_path, seconds=SECONDS)
    passed = (
        found["lost_by_gaps"] == [1] * int(str(found["too_large"]))
        and bool(found["balances"])
        and float(str(found["peak_mib"])) <= float(str(found["limit_mib"]))
    )
    record("bridge/large_events", found, passed)
    assert passed, found
