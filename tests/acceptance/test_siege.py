"""Hostile clients of every kind at the status port at once, and probes that are answered all the same."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.besieging import besieged

LATE_SHARE = 0.1
"""Of the probes: the rest of the suite takes the processors for longer at times. The torture test allows none."""
WORST_MS = 1000.0
"""For those few: the kubelet's own time-out for a probe."""


def test_probes_are_answered_in_time_under_a_siege(tmp_path: Path) -> None:
    found = besieged(tmp_path, seconds=6)
    assert not found["wrong"], found
    assert found["late"] <= LATE_SHARE * found["asked"], found
    assert found["worst_ms"] < WORST_MS, found
