"""A slow disk, a slow endpoint and a burst: upstream is read as if nothing were wrong; drops here are counted."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.bursting import burst

EVENTS_PER_SECOND = 5_000
"""What the upstream and a bridge carry beside other tests on two cores; torture asks for 10,000."""
SECONDS = 2
SMALLEST_BUFFER_EVENTS = 1_000
DEFAULT_BUFFER_EVENTS = 100_000


def test_a_burst_into_a_slow_disk_and_a_slow_endpoint_is_read_without_a_loss(tmp_path: Path) -> None:
    figures = burst(
        tmp_path,
        per_second=EVENTS_PER_SECOND,
        seconds=SECONDS,
        synchronous="normal",
        buffer_max_events=DEFAULT_BUFFER_EVENTS,
    )
    assert figures.accounted, figures
    assert figures.missing == 0, figures
    assert figures.slow_commits > SECONDS, figures


def test_what_does_not_fit_while_the_disk_is_slow_is_what_the_counter_says(tmp_path: Path) -> None:
    figures = burst(
        tmp_path,
        per_second=EVENTS_PER_SECOND,
        seconds=SECONDS,
        synchronous="full",
        buffer_max_events=SMALLEST_BUFFER_EVENTS,
    )
    assert figures.accounted, figures
    assert figures.counted_drops > 0, figures
