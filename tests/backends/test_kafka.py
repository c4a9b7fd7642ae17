"""A genuine Kafka between two genuine Collectors carries 100,000 records of three nodes though its broker is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, Taken
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.collector import start_pipeline
from tests.peers.kafka import start_kafka
from tests.peers.presence import ROOT
from tests.peers.process import free_ports
from tests.waiting import eventually

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

PIPELINES = ROOT / "k8s" / "collector"
TOPIC = "kubearmor"
PARTITIONS = 8
NODES = ("node-1", "node-2", "node-3")
RECORDS = 100_000
PER_SECOND = 1_200
ARRIVAL_SECONDS = 240


class Node(NamedTuple):
    relay: Relay
    bridge: BridgeProcess
    publisher: Publisher


@contextmanager
def nodes(folder: Path, gateway: str) -> Iterator[list[Node]]:
    """A relay and a bridge for each node; the bridges say which one they are of."""
    with ExitStack() as stack:
        made = []
        for place, name in enumerate(NODES):
            relay = stack.enter_context(Relay())
            send = {"endpoint": gateway, "headers": {"x-otelbridge-node": name}, "retry_max_seconds": 1}
            bridge = stack.enter_context(
                running_bridge(
                    folder / name, feed={"endpoints": [relay.endpoint]}, send={**send, "replay_rate_factor": 0}
                )
            )
            bridge.wait_until_watching()
            relay.wait_for_subscribers(1)
            made.append(Node(relay, bridge, Publisher(relay, per_second=PER_SECOND, first=place * RECORDS)))
        yield made


def publish(fleet: list[Node], number: int) -> None:
    """So many events by each node, at the same time."""
    with ThreadPoolExecutor(len(fleet)) as threads:
        list(threads.map(lambda node: node.publisher.publish(number), fleet))


def test_all_records_arrive_though_the_broker_is_killed_and_a_nodes_stay_in_one_partition(tmp_path: Path) -> None:
    taken = Taken()
    third = RECORDS // len(NODES) // 3 + 1
    port = free_ports(1)[0]
    with start_kafka(tmp_path) as kafka, OtlpEndpoint(http_port=None, keep=False) as endpoint:
        endpoint.answers = taken
        kafka.create_topic(TOPIC, partitions=PARTITIONS)
        brokers = {"KAFKA_BROKERS": kafka.broker, "KAFKA_TOPIC": TOPIC}
        behind = {**brokers, "OTEL_GATEWAY": endpoint.grpc_endpoint.removeprefix("http://")}
        with (
            nodes(tmp_path, f"http://127.0.0.1:{port}") as fleet,
            start_pipeline(tmp_path / "out", PIPELINES / "from-kafka.yaml", env=behind),
        ):
            # Nobody takes these yet: what has waited is sent in the biggest requests.
            publish(fleet, third)
            to_kafka = [PIPELINES / "gateway.yaml", PIPELINES / "to-kafka.yaml"]
            with start_pipeline(tmp_path / "in", *to_kafka, env=brokers, grpc_port=port):
                eventually(lambda: len(taken.numbers()) > third, within_seconds=60, why="records come out of Kafka")
                kafka.process.kill()
                publish(fleet, third)
                kafka.process.start()
                publish(fleet, third)
                assert sum(node.relay.dropped for node in fleet) == 0
                published = {number for node in fleet for number, _ in node.publisher.published}
                assert len(published) >= RECORDS
                eventually(lambda: taken.numbers() >= published, within_seconds=ARRIVAL_SECONDS, why="all arrive")
                assert all(node.bridge.balances() for node in fleet)
        messages = kafka.messages(TOPIC)
    assert {key for _, key in messages} == set(NODES)
    assert max(Counter(key for _, key in messages).values()) == 1, f"one node's records in one partition: {messages}"
