"""`otelbridge coverage` beside a running bridge: who was heard of, who is silent, and which policies never fired."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from otelbridge.event import Stream
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


def publish(relay: Relay) -> None:
    alert = pb.Alert(HostName="node-1", NamespaceName="shop", PodName="web-1", PolicyName="block-curl")
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
        for content, code in (("no JSON", 1), ("[]", 1), ('{"items": [{}]}', 1)):
            said = ask(bridge, "--policies", "-", stdin=content)
            assert (
                said.code,
                "kubectl get" in said.talk or "JSON" in said.talk or "list" in said.talk,
            ) == (code, True)
        assert ask(bridge, "--policies", str(tmp_path / "none")).code == 3
    assert ask(bridge).code == 3
