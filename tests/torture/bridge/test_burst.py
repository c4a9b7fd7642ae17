"""10,000 events a second into an endpoint that takes half a second a request and a disk that takes 200 ms a commit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.acceptance.bursting import SLOW_ANSWER_SECONDS, SLOW_COMMIT_SECONDS, burst
from tests.torture_report import record

EVENTS_PER_SECOND = 10_000
SECONDS = 10
DEFAULT_BUFFER_EVENTS = 100_000
SMALLEST_BUFFER_EVENTS = 1_000
LONGEST_WAIT_SECONDS = 0.05
SLOTS = 1_000


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("synchronous", ["normal", "full"])
@pytest.mark.parametrize("buffer", [DEFAULT_BUFFER_EVENTS, SMALLEST_BUFFER_EVENTS])
def test_a_burst_never_fills_the_upstream_and_local_drops_are_counted(
    tmp_path: Path, buffer: int, synchronous: str
) -> None:
    figures = burst(
        tmp_path,
        per_second=EVENTS_PER_SECOND,
        seconds=SECONDS,
        synchronous=synchronous,
        buffer_max_events=buffer,
    )
    passed = (
        figures.accounted
        and figures.fullest_slots < SLOTS
        and figures.longest_wait_seconds <= LONGEST_WAIT_SECONDS + figures.machine_stall_seconds
        and (figures.counted_drops == 0) == (buffer == DEFAULT_BUFFER_EVENTS)
    )
    record(
        f"bridge: burst on a slow disk into a slow endpoint, {synchronous}, buffer of {buffer}",
        {
            "commit_seconds": SLOW_COMMIT_SECONDS,
            "answer_seconds": SLOW_ANSWER_SECONDS,
            **asdict(figures),
            "missing": figures.missing,
        },
        passed,
    )
    assert passed, figures
