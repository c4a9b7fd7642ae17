"""The endpoint's campaign at length: 70 % UNAVAILABLE, RetryInfo, 429, 401, lost answers, partial success."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.acceptance.seeds import fresh_seed, rounds
from tests.integration.send.conftest import Road
from tests.integration.send.rough_weather import campaign
from tests.torture_report import record

ROUNDS = 20
BATCHES = {"grpc": 60, "http/protobuf": 20}
"""Fewer over HTTP, where a delay is a whole second at least."""


@pytest.mark.torture
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_through_all_moods_of_an_endpoint_nothing_is_lost(tmp_path: Path, protocol: str) -> None:
    totals: Counter[str] = Counter()
    first_seed = fresh_seed()
    figures: dict[str, object] = {"first_seed": first_seed}
    passed = False
    try:
        for seed in range(first_seed, first_seed + rounds(ROUNDS)):
            totals["rounds"] += 1
            road = Road(tmp_path / str(seed))
            with OtlpEndpoint() as endpoint, road.closing:
                one = campaign(road, endpoint, protocol=protocol, seed=seed, batches=BATCHES[protocol])
                assert road.balanced()
            for name in ("owed", "lost", "set_aside", "duplicates"):
                totals[name] += int(str(one[name]))
            for name in ("delay_early_seconds", "delay_late_share"):
                figures[name] = max(float(str(one[name])), float(str(figures.get(name, 0))))
        passed = True
    finally:
        record(f"send/rough_weather/{protocol}", figures | dict(totals), passed)
