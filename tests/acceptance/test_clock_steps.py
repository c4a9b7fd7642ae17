"""A wall clock that is set forward or back under a running bridge: everything arrives once, gaps keep their order."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance import stepped_clock
from tests.oracle import Publisher, gap_records, numbers_of, unix_nano
from tests.peers.bridge import BridgeProcess
from tests.waiting import eventually

HOUR_SECONDS = 3600
STEPS_SECONDS = (25 * HOUR_SECONDS, -25 * HOUR_SECONDS, 0)


def test_a_clock_set_by_a_day_either_way_loses_nothing(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    bridge = BridgeProcess(
        tmp_path,
        {
            "feed": {"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.1, "max_seconds": 0.5}},
            "send": {"endpoint": endpoint.grpc_endpoint, "retry_initial_seconds": 0.1, "retry_max_seconds": 0.5},
        },
        command=(sys.executable, stepped_clock.__file__, str(offset)),
    )
    publisher = Publisher(relay, per_second=1_000)
    try:
        bridge.process.start()
        bridge.wait_until_watching()
        for step in STEPS_SECONDS:
            endpoint.stop()
            publisher.publish(100)
            eventually(lambda: bridge.held() >= 100, why="some are held over the step")
            relay.kill()
            eventually(lambda: bridge.status()["subscriptions"][0]["state"] != "watching", why="and a gap is open")
            offset.with_suffix(".new").write_text(str(step))
            offset.with_suffix(".new").replace(offset)
            relay.start()
            endpoint.start()
            bridge.wait_until_watching()
            publisher.publish(100)
            endpoint.wait_for_records(len(publisher.published), within=20)
            bridge.wait_until_delivered()
        assert bridge.stop() == 0
    finally:
        bridge.process.kill()
    records = endpoint.log_records()
    assert numbers_of(records) == Counter(range(len(publisher.published)))
    for gap in gap_records(records):
        assert unix_nano(gap["otelbridge.gap.end"]) >= unix_nano(gap["otelbridge.gap.start"])
