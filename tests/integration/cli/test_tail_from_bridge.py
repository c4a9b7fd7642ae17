from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.unit.cli.invoking import invoke
from tests.waiting import eventually

SHOWN = 4
HOSTILE = "/bin/sh -c 'curl --password hunter2 <script>alert(1)</script> \x1b[2J\u202e'"


class Road(NamedTuple):
    relay: Relay
    bridge: BridgeProcess


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A bridge that shows its last four events, drops those of one namespace, and has passed on four of five."""
    with (
        Relay() as relay,
        OtlpEndpoint(http_port=None, keep=False) as endpoint,
        running_bridge(
            tmp_path_factory.mktemp("tail"),
            feed={"endpoints": [relay.endpoint]},
            send={"endpoint": endpoint.grpc_endpoint},
            status={"show_events": SHOWN},
            gate={
                "rules": [{"name": "noise", "action": "drop", "namespace": ["noise"]}],
                "redact_common_secrets": True,
            },
        ) as bridge,
    ):
        bridge.wait_until_watching()
        relay.wait_for_subscribers(1)
        for number in range(3):
            relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="shop", PodName=f"web-{number}", Action="Block"))
        relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="noise", PodName="probe"))
        relay.publish(Stream.ALERTS, b"\xff\xff\xff")
        relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="bank", Operation="Process", Resource=HOSTILE))
        eventually(lambda: asked(bridge)["latest"] == 5, why="all but the filtered one have passed")
        yield Road(relay, bridge)


def asked(bridge: BridgeProcess, after: int = 0) -> dict[str, object]:
    with urllib.request.urlopen(bridge.url(f"/events?after={after}"), timeout=5) as answer:
        document: dict[str, object] = json.load(answer)
        return document


def test_tail_shows_what_passed_the_gate_of_a_running_bridge(road: Road) -> None:
    ended = invoke("tail", "--from-bridge", road.bridge.url(""), "--limit", "3", "--output", "json")
    events = [json.loads(line) for line in ended.data.splitlines()]
    assert [event.get("PodName") for event in events] == ["web-1", "web-2", None]
    assert "hunter2" not in ended.data
    assert "Events that do not parse: 1." in ended.talk
    assert ended.code == 0


def test_filters_hold_for_a_bridge_too(road: Road) -> None:
    ended = invoke("tail", "--from-bridge", road.bridge.url("/"), "--limit", "1", "--namespace", "b*")
    assert "NamespaceName: bank" in ended.data
    assert "\\x1b[2J\\u202e" in ended.data


def test_only_events_after_a_number_are_given(road: Road) -> None:
    assert [event["number"] for event in asked(road.bridge)["events"]] == [2, 3, 4, 5]  # type: ignore[attr-defined]
    assert [event["number"] for event in asked(road.bridge, after=4)["events"]] == [5]  # type: ignore[attr-defined]
    assert asked(road.bridge, after=5)["events"] == []


def test_the_status_document_has_a_line_for_each_with_nothing_that_could_move_a_cursor(road: Road) -> None:
    events = road.bridge.status()["events"]
    assert len(events) == SHOWN
    assert "in shop/web-2" in events[1]["text"]
    assert events[2]["text"] == "3 bytes that do not parse"
    assert "<script>" in events[3]["text"]
    assert "\x1b" not in events[3]["text"]
    assert "hunter2" not in events[3]["text"]


def test_events_are_shown_only_where_the_operator_wants_it(tmp_path: Path) -> None:
    with Relay() as relay, running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}) as bridge:
        assert "events" not in bridge.status()
        ended = invoke("tail", "--from-bridge", bridge.url(""))
    assert ended.code == 3
    assert "status.show_events" in ended.talk


def test_a_bridge_that_is_not_there_is_exit_3() -> None:
    ended = invoke("tail", "--from-bridge", "http://127.0.0.1:1")
    assert ended.code == 3
    assert "refused" in ended.talk


def test_what_is_no_url_is_exit_2() -> None:
    assert invoke("tail", "--from-bridge", "localhost:32799").code == 2
