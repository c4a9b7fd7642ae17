"""Every kind of disk error and of full disk, again and again, under a running bridge."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance.seeds import fresh_seed, rounds
from tests.acceptance.size_limit import Limited, live_under_a_limit
from tests.acceptance.test_full_disk import DISK_BYTES, fill_under_load
from tests.acceptance.weathering import EIO, FULL, MIB, Endured, Fault, weather
from tests.peers.small_disk import mounted
from tests.torture_report import record

ROUNDS = 10
SAY_SECONDS = 1.0
DRAIN_SECONDS = 5.0
LOG_BYTES = 24 * MIB
"""Eight, and what comes in until the queue's thread looks at it again."""
FAULTS = {"EIO": EIO, "full disk": FULL}


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("synchronous", ["normal", "full"])
@pytest.mark.parametrize("kind", FAULTS)
def test_disk_errors_of_every_kind(tmp_path: Path, kind: str, synchronous: str) -> None:
    seed = fresh_seed()
    worst: dict[str, Endured] = {}
    lost = duplicates = published = 0
    passed = True
    for turn in range(rounds(ROUNDS)):
        chance = random.Random(seed + turn)
        faults: list[Fault] = [*FAULTS[kind]]
        chance.shuffle(faults)
        seen = weather(tmp_path / str(turn), faults, synchronous=synchronous, last_seconds=chance.uniform(0.2, 2))
        lost, duplicates, published = lost + seen.lost, duplicates + seen.duplicates, published + seen.published
        for one in seen.faults:
            worst[one.name] = max(worst.get(one.name, one), one, key=lambda each: each.said_seconds)
        passed = passed and (
            seen.balanced
            and seen.exit_code == 0
            and not seen.lost
            and not seen.duplicates
            and all(
                one.alive
                and one.said_seconds <= SAY_SECONDS
                and one.recovered_seconds <= DRAIN_SECONDS
                and one.largest_log_bytes <= LOG_BYTES
                for one in seen.faults
            )
        )
        record(
            f"bridge: {kind}, {synchronous}",
            {
                "first_seed": seed,
                "rounds": turn + 1,
                "published": published,
                "lost": lost,
                "duplicates": duplicates,
                "slowest_said": {name: asdict(one) for name, one in sorted(worst.items())},
            },
            passed,
        )
    assert passed, worst


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_real_disk_that_fills_up(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    passed = False
    try:
        for turn in range(rounds(ROUNDS)):
            folder = tmp_path / str(turn)
            with Relay() as relay, OtlpEndpoint() as endpoint, mounted(folder / "disk", DISK_BYTES) as disk:
                seen.append(fill_under_load(relay, endpoint, folder, disk))
        passed = True
    finally:
        record(
            "bridge: a real disk that fills up",
            {
                "rounds": len(seen),
                "published": sum(one["published"] for one in seen),
                "slowest_drain_seconds": max((one["drained_seconds"] for one in seen), default=None),
            },
            passed,
        )


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_limits_on_the_size_of_files(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    seen: list[Limited] = []
    bad: dict[int, str] = {}
    for seed in range(first_seed, first_seed + rounds(ROUNDS)):
        try:
            seen.append(live_under_a_limit(tmp_path / str(seed), seed))
        except AssertionError as fault:
            bad[seed] = str(fault)
    figures: dict[str, object] = {
        "first_seed": first_seed,
        "rounds": len(seen),
        "published": sum(one.published for one in seen),
        "slowest_delivered_seconds": max((one.delivered_seconds for one in seen), default=None),
        "slowest_recovered_seconds": max((one.recovered_seconds for one in seen), default=None),
        "bad_seeds": bad,
    }
    record("bridge: files that may not grow", figures, passed=not bad)
    assert not bad, bad
