"""Every number that a setting takes works: a bridge runs, takes an event and delivers it, at each end of each range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.settings.tree import leaves
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge

Range = tuple[float | None, float | None]

NOT_WAITED_FOR = {
    "bridge.drain_seconds": 10,  # the test waits for the drain
    "feed.retry.initial_spread_seconds": 0,  # and for the first connection
    "send.linger_seconds": 0,
    "send.alert_linger_seconds": 0,
    "status.port": 0,  # taken by the test
}
"""Ends that work, but not while somebody waits for them."""


RANGES: dict[str, Range] = {
    leaf.path: (leaf.setting.limits.ge, leaf.setting.limits.le)
    for leaf in leaves()
    if leaf.setting.type in (int, float)
}
"""Every setting that is a number, and the least and the most that it takes; None where there is no such bound."""


@pytest.mark.parametrize("path", RANGES)
def test_a_number_has_a_least_and_a_most(path: str) -> None:
    assert None not in RANGES[path]


@pytest.mark.parametrize("section", sorted({path.split(".")[0] for path in RANGES}))
@pytest.mark.parametrize("end", ["least", "most"])
def test_a_bridge_delivers_at_the_ends_of_every_range(
    section: str, end: str, relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "feed": {"endpoints": [relay.endpoint], "streams": ["alerts"]},
        "send": {"endpoint": endpoint.grpc_endpoint},
    }
    for path, bounds in RANGES.items():
        if path.startswith(f"{section}.") and path not in NOT_WAITED_FOR:
            node = settings
            *sections, name = path.split(".")
            for one in sections:
                node = node.setdefault(one, {})
            node[name] = bounds[0 if end == "least" else 1]

    if section == "gate":
        settings["queue"] = {"retain_seconds": 60}  # a flood's events have to be kept
    if section == "feed":
        settings["bridge"] = {"under_way_max_bytes": RANGES["feed.max_message_bytes"][1]}  # one has to fit
    with running_bridge(tmp_path, **settings) as bridge:
        bridge.wait_until_watching()
        relay.publish(Stream.ALERTS, pb.Alert(PodName="a", Timestamp=1_700_000_000))
        bridge.wait_until_delivered()
        assert bridge.stop() == 0
    assert "Traceback" not in (tmp_path / "bridge.log").read_text(encoding="utf-8")
