from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from otelbridge.cli import examination
from otelbridge.cli import tail as tail_command
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.feed.channel import WatchCall, release
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.unit.cli.invoking import Ended, invoke
from tests.waiting import eventually

ALERTS = (
    pb.Alert(NamespaceName="shop", PodName="web-1", Action="Audit", Severity="3", Operation="File", Resource="/etc/a"),
    pb.Alert(
        NamespaceName="bank", PodName="d-1", Action="Block", Severity="8", Operation="Process", Resource="/bin/sh"
    ),
    pb.Alert(NamespaceName="bank", Action="Block", Operation="Network", Labels="app=db", Resource="\x1b[2J"),
)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as running:
        yield running


def tail(relay: Relay, *arguments: str) -> Ended:
    """Runs tail, and publishes the alerts once it is subscribed."""

    def publish() -> None:
        relay.wait_for_subscribers(streams=[Stream.ALERTS])
        for alert in ALERTS:
            relay.publish(Stream.ALERTS, alert)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        return invoke("tail", "--kubearmor", relay.endpoint, "--streams", "alerts", *arguments)
    finally:
        publisher.join()


def test_json_lines_carry_kubearmors_own_field_names(relay: Relay) -> None:
    ended = tail(relay, "--limit", "3", "--output", "json")
    events = [json.loads(line) for line in ended.data.splitlines()]
    assert [event["Resource"] for event in events] == ["/etc/a", "/bin/sh", "\x1b[2J"]
    assert events[0]["_kind"] == "alert"
    assert ended.code == 0


@pytest.mark.parametrize(
    "filters",
    [
        ("--namespace", "b*", "--operation", "process"),
        ("--min-severity", "5"),
        ("--action", "block", "--pod", "d-?", "--operation", "Process"),
    ],
)
def test_filters_let_through_what_all_of_them_hold_for(relay: Relay, filters: tuple[str, ...]) -> None:
    ended = tail(relay, "--limit", "1", "--output", "json", *filters)
    assert json.loads(ended.data)["Resource"] == "/bin/sh"


def test_labels_are_filtered_too(relay: Relay) -> None:
    ended = tail(relay, "--limit", "1", "--output", "json", "--label", "app=d*")
    assert json.loads(ended.data)["Labels"] == "app=db"


def test_text_is_a_block_per_event_and_cannot_steer_the_terminal(relay: Relay) -> None:
    ended = tail(relay, "--limit", "3")
    assert ended.data.startswith("== Alert / ")
    assert "NamespaceName: shop\n" in ended.data
    assert "Resource: \\x1b[2J\n" in ended.data
    assert "\x1b" not in ended.data


def test_a_line_per_event_when_asked_for(relay: Relay) -> None:
    assert len(tail(relay, "--limit", "3", "--output", "line").data.splitlines()) == 3


def test_an_event_that_does_not_parse_is_said_and_ends_nothing(relay: Relay) -> None:
    def publish() -> None:
        relay.wait_for_subscribers(streams=[Stream.ALERTS])
        relay.publish(Stream.ALERTS, b"\xff\xff\xff")
        relay.publish(Stream.ALERTS, ALERTS[0])

    publisher = threading.Thread(target=publish)
    publisher.start()
    ended = invoke("tail", "--kubearmor", relay.endpoint, "--streams", "alerts", "--limit", "1", "--output", "json")
    publisher.join()
    assert "does not parse" in ended.talk
    assert json.loads(ended.data)["Resource"] == "/etc/a"


def test_nobody_there_is_exit_3() -> None:
    relay = Relay()
    relay.start()
    relay.stop()
    ended = invoke("tail", "--kubearmor", relay.endpoint)
    assert ended.code == 3
    assert "otelbridge doctor" in ended.talk


def test_what_grpc_holds_of_each_call_is_freed(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[WatchCall] = []

    def release_and_note(call: WatchCall) -> None:
        release(call)
        released.append(call)

    for module in (tail_command, examination):
        monkeypatch.setattr(module, "release", release_and_note)
    tail(relay, "--limit", "1")
    assert len(released) == 1
    with OtlpEndpoint() as endpoint:
        invoke("doctor", "--kubearmor", relay.endpoint, "--endpoint", endpoint.grpc_endpoint, "--wait", "0.2")
    assert len(released) == 1 + len(UPSTREAM_STREAMS)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--action", "Blok", "Did you mean Block?"),
        ("--operation", "Proces", "Did you mean Process?"),
        ("--action", "drop*", "KubeArmor's are Block, Audit"),
    ],
)
def test_a_filter_that_can_never_match_is_refused(option: str, value: str, hint: str) -> None:
    ended = invoke("tail", option, value)
    assert ended.code == 2
    assert hint in ended.talk


def test_a_relay_that_restarts_is_found_again_though_its_streams_were_quiet() -> None:
    first = Relay()
    first.start()

    def restart() -> None:
        first.wait_for_subscribers(streams=[Stream.ALERTS])
        eventually(
            lambda: any(call.method == "HealthCheck" for call in first.calls), why="it knows that it was connected"
        )
        first.stop(grace_seconds=0.5)  # the check's answer arrives before
        with Relay(port=int(first.endpoint.rpartition(":")[2])) as second:
            second.wait_for_subscribers(streams=[Stream.ALERTS])
            second.publish(Stream.ALERTS, ALERTS[0])
            second.wait_for_subscribers(0, streams=[Stream.ALERTS])

    restarting = threading.Thread(target=restart)
    restarting.start()
    ended = invoke("tail", "--kubearmor", first.endpoint, "--streams", "alerts", "--limit", "1", "--output", "json")
    restarting.join()
    assert ended.code == 0
    assert json.loads(ended.data)["Resource"] == "/etc/a"
