"""Processes as spans, from events to a trace service: by both protocols, through kills, reloads and refusals."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.endpoint_answers import OK, Answer, Http, Request, Status
from otelbridge.simulator.upstream import Relay
from tests.acceptance.test_reload import change, log_of
from tests.contract import process_span_breaches
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.jaeger import Jaeger, start_jaeger
from tests.processes import SECOND, UNKNOWN, Event, Session, said_by, session, tree_of
from tests.waiting import eventually

MAPPING = {"process_traces": True, "process_quiet_seconds": 1}
STREAMS = ["alerts", "logs"]


def publish(relay: Relay, bridge: BridgeProcess, events: Iterable[Event]) -> None:
    """Publishes events at the pace at which the bridge takes them."""
    wanted = received(bridge)
    for stream, event in events:
        wanted += 1
        eventually(partial(relay.room, stream), why="KubeArmor has room")
        relay.publish(stream, event)
    eventually(lambda: received(bridge) == wanted, why="the bridge has them")


def received(bridge: BridgeProcess) -> int:
    return sum(bridge.balance(stream)["received"] for stream in STREAMS)


def settings(relay: Relay, endpoint: str, **send: Any) -> dict[str, Any]:
    return {
        "feed": {"endpoints": [relay.endpoint], "streams": STREAMS},
        "send": {"endpoint": endpoint, **send},
        "mapping": MAPPING,
    }


def ids_of_records(endpoint: OtlpEndpoint) -> set[tuple[bytes, bytes]]:
    return {(log.record.trace_id, log.record.span_id) for log in endpoint.log_records() if log.record.trace_id}


def ids_of_spans(endpoint: OtlpEndpoint) -> set[tuple[bytes, bytes]]:
    return {(one.span.trace_id, one.span.span_id) for one in endpoint.spans()}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_session_arrives_as_a_tree_and_its_records_point_into_it(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    made = session(1, depth=6, processes=100, low_half=0xABCD)
    address = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint + "/v1/logs"
    with running_bridge(tmp_path, **settings(relay, address, protocol=protocol)) as bridge:
        bridge.wait_until_watching()
        publish(relay, bridge, made.events())
        assert bridge.stop() == 0
    spans = [one.span for one in endpoint.spans()]
    assert tree_of(spans) == made.tree()
    assert not [breach for span in spans for breach in process_span_breaches(span)]
    assert {attributes(one.resource.attributes)["k8s.pod.name"] for one in endpoint.spans()} == {"cart-1"}
    assert len(endpoint.log_records()) == len(made.events())
    assert ids_of_records(endpoint) <= ids_of_spans(endpoint)


def test_spans_leave_while_the_bridge_runs_and_the_ledger_balances(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    made = session(2, depth=4, processes=50)
    with running_bridge(tmp_path, **settings(relay, endpoint.grpc_endpoint)) as bridge:
        bridge.wait_until_watching()
        publish(relay, bridge, made.events())
        eventually(lambda: len(endpoint.spans()) >= 52, within_seconds=15, why="quiet processes are sent")
        bridge.wait_until_delivered()
        accounts = bridge.balance("spans")
        assert accounts["received"] == accounts["delivered"] == len(endpoint.spans())
        assert bridge.stop() == 0


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("grpc", Status(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown service")),
        ("http/protobuf", Http(status=404)),
    ],
)
def test_an_endpoint_that_takes_no_traces_stops_no_record(
    relay: Relay, tmp_path: Path, protocol: str, answer: Answer
) -> None:
    def answers(request: Request) -> Answer:
        return OK if request.signal == "logs" else answer

    made = session(3, depth=3, processes=30)
    with OtlpEndpoint(answers=answers) as endpoint:
        address = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint + "/v1/logs"
        with running_bridge(tmp_path, **settings(relay, address, protocol=protocol)) as bridge:
            bridge.wait_until_watching()
            publish(relay, bridge, made.events())
            eventually(lambda: "refuses spans" in log_of(tmp_path), why="it says so")
            publish(relay, bridge, session(4, depth=3, processes=30).events())
            eventually(lambda: len(endpoint.log_records()) == received(bridge), why="records go on")
            assert bridge.balance("spans")["held"] > 0
            assert bridge.balances()
            assert bridge.stop() == 0
    said = [line for line in log_of(tmp_path).splitlines() if "refuses spans" in line and "latest=" not in line]
    assert len(said) == 1, said
    assert "mapping.process_traces" in said[0]


def test_after_a_kill_every_record_is_there_and_processes_that_go_on_keep_their_ids(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    made = session(5, depth=5, processes=60, low_half=0xBEEF)
    events = made.events()
    half = len(events) // 2
    with running_bridge(tmp_path, **settings(relay, endpoint.grpc_endpoint)) as bridge:
        bridge.wait_until_watching()
        publish(relay, bridge, events[:half])
        bridge.process.kill()
        bridge.process.start()
        bridge.wait_until_watching()
        publish(relay, bridge, events[half:])
        bridge.wait_until_delivered()
        assert bridge.stop() == 0
    uids = [attributes(log.record.attributes)["log.record.uid"] for log in endpoint.log_records()]
    assert len(set(uids)) >= len(events), "gap records have ids too"
    assert len({trace for trace, _ in ids_of_records(endpoint)}) == 1
    spans = {one.span.span_id: one.span for one in endpoint.spans()}
    for span in spans.values():
        assert not span.parent_span_id or span.parent_span_id in spans
    after = {said_by(one)["log.record.uid"] for span in spans.values() for one in span.events}
    told_after = {uid for uid in uids[-(len(events) - half) :] if uid in after}
    assert told_after


def test_a_reload_turns_traces_on_and_off(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    off = settings(relay, endpoint.grpc_endpoint)
    off["mapping"] = {}
    with running_bridge(tmp_path, **off) as bridge:
        bridge.wait_until_watching()
        publish(relay, bridge, session(6, depth=2, processes=10).events())
        bridge.wait_until_delivered()
        assert not ids_of_records(endpoint)
        change(tmp_path, mapping=MAPPING)
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: log_of(tmp_path).count("The settings were reloaded.") == 1)
        on = session(7, depth=2, processes=10)
        publish(relay, bridge, on.events())
        change(tmp_path, mapping={"process_traces": False})
        bridge.process.send(signal.SIGHUP)
        eventually(lambda: log_of(tmp_path).count("The settings were reloaded.") == 2)
        eventually(lambda: tree_of(one.span for one in endpoint.spans()) == on.tree(), why="what was open is sent")
        publish(relay, bridge, session(8, depth=2, processes=10).events())
        bridge.wait_until_delivered()
        assert bridge.stop() == 0
    assert ids_of_records(endpoint) <= ids_of_spans(endpoint)
    assert len({trace for trace, _ in ids_of_records(endpoint)}) == 1


def test_what_the_gate_blacks_out_and_drops_is_on_no_span(relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path) -> None:
    gate = {
        "redact_common_secrets": True,
        "rules": [{"name": "quiet", "action": "drop", "namespace": ["kube-system"]}],
    }
    log = pb.Log(Type="ContainerLog", HostName="n", ContainerID="c", HostPID=10, HostPPID=5, Operation="Process")
    log.ProcessName, log.ParentProcessName, log.Result = "/usr/bin/curl", "/bin/sh", "Passed"
    log.Source, log.Resource = "/bin/sh", "/usr/bin/curl --password hunter2 -H authorization:s3cret"
    hidden = pb.Log(Type="ContainerLog", HostName="n", ContainerID="d", HostPID=11, HostPPID=6, Operation="Process")
    hidden.NamespaceName, hidden.ProcessName = "kube-system", "/bin/unseen"
    with running_bridge(tmp_path, gate=gate, **settings(relay, endpoint.grpc_endpoint)) as bridge:
        bridge.wait_until_watching()
        publish(relay, bridge, [(Stream.LOGS, log), (Stream.LOGS, hidden)])
        assert bridge.stop() == 0
    sent = b"".join(one.span.SerializeToString() for one in endpoint.spans())
    assert b"curl" in sent
    assert b"[REDACTED]" in sent
    for secret in (b"hunter2", b"s3cret", b"unseen"):
        assert secret not in sent


# --- a genuine back end ---


def tree_in_jaeger(trace: dict[str, Any]) -> dict[str, str]:
    """As `tests.processes.tree_of`, read from Jaeger's answer."""
    spans = {span["spanID"]: span for span in trace["spans"]}
    said = {number: {tag["key"]: tag["value"] for tag in span["tags"]} for number, span in spans.items()}
    assert sum("otelbridge.trace.root" in tags for tags in said.values()) == 1
    tree = {}
    for number, span in spans.items():
        if "otelbridge.trace.root" in said[number] or "otelbridge.process.continued" in said[number]:
            continue
        (parent,) = [one["spanID"] for one in span["references"]]
        is_root = "otelbridge.trace.root" in said[parent]
        assert is_root == (said[number].get("otelbridge.process.parent") == UNKNOWN)
        tree[span["operationName"]] = UNKNOWN if is_root else spans[parent]["operationName"]
    return tree


@pytest.mark.jaeger
def test_a_genuine_jaeger_shows_the_trees_that_were_made_up(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    started = time.time_ns() - 60 * SECOND  # Jaeger looks an hour back
    made = [
        session(
            depth,
            depth=depth,
            processes=200 if depth > 1 else 1,
            loss=0.01,
            low_half=depth % 2 * 0xA000_0001,
            started=started,
        )
        for depth in range(1, 13)
    ]
    with start_jaeger(tmp_path) as jaeger:
        send = {"traces_endpoint": jaeger.otlp_endpoint}
        with running_bridge(tmp_path / "bridge", **settings(relay, endpoint.grpc_endpoint, **send)) as bridge:
            bridge.wait_until_watching()
            for one in made:
                publish(relay, bridge, one.events())
            assert bridge.stop() == 0
        for one in made:
            eventually(partial(is_shown, jaeger, one), why=f"the tree of {len(one.tree())} processes")
    assert not endpoint.spans()
    assert len(endpoint.log_records()) == sum(len(one.events()) for one in made)


def is_shown(jaeger: Jaeger, one: Session) -> bool:
    """Whether Jaeger has a session, the trace of its container, as it was made up."""
    for trace in jaeger.traces("cart-1", "container") + jaeger.traces("cart-1", "exec session"):
        if any(tag["value"] == one.container for process in trace["processes"].values() for tag in process["tags"]):
            return tree_in_jaeger(trace) == one.tree()
    return False
