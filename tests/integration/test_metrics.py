"""No metric is declared that nobody feeds: neither by its binding, nor in a run in which things go wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import trustme

from k8s.dashboards.queries import prometheus_name
from otelbridge.bridge import Bridge
from otelbridge.event import Stream
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.pb.kubearmor_pb2 import Alert, Log
from otelbridge.settings.load import load
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Ok, Partial, Status
from otelbridge.simulator.upstream import Relay
from otelbridge.status.components import INSTRUMENTS
from otelbridge.status.document import sections
from otelbridge.telemetry.escape import escape_json
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.waiting import eventually

CONDITIONAL = {
    "otelbridge.certificate.expiry": "TLS only",
    "otelbridge.thread.restarts": "a fault of the bridge: tests/integration/test_threads.py",
    "otelbridge.source.compared": "with feed.roads: tests/acceptance/test_roads.py",
    "otelbridge.source.missed": "with feed.roads: tests/acceptance/test_roads.py",
    "otelbridge.source.unknown": "with feed.roads: tests/acceptance/test_roads.py",
    "otelbridge.event.dropped": "when the queue or the buffer overflows",
}
"""Shown in a live incident instead: tests/deploy/test_dashboards_live.py."""

SEEN_SECONDS = 15
OWN_METRICS = {"disabled": False, "traces": {"exporter": "none"}, "metrics": {"exporter": "none"}}


def test_every_part_of_the_status_document_can_be_made_and_is_json(tmp_path: Path) -> None:
    flags = {
        "--set": [
            f"queue.directory={tmp_path}",
            "status.port=0",
            "status.show_events=10",
            "telemetry.disabled=true",
            "feed.roads=true",
            "telemetry.coverage=true",
            "feed.endpoints=a,b",
        ]
    }
    loaded = load(file=None, environment={}, flags=flags)
    bridge = Bridge(loaded)
    try:
        made = sections(bridge.components, settings=dict, life=bridge.life)
        document = json.dumps({name: escape_json(section()) for name, section in made.items()}, allow_nan=False)
    finally:
        bridge.close()
    assert {"coverage", "roads", "events"} < json.loads(document).keys()


def test_the_endpoints_certificates_expire_on_the_metrics_too(tmp_path: Path) -> None:
    ca, expires = tmp_path / "ca.crt", datetime(2031, 1, 2, tzinfo=UTC)
    leaf = trustme.CA().issue_cert("collector", not_after=expires)  # as a bundle of one, whose date is known
    leaf.cert_chain_pems[0].write_to_path(ca)
    sets = [
        f"queue.directory={tmp_path}",
        "status.port=0",
        "send.endpoint=https://collector:4317",
        f"send.ca_file={ca}",
    ]
    sets += [f"telemetry.{signal}.exporter=none" for signal in ("traces", "metrics")]
    bridge = Bridge(load(file=None, environment={}, flags={"--set": sets}))
    try:
        metrics = bridge.components.telemetry.prometheus().decode()
    finally:
        bridge.close()
    (line,) = [line for line in metrics.splitlines() if line.startswith("otelbridge_certificate_expiry_seconds{")]
    assert 'otelbridge_certificate_use="endpoint",server_address="collector",server_port="4317"' in line
    assert float(line.split()[-1]) == expires.timestamp()


def test_every_declared_metric_is_seen_in_a_run_with_faults(tmp_path: Path) -> None:
    with (
        Relay() as relay,
        OtlpEndpoint(http_port=None, keep=False) as endpoint,
        running_bridge(
            tmp_path,
            feed={
                "endpoints": [relay.endpoint],
                "heartbeat": {"interval_seconds": 0.3, "timeout_seconds": 0.3},
                "retry": {"initial_seconds": 0.2, "max_seconds": 0.5},
            },
            send={"endpoint": endpoint.grpc_endpoint, "retry_initial_seconds": 0.1, "retry_max_seconds": 0.2},
            mapping={"process_traces": True},
            telemetry={**OWN_METRICS, "coverage": True},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        relay.wait_for_subscribers(1)
        go_wrong(relay, endpoint, bridge)
        expected = {prometheus_name(one) for name, one in INSTRUMENTS.items() if name not in CONDITIONAL}
        unseen: list[set[str]] = []

        def all_are_seen() -> bool:
            unseen.append(expected - families(bridge))
            return not unseen[-1]

        try:
            eventually(all_are_seen, within_seconds=SEEN_SECONDS)
        except AssertionError:
            pytest.fail(f"declared, and never seen: {sorted(unseen[-1])}")


def go_wrong(relay: Relay, endpoint: OtlpEndpoint, bridge: BridgeProcess) -> None:
    relay.publish(
        Stream.ALERTS, Alert(HostName="node", NamespaceName="shop", UpdatedTime="2026-01-01T00:00:00.000000Z")
    )
    relay.publish(Stream.ALERTS, Alert(NamespaceName="shop", Operation=THROTTLING_OPERATION))
    relay.publish(Stream.ALERTS, b"\xff\xff\xff")
    eventually(lambda: bridge.balance("alerts")["delivered"] == 3, why="all is well at first")
    refused = Status(code=grpc.StatusCode.INVALID_ARGUMENT)
    endpoint.answers = lambda request: refused if b"refused" in request.body else Ok()
    relay.publish(Stream.ALERTS, Alert(PodName="refused"))
    relay.publish(Stream.LOGS, Log(PodName="taken"))
    eventually(lambda: bridge.balance("alerts")["rejected"] == 1, why="it is refused while others are taken")
    endpoint.answers = lambda _: Partial(rejected=1)
    relay.publish(Stream.ALERTS, Alert(PodName="rejected"))
    eventually(lambda: bridge.balance("alerts")["rejected"] == 2, why="it is rejected")
    endpoint.answers = lambda _: Ok()
    relay.freeze()
    eventually(lambda: bridge.status()["subscriptions"][0]["state"] != "watching", within_seconds=20)
    relay.thaw()
    bridge.wait_until_watching()
    relay.wait_for_subscribers(1)
    relay.publish(Stream.ALERTS, Alert(UpdatedTime="2026-01-01T00:00:00.000000Z"))
    eventually(lambda: bridge.balance("alerts")["received"] == 6, why="it is received")
    relay.end_streams(grpc.StatusCode.UNAVAILABLE, "for the test")


def families(bridge: BridgeProcess) -> set[str]:
    """The names of the metrics that have a series."""
    names = set(re.findall(r"^(\w+)[ {]", bridge.metrics(), re.MULTILINE))
    return names | {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
