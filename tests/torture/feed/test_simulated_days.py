"""Nodes in simulated time: false records of quiet nights, and outages that nothing may hide."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from otelbridge.event import NANOSECONDS
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record
from tests.unit.feed.test_nodes import DAY, NIGHTS, flapping, poisson, records, uncovered

SEEDS = 10
OUTAGES = 30


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("night", NIGHTS)
def test_a_quiet_night_brings_no_more_than_one_false_record_of_a_node(night: str) -> None:
    first, days = fresh_seed(), 3
    most: Counter[int] = Counter()
    for seed in range(first, first + rounds(SEEDS)):
        gaps = records(poisson(Random(seed), NIGHTS[night], until=days * DAY))
        of_days = Counter(math.floor(gap.ended_unix_nano / NANOSECONDS / DAY) for gap in gaps)
        most[max(of_days.values(), default=0)] += 1
    figures: dict[str, object] = {"first_seed": first, "days": days, "nodes_by_most_records_of_a_day": dict(most)}
    record(f"feed: simulated nights, {night}", figures, max(most) <= 1)
    assert max(most) <= 1, figures


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("away", [5.2, 7.0, 10.0, 30.0])
def test_every_outage_of_a_node_is_on_record_however_often_it_comes(away: float) -> None:
    first, missed, gaps = fresh_seed(), 0, 0
    nodes = rounds(SEEDS) * 5
    for seed in range(first, first + nodes):
        random = Random(seed)
        sounds, spans = flapping(random, outages=OUTAGES, away=away, back=lambda: random.uniform(25, 120))  # noqa: B023
        found = records(sounds)
        missed += len(uncovered(found, spans))
        gaps += len(found)
    figures: dict[str, object] = {"first_seed": first, "outages": nodes * OUTAGES, "missed": missed, "records": gaps}
    # Of 5 s at 5 events/s some are no longer than five natural pauses; the bar is for 10 s.
    passed = missed == 0 if away >= 7 else missed <= nodes * OUTAGES * 0.1
    record(f"feed: {OUTAGES} outages of {away:g} s at 5 events/s", figures, passed)
    assert passed, figures
