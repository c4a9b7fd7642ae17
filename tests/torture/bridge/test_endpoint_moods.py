"""An endpoint's moods at length, before a bridge as users run it: delays to a tenth, an hour of 401, and the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance.seeds import fresh_seed, rounds
from tests.acceptance.test_endpoint_moods import LATE_SHARE, lock_out, refusals, through_all_moods, waits_for
from tests.torture_report import record

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]

PROTOCOLS = ("grpc", "http/protobuf")
ASKED_SECONDS = 5
TIMES = 5
ROUNDS = 10
EVENTS = 2_000

SCALE = 60
"""An hour of 401 in a minute; the backoff of holds goes as much faster."""
HOLD_INITIAL_SECONDS = 30 / SCALE
HOLD_MAX_SECONDS = 300 / SCALE
EVENTS_PER_SECOND = 1_000
WORKERS = 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_delays_are_honoured_within_a_tenth(tmp_path: Path, protocol: str) -> None:
    with Relay() as relay, OtlpEndpoint() as endpoint:
        waits = waits_for(relay, endpoint, tmp_path, protocol=protocol, seconds=ASKED_SECONDS, times=TIMES)
    asked = {refusal.name: refusal.asked_seconds for refusal in refusals(ASKED_SECONDS)}
    passed = all(
        asked[name] <= waited <= asked[name] * (1 + LATE_SHARE) or not asked[name]
        for name, found in waits.items()
        for waited in found
    )
    record(f"bridge: delays that the endpoint asks for, {protocol}", {"asked_seconds": asked, "waited": waits}, passed)
    assert passed, waits


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_moods_again_and_again(tmp_path: Path, protocol: str) -> None:
    first_seed = fresh_seed()
    totals: Counter[str] = Counter()
    passed = False
    try:
        for seed in range(first_seed, first_seed + rounds(ROUNDS)):
            with Relay() as relay, OtlpEndpoint() as endpoint:
                folder = tmp_path / str(seed)
                totals.update(through_all_moods(relay, endpoint, folder, protocol=protocol, seed=seed, events=EVENTS))
            totals["rounds"] += 1
        passed = True
    finally:
        record(f"bridge: moods of an endpoint, {protocol}", {"first_seed": first_seed, **totals}, passed)


def test_an_hour_of_401_loses_nothing_and_does_not_hammer(tmp_path: Path) -> None:
    with Relay() as relay:
        outage = lock_out(
            relay,
            tmp_path,
            seconds=3600 / SCALE,
            per_second=EVENTS_PER_SECOND,
            hold_initial_seconds=HOLD_INITIAL_SECONDS,
            hold_max_seconds=HOLD_MAX_SECONDS,
        )
    most_requests = WORKERS * (3600 / SCALE / HOLD_INITIAL_SECONDS)
    passed = not outage.lost and not outage.duplicates and outage.requests <= most_requests
    record("bridge: 401 for a scaled hour", {"scale": SCALE, **asdict(outage)}, passed)
    assert passed, outage
