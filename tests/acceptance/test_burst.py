"""A slow endpoint and a burst: the upstream is read as if nothing were wrong, and what is dropped here is counted."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.bursting import burst

EVENTS_PER_SECOND = 1_500
"""What a simulator of ours and a bridge carry beside other tests on two cores; torture asks for 10,000."""


def test_a_burst_into_a_slow_endpoint_is_read_without_a_loss_and_held(tmp_path: Path) -> None:
    figures = burst(tmp_path, per_second=EVENTS_PER_SECOND, seconds=3)
    assert figures.upstream_dropped == 0
    assert figures.locally_dropped == 0
    assert figures.received == figures.published
    assert figures.held > 0
    assert figures.balanced
