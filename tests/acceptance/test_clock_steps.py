"""A wall clock that is set forward or back under a running bridge: everything arrives once, gaps keep their order."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance import stepped_clock
from tests.oracle import Publisher, gap_records, numbers_of, unix_nano
from tests.peers.bridge import BridgeProcess
from tests.peers.process import answers_ok
from tests.waiting import eventually

HOUR_SECONDS = 3600
YEAR_SECONDS = 365.2425 * 24 * HOUR_SECONDS
STEPS_SECONDS = (25 * HOUR_SECONDS, -25 * HOUR_SECONDS, 0)
FAR_DATES_SECONDS = (HOUR_SECONDS, round(338 * YEAR_SECONDS), HOUR_SECONDS, None)
"""Since 1970: its first day, the year 2308, where nanoseconds need more than 63 bits, back, and the true time."""


def until(date_seconds: int | None) -> int:
    """How far the clock has to be set for it to show a date; None is the true time."""
    return 0 if date_seconds is None else date_seconds - int(time.time())


@pytest.mark.parametrize(
    "steps", [STEPS_SECONDS, tuple(map(until, FAR_DATES_SECONDS))], ids=["a day", "to 1970 and 2308"]
)
def test_a_clock_that_is_set_loses_nothing(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, steps: tuple[int, ...]
) -> None:
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
        relay.wait_for_subscribers(streams=publisher.streams)
        for step in steps:
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
            relay.wait_for_subscribers(streams=publisher.streams)
            publisher.publish(100)
            endpoint.wait_for_records(len(publisher.published), within=20)
            bridge.wait_until_delivered()
            assert answers_ok(bridge.url("/livez"))
        assert bridge.stop() == 0
    finally:
        bridge.process.kill()
    assert "Traceback" not in bridge.process.output()
    records = endpoint.log_records()
    assert numbers_of(records) == Counter(range(len(publisher.published)))
    for gap in gap_records(records):
        assert unix_nano(gap["otelbridge.gap.end"]) >= unix_nano(gap["otelbridge.gap.start"])
