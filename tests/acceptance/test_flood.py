"""A flood of one kind of alert: its first events and all others go through, the rest is counted and kept."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_inbox import ReceivedLog, attributes
from otelbridge.simulator.events import stamp_sequence, stamp_time
from otelbridge.simulator.upstream import Relay
from tests.oracle import numbers_of
from tests.peers.bridge import COMMAND, Json, running_bridge
from tests.waiting import eventually

RARE_EVERY = 500
KIND = "alerts/block-curl/shop/web/Process/denied"


def alert(number: int, *, policy: str) -> pb.Alert:
    message = pb.Alert(
        PolicyName=policy, NamespaceName="shop", PodName="web-7d4-abc", ContainerName="app", Operation="Process",
        Action="Block", Result="Permission denied", Type="MatchedPolicy", Severity="5", HostName="node-1",
        ProcessName=f"/bin/curl-{number % 3}", Resource=f"/bin/curl-{number % 3} -s http://host-{number}",
    )  # fmt: skip
    message.Owner.Ref, message.Owner.Name, message.Owner.Namespace = "Deployment", "web", "shop"
    stamp_time(message, time.time_ns())
    stamp_sequence(message, number)
    return message


def flood(relay: Relay, numbers: Iterable[int]) -> set[int]:
    """Publishes a flood with a rare alert of its own kind now and then; returns the numbers of the rare ones."""
    rare = set()
    for number in numbers:
        is_rare = number % RARE_EVERY == 0
        rare |= {number} if is_rare else set()
        eventually(lambda: relay.room(Stream.ALERTS) > 100, why="the bridge reads")
        relay.publish(Stream.ALERTS, alert(number, policy=f"rare-{number}" if is_rare else "block-curl"))
    return rare


def settings(relay: Relay, endpoint: OtlpEndpoint) -> dict[str, Json]:
    return {
        "feed": {"endpoints": [relay.endpoint]},
        "gate": {"flood": {"rate_per_second": 1, "burst": 20}},
        "queue": {"retain_seconds": 3600},
        "send": {"endpoint": endpoint.grpc_endpoint},
    }


def summaries(records: Iterable[ReceivedLog]) -> list[dict[str, Any]]:
    return [attributes(one.record.attributes) for one in records if one.record.event_name == "otelbridge.flood"]


def test_rare_alerts_go_through_and_verbatim_plus_counted_is_what_was_received_through_a_kill(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        bridge.wait_until_watching()
        rare = flood(relay, range(5_000))
        eventually(lambda: bridge.balance("alerts")["received"] == 5_000, why="all are received")
        bridge.wait_until_delivered()
        assert bridge.balance("alerts")["summarised"] > 4_900
        bridge.process.send(signal.SIGKILL)  # in the middle of the window
        bridge.process.wait(10)
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        bridge.wait_until_watching()
        assert bridge.balance("alerts")["summarised"] > 4_900, "the count has survived"
        rare |= flood(relay, range(5_000, 8_000))
        eventually(lambda: bridge.balance("alerts")["received"] == 8_000, why="all are received")
        bridge.wait_until_delivered()
        balance = bridge.balance("alerts")
        assert bridge.stop() == 0  # closes the window
    records = endpoint.log_records()
    told = summaries(records)
    verbatim = numbers_of(records)
    assert max(verbatim.values()) == 1
    assert rare <= set(verbatim)
    assert sum(one["otelbridge.flood.events"] for one in told) == balance["summarised"]
    assert balance["summarised"] + len(verbatim) == 8_000
    assert len(verbatim) + len(told) - len(rare) < 0.01 * 8_000
    assert {one["otelbridge.flood.kind"] for one in told} == {KIND}
    (one,) = told
    assert one["otelbridge.flood.processes"] == 3
    assert sorted(one["otelbridge.flood.process_examples"]) == ["/bin/curl-0", "/bin/curl-1", "/bin/curl-2"]
    assert 6_000 < one["otelbridge.flood.resources"] < 10_000
    assert one["security_rule.name"] == "block-curl"
    assert one["kubearmor.outcome"] == "denied"

    replay = ["queue", "replay", "--since", "1h", "--kind", "alerts/block-*", "--to", endpoint.grpc_endpoint]
    where = ["--queue-directory", str(tmp_path / "queue")]
    subprocess.run([COMMAND, *replay, *where], check=True, timeout=60)
    assert numbers_of(endpoint.log_records()) == Counter(range(8_000)), "every original is back, once"


def test_what_nothing_would_keep_is_not_counted_only(tmp_path: Path) -> None:
    asked = subprocess.run(
        [COMMAND, "config", "check", "--set", "gate.flood.rate_per_second=1"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert asked.returncode == 2
    assert "queue.retain_seconds" in asked.stderr + asked.stdout
