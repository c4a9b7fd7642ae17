"""10,000 events a second into an endpoint that takes a second for each request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.acceptance.bursting import burst, dropped_for_a_bare_reader
from tests.torture_report import record

EVENTS_PER_SECOND = 10_000
SECONDS = 10
SMALL_HANDOFF_EVENTS = 1_000


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("handoff", [100_000, SMALL_HANDOFF_EVENTS], ids=["default hand-off", "smallest hand-off"])
def test_a_burst_never_fills_the_upstream_and_local_drops_are_counted(tmp_path: Path, handoff: int) -> None:
    bare = dropped_for_a_bare_reader(per_second=EVENTS_PER_SECOND, seconds=SECONDS)
    figures = burst(tmp_path, per_second=EVENTS_PER_SECOND, seconds=SECONDS, handoff_max_events=handoff)
    passed = (
        figures.upstream_dropped == 0
        and figures.balanced
        and figures.locally_dropped == figures.lost_by_gap_records
        and (handoff == SMALL_HANDOFF_EVENTS or figures.locally_dropped == 0)
    )
    name = f"bridge: burst into a slow endpoint, hand-off of {handoff}"
    record(name, {**asdict(figures), "upstream_dropped_for_a_bare_reader": bare}, passed)
    assert figures.balanced
    assert figures.locally_dropped == figures.lost_by_gap_records
    if bare and not passed:
        pytest.skip(f"this machine cannot send {EVENTS_PER_SECOND} events/s: a bare reader misses {bare}")
    assert passed, figures
