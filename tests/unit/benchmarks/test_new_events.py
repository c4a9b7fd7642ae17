from __future__ import annotations

import pytest

from benchmarks.new_events import calls, encoder, resident_kib, usual, wholly_new
from otelbridge.mapping.fastpath_cache import COMPILED

MOST_CALLS = 240
"""Functions called for an event in which everything is new, by the compiled encoder; 215 when this was written, and 725
before. Time is measured by `python -m benchmarks.new_events`; calls are the same on every machine."""
FLOOD_EVENTS = 8_000
MOST_KIB = 20 * 1024
FLOOD_KIB = 2 * FLOOD_EVENTS
"""The events themselves, which are made beforehand."""


@pytest.mark.skipif(not COMPILED, reason="the fast path is not compiled")
def test_an_event_in_which_everything_is_new_is_worked_out_once() -> None:
    warm = encoder()
    for event in usual(500):
        warm.encode(event)
    assert calls(wholly_new(200), warm) <= MOST_CALLS


def test_a_flood_of_wholly_new_events_takes_no_memory_that_stays() -> None:
    warm = encoder()
    for event in usual(2_000):
        warm.encode(event)
    before = resident_kib()
    for event in wholly_new(FLOOD_EVENTS, 10):
        warm.encode(event)
    assert resident_kib() - before <= MOST_KIB + FLOOD_KIB
