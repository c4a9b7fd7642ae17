"""50,000 repeats with 100 rare alerts in a minute, and kill -9 in the middle of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from otelbridge.simulator.upstream import Relay
from tests.acceptance.flooding import Scene, run_flood
from tests.torture_report import record

EVENTS = 50_100
SECONDS = 60
LATENCY_SECONDS = 1.0
RARE_EVERY = 497
"""100 of them, the nearest 200 events before the kill: one that waits for its request then arrives in the next life."""
RECORDS = 0.01


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", [1, 5], ids=["one kind", "5 kinds"])
def test_a_flood_of_a_minute(tmp_path: Path, kinds: int) -> None:
    with Relay() as relay:
        scene = Scene(relay, tmp_path, kinds=kinds, rare_every=RARE_EVERY, per_second=EVENTS / SECONDS)
        found = run_flood(scene, EVENTS)
    figures = asdict(found)
    del figures["replayed"], figures["summaries"], figures["balance"]
    passed = (
        found.rare == found.rare_verbatim == 100
        and found.slowest_rare_seconds < LATENCY_SECONDS
        and found.verbatim + found.counted == found.balance["received"] == EVENTS
        and found.counted == found.balance["summarised"] == found.replayed.total() == len(found.replayed)
        and found.records - found.rare <= RECORDS * EVENTS
        and found.ids_agree
    )
    record(f"bridge: a flood of a minute, {kinds} kinds", {**figures, "replayed": found.replayed.total()}, passed)
    assert passed, figures
