from __future__ import annotations

import pytest

from otelbridge.feed.read_pause import ReadPause

SECOND = 1_000_000_000
PAUSE_SECONDS = 0.015
START = 1_700_000_000 * SECOND


def pauses_at(rate: int, *, seconds: int = 3) -> list[float]:
    """What a reader is told that has read everything after each of evenly spaced events; of the last second."""
    pause = ReadPause(PAUSE_SECONDS)
    said = [pause.seconds(START + n * SECOND // rate, n + 1) for n in range(rate * seconds)]
    return said[-rate:]


@pytest.mark.parametrize("rate", [100, 500, 2_000])
def test_a_reader_pauses_at_the_rates_of_a_node(rate: int) -> None:
    assert set(pauses_at(rate)) == {PAUSE_SECONDS}


@pytest.mark.parametrize("rate", [1, 20, 10_000, 30_000])
def test_it_reads_on_where_a_pause_gathers_nothing_or_every_moment_counts(rate: int) -> None:
    assert set(pauses_at(rate)) == {0.0}


def test_a_burst_ends_the_pauses_before_it_is_a_second_old() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for n in range(300):
        pause.seconds(START + n * SECOND // 100, n + 1)
    now = START + 3 * SECOND
    assert pause.seconds(now, 400) == PAUSE_SECONDS
    assert pause.seconds(now + SECOND // 10, 10_000) == 0.0


def test_a_clock_that_is_set_back_or_forward_does_no_harm() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for now in (START, START - 3600 * SECOND, START + 3600 * SECOND, START):
        assert pause.seconds(now, 10) in {0.0, PAUSE_SECONDS}
