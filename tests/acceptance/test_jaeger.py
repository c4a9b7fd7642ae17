"""What an operator finds in a genuine Jaeger after the connection to KubeArmor was lost: each attempt, and why."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge
from tests.peers.jaeger import Jaeger, start_jaeger
from tests.waiting import eventually

pytestmark = pytest.mark.jaeger

SERVICE = "otelbridge"
CONNECT = "otelbridge.connect"
CONNECTION = "otelbridge.connection"
WATCH = "feeder.LogService/WatchAlerts"


def spans(jaeger: Jaeger, operation: str) -> list[dict[str, Any]]:
    found = [span for trace in jaeger.traces(SERVICE, operation) for span in trace["spans"]]
    return sorted(
        (span for span in found if span["operationName"] == operation), key=lambda span: int(span["startTime"])
    )


def tags(span: dict[str, Any]) -> dict[str, object]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def test_jaegers_query_api_shows_the_life_of_the_connection(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with (
        start_jaeger(tmp_path) as jaeger,
        running_bridge(
            tmp_path / "bridge",
            feed={"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.2, "max_seconds": 1}},
            send={"endpoint": endpoint.grpc_endpoint},
            telemetry={
                "disabled": False,
                "traces": {"endpoint": jaeger.otlp_endpoint},
                "metrics": {"exporter": "none"},
            },
        ) as bridge,
    ):
        bridge.wait_until_watching()
        relay.kill()
        eventually(bridge.has_failed_to_connect, why="an attempt fails")
        relay.start()
        bridge.wait_until_watching()
        assert bridge.stop() == 0  # and with it, the last spans are out

        assert SERVICE in eventually(jaeger.services, why="Jaeger has spans")
        attempts = eventually(lambda: spans(jaeger, CONNECT), why="the attempts are there")
        assert len(attempts) >= 3
        failed = [span for span in attempts if tags(span).get("error")]
        assert failed
        assert all(tags(span)["server.address"] == "127.0.0.1" for span in attempts)
        assert all(tags(span)["error.type"] for span in failed)
        for before, after in itertools.pairwise(attempts):
            assert before["spanID"] in {reference["spanID"] for reference in after["references"]}

        lives = spans(jaeger, CONNECTION)
        assert len(lives) == 2
        assert len(spans(jaeger, WATCH)) == 2
        assert {span["traceID"] for span in lives} <= {span["traceID"] for span in attempts}, "one trace per connection"
