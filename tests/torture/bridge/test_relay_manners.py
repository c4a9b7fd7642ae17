"""Stalls of a relay, outages of its nodes, and every way in which a relay goes, again and again, event by event."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.relay_manners import NAMES, Stage, stage
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record
from tests.waiting import eventually

KNOWN_SECONDS = 25.0
BACK_SECONDS = 16.0
"""A node is back 15 s after its end, by the relay's pauses; a relay has its nodes 5 s after a stall."""
WAY_BACK_MEDIAN = 1.0
WAY_BACK_LONGEST = 3.0
"""After the port answers: of 16 ways back, the bar of 95 in 100 is the longest."""
STALLS = [f"stall:{seconds}s" for seconds in (5, 6, 7, 9, 11, 14)]
OUTAGES = [f"node-{kind}:{seconds}s" for kind in ("kill", "freeze") for seconds in (10, 20, 30)]
ENDINGS = ["kill:1s"] * 10 + ["term:2s"] * 4 + ["shutdown:2s"] * 2
FREEZES = [f"stall:{seconds}s" for seconds in (2, 4, 8, 12, 20, 30, 40)]


def judge(relay: Stage, name: str, seed: int, *, expected_causes: set[str], ways_back: Sequence[float] = ()) -> None:
    eventually(lambda: relay.bridge.held() == 0, within_seconds=30, why="all is delivered")
    silent = relay.silently_missing()
    gaps = relay.gaps()
    figures: dict[str, object] = {
        "seed": seed,
        "published": len(relay.published),
        "missing": len(relay.missing()),
        "silently_missing": len(silent),
        "gap_records": len(gaps),
        "causes": sorted({gap.cause for gap in gaps}),
        "gap_seconds": round(sum(gap.ended - gap.started for gap in gaps) / 1e9),
    }
    in_time = True
    if ways_back:
        figures["way_back_seconds"] = sorted(ways_back)
        in_time = statistics.median(ways_back) <= WAY_BACK_MEDIAN and max(ways_back) <= WAY_BACK_LONGEST
    unexpected = [gap for gap in gaps if gap.cause not in expected_causes]
    passed = not silent and not unexpected and in_time and relay.bridge.balances()
    record(f"bridge: {name}", figures, passed)
    assert passed, (figures, relay.by_fault(silent), unexpected, gaps)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_every_stall_is_covered_to_the_last_event(tmp_path: Path) -> None:
    seed = fresh_seed()
    chance = random.Random(seed)
    with stage(tmp_path) as relay:
        with relay.publishing(per_second_and_node=10):
            for _ in range(rounds(1)):
                for fault in chance.sample(STALLS, len(STALLS)):
                    relay.pause(5 + chance.uniform(0, 15))
                    relay.happen(fault)
                    relay.pause(BACK_SECONDS)
        judge(relay, "a stalled relay", seed, expected_causes={"stall", "heartbeat_loss", "node_silent"})


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_every_outage_of_a_node_is_covered_to_the_last_event(tmp_path: Path) -> None:
    seed = fresh_seed()
    with stage(tmp_path) as relay:
        with relay.publishing(per_second_and_node=5):
            relay.pause(KNOWN_SECONDS)
            for fault in random.Random(seed).sample(OUTAGES, len(OUTAGES)):
                relay.happen(fault)
                relay.pause(40 + BACK_SECONDS)
        judge(relay, "a node's outages", seed, expected_causes={"node_silent"})
        assert {gap.node for gap in relay.gaps()} == {NAMES[0]}


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_ten_kills_four_terms_and_freezes_of_two_to_forty_seconds_leave_no_silent_gap(tmp_path: Path) -> None:
    seed = fresh_seed()
    chance = random.Random(seed)
    ways_back: list[float] = []
    with stage(tmp_path) as relay:
        with relay.publishing(per_second_and_node=50):
            for fault in chance.sample(ENDINGS + FREEZES, len(ENDINGS + FREEZES)):
                relay.pause(3 + chance.uniform(0, 5))
                relay.happen(fault)
                answers = time.monotonic()
                relay.bridge.wait_until_watching(within_seconds=60)
                if fault in ENDINGS:
                    ways_back.append(round(time.monotonic() - answers, 2))
                relay.pause(BACK_SECONDS if fault in FREEZES else 1)
        judge(
            relay,
            "kills, terms and freezes",
            seed,
            expected_causes={"stall", "heartbeat_loss", "node_silent", "disconnect"},
            ways_back=ways_back,
        )
