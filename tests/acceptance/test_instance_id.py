"""A bridge keeps its `service.instance.id` over restarts: it is kept with the queue; another queue has another."""

from __future__ import annotations

import re
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.peers.bridge import BridgeProcess, Json, running_bridge
from tests.waiting import eventually


def telemetry_to(endpoint: OtlpEndpoint) -> Json:
    signals = {"protocol": "grpc", "endpoint": endpoint.grpc_endpoint}
    return {"disabled": False, "traces": {"exporter": "none"}, "metrics": signals, "metrics_interval_seconds": 0.2}


def scraped_id(bridge: BridgeProcess) -> str:
    """As `/metrics` says."""
    found = re.search(r'^target_info\{.*service_instance_id="([^"]+)"', bridge.metrics(), re.MULTILINE)
    assert found
    return found[1]


def pushed_ids(endpoint: OtlpEndpoint) -> set[str]:
    """Of all metrics that came by OTLP."""
    return {
        pair.value.string_value
        for metric in endpoint.metrics()
        for pair in metric.resource.attributes
        if pair.key == "service.instance.id"
    }


def test_a_restart_and_a_crash_keep_the_instance_and_another_queue_has_another(
    endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    settings: dict[str, Json] = {
        "feed": {"endpoints": ["127.0.0.1:1"]},
        "send": {"endpoint": endpoint.grpc_endpoint},
        "telemetry": telemetry_to(endpoint),
    }
    ids: list[str] = []
    with running_bridge(tmp_path, **settings) as bridge:
        ids.append(scraped_id(bridge))
        eventually(lambda: pushed_ids(endpoint) == {ids[0]}, why="OTLP says the same")
        assert bridge.stop() == 0
        bridge.process.start()
        ids.append(scraped_id(bridge))
        bridge.process.kill()
        endpoint.inbox.clear()
        bridge.process.start()
        ids.append(scraped_id(bridge))
        eventually(lambda: pushed_ids(endpoint) == {ids[0]}, why="OTLP says the same after a crash")
    assert len(set(ids)) == 1
    with running_bridge(tmp_path / "other", **settings) as other:
        assert scraped_id(other) != ids[0]
