"""Settings are read again while the bridge runs: on SIGHUP, or when their file changes; a bad file changes nothing."""

from __future__ import annotations

import platform
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.settings.load import changes, load, merged
from otelbridge.settings.tree import leaves
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.waiting import eventually

RELOADED = "The settings were reloaded."
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
        eventually(lambda: "The settings were reloaded." in log_of(tmp_path))
        assert "queue.max_bytes" in log_of(tmp_path), "it says what waits for a restart"
        published(relay, bridge, 2)  # dropped by the new rule
        bridge.wait_until_delivered()
        totals = bridge.balance("alerts")
        assert (totals["received"], totals["delivered"]) == (5, 3)
        assert bridge.status()["subscriptions"][0]["attempts"] <= 1, "the subscription was not opened anew"
        assert bridge.stop() == 0


def test_records_name_the_sending_bridge_after_the_settings_were_read_again(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}) as bridge:
        bridge.wait_until_watching()
        published(relay, bridge, 1)
        change(tmp_path, mapping={"service_name": "changed"})
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: "The settings were reloaded." in log_of(tmp_path))
        published(relay, bridge, 1)
        bridge.wait_until_delivered()
    scopes = {log.resource.attributes[0].value.string_value: log.scope for log in endpoint.log_records()}
    assert len(scopes) == 2, "before the change and after it"
    for scope in scopes.values():
        assert [(pair.key, pair.value.string_value) for pair in scope.attributes] == [
            ("otelbridge.instance", platform.node())
        ]


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
        eventually(lambda: "The settings were reloaded." in log_of(tmp_path), within_seconds=20)
        published(relay, bridge, 1)
        assert bridge.balance("alerts")["delivered"] == 0


def test_a_file_that_was_emptied_lifts_no_rule(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}, gate=DROP_KUBE) as bridge:
        bridge.wait_until_watching()
        (tmp_path / "bridge.yaml").write_bytes(b"\n")
        for times in (1, 2):
            bridge.process.send(signal.SIGHUP)
            eventually(partial(refused, tmp_path, times))
        published(relay, bridge, 1)
        bridge.wait_until_delivered()
        assert bridge.balance("alerts")["delivered"] == 0


def refused(folder: Path, times: int) -> bool:
    """Whether the log has said so often that the file is empty."""
    return told(folder, "bridge.yaml is empty") >= times


def told(folder: Path, words: str) -> int:
    """How often the log says so."""
    return log_of(folder).count(words)


def reload(bridge: BridgeProcess, folder: Path, **sections: dict[str, Any]) -> None:
    """Changes the file, and waits until the bridge has read it again."""
    before = told(folder, RELOADED)
    change(folder, **sections)
    bridge.process.send(signal.SIGHUP)
    eventually(lambda: told(folder, RELOADED) > before)


def telemetry(**changed: object) -> dict[str, Any]:
    """Own telemetry that goes where the events go, often."""
    return {"disabled": False, "metrics_interval_seconds": 0.1, **changed}


def metric_names(endpoint: OtlpEndpoint) -> set[str]:
    return {metric.metric.name for metric in endpoint.metrics()}


def test_own_telemetry_follows_the_endpoint_and_what_waited_goes_there_too(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(
        tmp_path, feed=feed, send={"endpoint": "http://127.0.0.1:1", "timeout_seconds": 1}, telemetry=telemetry()
    ) as bridge:
        bridge.wait_until_watching()
        reload(bridge, tmp_path, send={"endpoint": endpoint.grpc_endpoint})
        eventually(endpoint.spans, why="the spans of the first connection, which waited")
        eventually(lambda: "otelbridge.source.connection.attempts" in metric_names(endpoint))
        assert {span.span.name for span in endpoint.spans()} >= {"otelbridge.connect"}
        attempts = [one for one in endpoint.metrics() if one.metric.name == "otelbridge.source.connection.attempts"]
        assert attempts[0].metric.sum.data_points[0].as_int == 1, "the sum goes on from before"


def test_own_telemetry_can_be_given_other_headers_protocols_and_intervals(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    slow = telemetry(metrics_interval_seconds=3600)
    with (
        OtlpEndpoint(token="second") as other,
        running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}, telemetry=slow) as bridge,
    ):
        bridge.wait_until_watching()
        signal_settings = {
            "protocol": "http/protobuf",
            "endpoint": f"{other.http_endpoint}/v1/metrics",
            "headers": {"authorization": "Bearer second"},
        }
        reload(bridge, tmp_path, telemetry=telemetry(metrics=signal_settings))
        eventually(lambda: metric_names(other), why="it does not wait for the old interval's end")
        reload(bridge, tmp_path, telemetry=telemetry(metrics={"exporter": "none"}))
        seen = other.seen
        reload(bridge, tmp_path, telemetry=telemetry(metrics={"exporter": "none"}, log_level="debug"))
        assert other.seen <= seen + 1, "one may have been under way"
        reload(bridge, tmp_path, telemetry=telemetry(metrics=signal_settings))
        eventually(lambda: other.seen > seen + 1)


def test_own_telemetry_can_be_turned_on_and_off_and_its_lines_get_another_form(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}) as bridge:
        bridge.wait_until_watching()
        assert "Metrics are off" in bridge.metrics()
        on = telemetry(alert_policies=True, log_format="json")
        reload(bridge, tmp_path, telemetry=on)
        relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="shop", PolicyName="no-shell"))
        eventually(lambda: 'security_rule_name="no-shell"' in bridge.metrics())
        assert '"body": "The settings were reloaded."' in log_of(tmp_path)
        assert bridge.status()["settings"]["telemetry.log_format"]["value"] == "json"
        eventually(lambda: metric_names(endpoint))
        reload(bridge, tmp_path, telemetry={"disabled": True})
        assert "Metrics are off" in bridge.metrics()


def test_telemetry_that_cannot_be_opened_changes_nothing_and_what_waits_for_a_restart_is_named(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(
        tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}, telemetry=telemetry()
    ) as bridge:
        bridge.wait_until_watching()
        wrong = {"endpoint": "https://127.0.0.1:1", "ca_file": str(tmp_path / "no.pem")}
        change(tmp_path, telemetry=telemetry(traces=wrong), gate=DROP_KUBE)
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: "nothing has changed" in log_of(tmp_path))
        assert "telemetry.traces.ca_file" in log_of(tmp_path)
        published(relay, bridge, 1)
        bridge.wait_until_delivered()
        assert bridge.balance("alerts")["delivered"] == 1, "the new rule is not in force"
        reload(bridge, tmp_path, telemetry=telemetry(traces={}, service_name="other"))
        assert "telemetry.service_name" in log_of(tmp_path)
        assert bridge.status()["settings"]["telemetry.service_name"]["value"] == "otelbridge"


def test_reloads_under_load_lose_no_event_and_no_subscription(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    stop, sent = threading.Event(), 0

    def publish() -> None:
        nonlocal sent
        while not stop.wait(0.002):
            relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="shop", Resource=f"/{sent}"))
            sent += 1

    with (
        OtlpEndpoint() as other,
        running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}, telemetry=telemetry()) as bridge,
    ):
        bridge.wait_until_watching()
        publisher = threading.Thread(target=publish, name="publisher")
        publisher.start()
        try:
            for number in range(12):
                there = (endpoint, other)[number % 2].grpc_endpoint
                named = {"rules": [{"name": f"rule-{number}", "action": "drop", "namespace": ["nowhere"]}]}
                reload(bridge, tmp_path, send={"endpoint": there}, gate=named, mapping={"native": number % 3 == 0})
                bridge.process.send(signal.SIGHUP)  # and once more for nothing
        finally:
            stop.set()
            publisher.join()
        eventually(lambda: bridge.balance("alerts")["received"] == sent)
        bridge.wait_until_delivered()
        assert bridge.balance("alerts")["delivered"] == sent
        uids = {
            attributes(log.record.attributes)["log.record.uid"]
            for one in (endpoint, other)
            for log in one.log_records()
        }
        assert len(uids) == sent, "each event arrived"
        assert bridge.status()["gaps"] == []
        assert bridge.status()["subscriptions"][0]["attempts"] <= 1
        assert "Internal error" not in log_of(tmp_path)


def test_the_scope_names_the_same_instance_after_a_reload(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    feed = {"endpoints": [relay.endpoint], "streams": ["alerts"]}
    with running_bridge(tmp_path, feed=feed, send={"endpoint": endpoint.grpc_endpoint}) as bridge:
        bridge.wait_until_watching()
        published(relay, bridge, 1)
        endpoint.wait_for_records(1, 20)
        reload(bridge, tmp_path, mapping={"max_value_bytes": 4096})
        published(relay, bridge, 1)
        before, after = endpoint.wait_for_records(2, 20)
        assert attributes(before.scope.attributes) == attributes(after.scope.attributes)


def test_every_setting_is_taken_over_or_waits() -> None:
    before = load(environment={}).settings
    after = load(
        environment={},
        flags={
            "--set": [
                "send.concurrency=3",
                "telemetry.log_level=debug",
                "telemetry.service_name=other",
                "feed.streams=alerts",
                "status.port=1",
            ]
        },
    ).settings
    found = changes(before, after)
    assert found.taken == ("send.concurrency", "telemetry.log_level")
    assert found.waiting == ("feed.streams", "telemetry.service_name", "status.port")
    now = merged(before, after)
    assert (now.send.concurrency, now.feed.streams) == (3, before.feed.streams)
    assert (now.telemetry.log_level, now.telemetry.service_name) == ("debug", "otelbridge")
    assert set(found.taken + found.waiting) <= {leaf.path for leaf in leaves()}


@pytest.mark.parametrize("section", ["gate", "mapping", "send", "telemetry"])
def test_nothing_changes_where_nothing_differs(section: str) -> None:
    settings = load(environment={}).settings
    assert not changes(settings, settings).taken
    assert getattr(merged(settings, settings), section) == getattr(settings, section)
