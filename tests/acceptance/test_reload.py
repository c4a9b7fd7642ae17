"""Settings are read again while the bridge runs: on SIGHUP, or when their file changes; a bad file changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.settings.load import changes, load, merged
from otelbridge.settings.tree import leaves
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.waiting import eventually

DROP_KUBE = {"rules": [{"name": "kube", "action": "drop", "namespace": ["kube-system"]}]}


def change(folder: Path, **sections: dict[str, Any]) -> None:
    """Writes other settings into the bridge's file."""
    file = folder / "bridge.yaml"
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")


def log_of(folder: Path) -> str:
    return (folder / "bridge.log").read_text(encoding="utf-8")


def published(relay: Relay, bridge: BridgeProcess, number: int) -> None:
    """Publishes that many events of kube-system, and waits until the bridge has them."""
    before = bridge.balance("alerts")["received"]
    for _ in range(number):
        relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="kube-system", PolicyName="p"))
    eventually(lambda: bridge.balance("alerts")["received"] == before + number)


def test_hang_up_takes_changed_settings_over_and_loses_neither_subscription_nor_record(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": "http://127.0.0.1:1"}) as bridge:
        bridge.wait_until_watching()
        published(relay, bridge, 3)  # held: nobody takes them there
        change(tmp_path, gate=DROP_KUBE, send={"endpoint": endpoint.grpc_endpoint}, queue={"max_bytes": 8 << 20})
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: "The settings were read again." in log_of(tmp_path))
        assert "queue.max_bytes" in log_of(tmp_path), "it says what waits for a restart"
        published(relay, bridge, 2)  # dropped by the new rule
        bridge.wait_until_delivered()
        totals = bridge.balance("alerts")
        assert (totals["received"], totals["delivered"]) == (5, 3)
        assert bridge.status()["subscriptions"][0]["attempts"] <= 1, "the subscription was not opened anew"
        assert bridge.stop() == 0


def test_a_file_that_cannot_be_used_changes_nothing_and_says_so(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}) as bridge:
        bridge.wait_until_watching()
        change(tmp_path, gate={"rulez": []})
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: "nothing has changed" in log_of(tmp_path))
        assert "gate.rulez" in log_of(tmp_path)
        published(relay, bridge, 1)
        bridge.wait_until_delivered()


def test_a_changed_file_is_noticed_where_that_is_asked_for(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(
        tmp_path,
        feed=feed,
        send={"endpoint": endpoint.grpc_endpoint},
        bridge={"reload_on_change": True},
    ) as bridge:
        bridge.wait_until_watching()
        change(tmp_path, gate=DROP_KUBE)
        eventually(lambda: "The settings were read again." in log_of(tmp_path), within_seconds=20)
        published(relay, bridge, 1)
        assert bridge.balance("alerts")["delivered"] == 0


def test_every_setting_is_taken_over_or_waits() -> None:
    before = load(environment={}).settings
    after = load(
        environment={},
        flags={"--set": ["send.concurrency=3", "telemetry.log_level=debug", "feed.streams=alerts", "status.port=1"]},
    ).settings
    found = changes(before, after)
    assert found.taken == ("send.concurrency", "telemetry.log_level")
    assert found.waiting == ("feed.streams", "status.port")
    now = merged(before, after)
    assert (now.send.concurrency, now.feed.streams) == (3, before.feed.streams)
    assert set(found.taken + found.waiting) <= {leaf.path for leaf in leaves()}


@pytest.mark.parametrize("section", ["gate", "mapping", "send"])
def test_nothing_changes_where_nothing_differs(section: str) -> None:
    settings = load(environment={}).settings
    assert not changes(settings, settings).taken
    assert getattr(merged(settings, settings), section) == getattr(settings, section)
