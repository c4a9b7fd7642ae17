"""An endpoint that is away for a day, at 1,440 times the speed: a minute of 2,000 events a second has to wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance.opening import MIB
from tests.oracle import Publisher, Taken
from tests.peers.bridge import running_bridge
from tests.torture_report import record
from tests.waiting import eventually

SCALE = 1_440
DAY_SECONDS = 24 * 3600 / SCALE
HOUR_SECONDS = 3600 / SCALE
EVENTS_PER_SECOND = 2_000
PEAK_MEMORY_BYTES = 150 * MIB


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_an_endpoint_that_is_away_for_a_scaled_day_gets_the_oldest_hour_too(tmp_path: Path) -> None:
    taken = Taken()
    with (
        Relay() as relay,
        OtlpEndpoint(answers=taken, keep=False) as endpoint,
        running_bridge(
            tmp_path,
            feed={"endpoints": [relay.endpoint]},
            queue={"max_age_seconds": 2 * DAY_SECONDS},
            send={"endpoint": endpoint.grpc_endpoint, "retry_max_seconds": 5, "replay_rate_factor": 0},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        endpoint.stop()
        publisher = Publisher(relay, per_second=EVENTS_PER_SECOND)
        publisher.publish(round(DAY_SECONDS * EVENTS_PER_SECOND))
        relay.wait_until_sent()
        owed = len(publisher.published) - relay.dropped
        eventually(lambda: bridge.held() >= owed, within_seconds=30, why="all of the day is held")
        held_bytes = bridge.status()["queue"]["bytes"]
        back = time.monotonic()
        endpoint.start()
        bridge.wait_until_delivered(within_seconds=120)
        replay_seconds = time.monotonic() - back
        oldest_hour = set(range(round(HOUR_SECONDS * EVENTS_PER_SECOND)))
        peak = bridge.process.peak_memory_bytes()
        arrived = taken.numbers()
        figures: dict[str, object] = {
            "published": len(publisher.published),
            "upstream_dropped": relay.dropped,
            "owed": owed,
            "owed_lost": owed - len(arrived),
            "oldest_hour_missing": len(oldest_hour - arrived),
            "held_mib": round(held_bytes / MIB, 1),
            "replay_seconds": round(replay_seconds, 1),
            "peak_memory_mib": round(peak / MIB, 1),
            "balanced": bridge.balances(),
        }
        assert bridge.stop() == 0
    passed = len(arrived) == owed and oldest_hour <= arrived and peak < PEAK_MEMORY_BYTES
    record("bridge: endpoint away for a scaled day", figures, passed)
    assert passed, figures
