"""Hostile clients of every kind at the status port at once, and probes that are answered all the same."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.besieging import besieged

LATE_SHARE = 0.02
"""Of the probes, the server's waits for a processor left out: the rest of the suite wants both. The torture test leaves
nothing out."""
WORST_MS = 1000.0
"""For those few: the kubelet's own time-out for a probe."""


def test_probes_are_answered_in_time_under_a_siege(tmp_path: Path) -> None:
    found = besieged(tmp_path, seconds=6)
    assert not found["wrong"], found
    assert found["late_of_itself"] <= LATE_SHARE * found["asked"], found
    assert found["worst_ms_of_itself"] < WORST_MS, found
