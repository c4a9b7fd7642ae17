"""Events published by a simulated KubeArmor arrive at an OTLP endpoint through a bridge that runs as users run it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, duplicates_share_their_uid, gap_records, held_on_disk, numbers_of
from tests.peers.bridge import Json, running_bridge
from tests.waiting import eventually

UPSTREAM = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)


def send_to(endpoint: OtlpEndpoint, protocol: str = "grpc") -> Json:
    url = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint + "/v1/logs"
    return {"protocol": protocol, "endpoint": url}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_every_event_of_every_stream_arrives_once_and_the_ledger_balances(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint, protocol)) as bridge:
        bridge.wait_until_watching()
        relay.wait_for_subscribers(1)
        publisher = Publisher(relay, per_second=3000, streams=UPSTREAM)
        publisher.publish(3000)
        records = endpoint.wait_for_records(3000, within=20)

        assert relay.dropped == 0
        assert numbers_of(records) == Counter(range(3000))
        assert duplicates_share_their_uid(records)
        sent = Counter(stream for _, stream in publisher.published)
        for stream in UPSTREAM:
            eventually(lambda s=stream: bridge.balance(s)["delivered"] == sent[s], why=f"{stream} are settled")  # type: ignore[misc]
            assert bridge.balance(stream)["received"] == sent[stream]
            assert bridge.balance(stream)["residue"] == 0
        assert bridge.stop() == 0


def test_sigterm_puts_all_that_was_received_on_disk_and_the_next_start_delivers_it(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    settings: dict[str, Json] = {
        "bridge": {"drain_seconds": 1},
        "feed": {"endpoints": [relay.endpoint]},
        "send": {**send_to(endpoint), "timeout_seconds": 1},
    }
    endpoint.stop()
    with running_bridge(tmp_path, **settings) as bridge:
        bridge.wait_until_watching()
        Publisher(relay, per_second=2000).publish(1000)
        relay.wait_until_sent()
        eventually(
            lambda: sum(bridge.balance(stream)["received"] for stream in ("alerts", "logs")) == 1000,
            why="all are received",
        )
        assert bridge.stop() == 0
    assert held_on_disk(tmp_path / "queue") == set(range(1000))

    endpoint.start()
    with running_bridge(tmp_path, **settings) as bridge:
        endpoint.wait_for_records(1000, within=20)
        eventually(lambda: bridge.balance("logs")["held"] == bridge.balance("alerts")["held"] == 0)
        assert bridge.balance("logs")["residue"] == bridge.balance("alerts")["residue"] == 0
        assert bridge.stop() == 0
    assert numbers_of(endpoint.log_records()) == Counter(range(1000))


def test_a_collector_that_is_away_for_a_while_costs_nothing(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    send = {**send_to(endpoint), "timeout_seconds": 2, "retry_max_seconds": 1, "replay_rate_factor": 0}
    with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=3000)
        publisher.publish(1000)
        endpoint.wait_for_records(1000, within=20)
        bridge.wait_until_delivered()  # what the endpoint has taken and not answered yet would come again
        endpoint.stop()
        publisher.publish(6000)
        eventually(lambda: sum(bridge.status()["queue"]["streams"].values()) >= 5000, why="the outage fills the queue")
        endpoint.start()
        records = endpoint.wait_for_records(7000, within=30)
        assert numbers_of(records) == Counter(range(7000))
        eventually(lambda: sum(bridge.status()["queue"]["streams"].values()) == 0, why="the queue is empty again")
        assert bridge.status()["ledger"]["balanced"]


def test_a_relay_that_dies_and_comes_back_is_subscribed_again_and_the_gap_is_recorded(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint)) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1000)
        publisher.publish(200)
        endpoint.wait_for_records(200, within=20)
        relay.kill()
        eventually(lambda: bridge.status()["subscriptions"][0]["state"] != "watching", why="the loss is noticed")
        relay.start()
        bridge.wait_until_watching(within_seconds=30)
        publisher.publish(200)
        records = endpoint.wait_for_records(403, within=20)  # three streams, three gap records

    assert numbers_of(records) == Counter(range(400))
    gaps = gap_records(records)
    assert {gap["otelbridge.gap.stream"] for gap in gaps} == {"alerts", "logs", "messages"}
    assert {gap["otelbridge.gap.cause"] for gap in gaps} == {"disconnect"}
