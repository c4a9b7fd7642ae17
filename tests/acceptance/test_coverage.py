"""`otelbridge coverage` beside a running bridge: who was heard of, who is silent, and which policies never fired."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from otelbridge.cli.coverage import MAX_POLICIES_BYTES
from otelbridge.event import Stream
from otelbridge.mapping.model import MAX_ALERT_SERIES
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.coverage import DAY_SECONDS, NOTE, Coverage, Subject, SubjectKind
from tests.peers.bridge import BridgeProcess, Json, running_bridge
from tests.unit.cli.invoking import Ended, invoke
from tests.waiting import eventually

POLICIES = {"items": [{"metadata": {"name": name}} for name in ("block-curl", "block-nothing")]}
QUIET = Subject(SubjectKind.NAMESPACE, "quiet")


def settings(relay: Relay, endpoint: OtlpEndpoint, **telemetry: Any) -> dict[str, Json]:
    return {
        "feed": {"endpoints": [relay.endpoint]},
        "send": {"endpoint": endpoint.grpc_endpoint},
        "telemetry": {"disabled": True, "coverage": True, **telemetry},
    }


def ask(bridge: BridgeProcess, *arguments: str, stdin: str = "") -> Ended:
    return invoke("coverage", "--url", bridge.url(""), *arguments, stdin=stdin)


def answers(bridge: BridgeProcess) -> dict[str, str]:
    found: dict[str, str] = {one["name"]: one["answer"] for one in bridge.status()["coverage"]}
    return found


def publish(relay: Relay, pod: str = "web-1", namespace: str = "shop", policy: str = "block-curl") -> None:
    alert = pb.Alert(HostName="node-1", NamespaceName=namespace, PodName=pod, PolicyName=policy)
    stamp_time(alert, time.time_ns())
    relay.publish(Stream.ALERTS, alert)


def test_it_tells_who_was_heard_of_which_policies_never_fired_and_who_was_not_heard_of_again(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        bridge.wait_until_watching()
        publish(relay)
        heard = {"node-1": "usual", "shop": "usual", "block-curl": "usual"}
        eventually(lambda: answers(bridge) == heard, why="the alert is noticed")
        said = ask(bridge, "--policies", "-", stdin=json.dumps(POLICIES))
        assert said.code == 0, said.talk
        assert "policy block-nothing has never fired" in said.data
        assert "policy block-curl has never fired" not in said.data
        assert bridge.stop() == 0
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        bridge.wait_until_watching()
        assert answers(bridge) == dict.fromkeys(heard, "never")
        said = ask(bridge, "--output", "json")
        assert {one["answer"] for one in said.json()["subjects"]} == {"never"}


def test_of_more_workloads_than_are_counted_apart_each_policy_is_heard_of(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    """Their alerts were counted without the policy's name: it was said to be silent while it fired."""
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        bridge.wait_until_watching()
        for number in range(MAX_ALERT_SERIES + 10):
            eventually(lambda: relay.room(Stream.ALERTS) > 100, why="the bridge reads")
            publish(relay, f"web-{number}")
        publish(relay, "late-1", "late", "rare")
        eventually(lambda: {"late", "rare"} <= set(answers(bridge)), why="the last alert is noticed")


def test_a_namespace_that_is_silent_for_longer_than_usual_is_told_and_the_command_exits_with_one(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    now = time.time()
    learnt = Coverage(now=now - 2 * DAY_SECONDS)
    for number in range(int(1.9 * DAY_SECONDS / 60)):  # heard of each minute, until it fell silent hours ago
        learnt.observe(now - 2 * DAY_SECONDS + number * 60, {QUIET: number}, blind=False)
    learnt.observe(now, {QUIET: number}, blind=False)
    queue = DurableQueue.open(
        QueueSettings(directory=tmp_path / "queue"), tell=lambda _: None, record_gap=lambda _: None
    )
    queue.put([], notes={NOTE: learnt.note()})
    queue.close()
    with running_bridge(tmp_path, **settings(relay, endpoint, disabled=False)) as bridge:
        bridge.wait_until_watching()
        assert answers(bridge) == {"quiet": "silent"}
        said = ask(bridge)
        assert said.code == 1
        assert "silent for longer than usual" in said.data
        eventually(lambda: 'otelbridge_coverage_answer="silent"' in bridge.metrics(), why="the metric tells it")


def test_what_cannot_be_asked_or_read_ends_in_a_sentence(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    with running_bridge(tmp_path, **settings(relay, endpoint, coverage=False)) as bridge:
        said = ask(bridge)
        assert (said.code, "telemetry.coverage" in said.talk) == (1, True)
    with running_bridge(tmp_path, **settings(relay, endpoint)) as bridge:
        for content, why in (
            ("no JSON", "not JSON"), ("[]", "no list"), ('{"items": [{}]}', "no list"), ("", "is empty"),
            ("\n", "is empty"), ("[" * 100_000, "not JSON"), ('{"items": [{"metadata": {"name": 3}}]}', "no list"),
            ('{"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "web-1"}}]}', "(Pod)"),
            ("a" * (MAX_POLICIES_BYTES + 1), "larger than 64 MiB"),
        ):  # fmt: skip
            said = ask(bridge, "--policies", "-", stdin=content)
            assert (said.code, why in said.talk) == (1, True), said.talk
            assert said.talk.startswith("standard input ")
        odd = {"items": [{"kind": "KubeArmorPolicy", "metadata": {"name": "red\x1b[31m\u202e"}}]}
        said = ask(bridge, "--policies", "-", stdin=json.dumps(odd))
        assert said.code == 0
        assert "\x1b" not in said.data
        assert "\u202e" not in said.data
        assert ask(bridge, "--policies", str(tmp_path / "none")).code == 3
    assert ask(bridge).code == 3
