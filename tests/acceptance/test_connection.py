"""What the mission is about: the network blinks, nodes roll, relays restart, and events flow again by themselves."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.acceptance.blinding import Blinded, Cut, Freeze, blind
from tests.acceptance.fleet import fleet
from tests.acceptance.seeds import fresh_seed
from tests.oracle import gap_records, numbers_of
from tests.peers.bridge import COMMAND, running_bridge
from tests.peers.netns import SERVER_ADDRESS, inside, network_pair
from tests.simulated import SimulatorProcess
from tests.waiting import eventually

NODES = 3
EVENTS_PER_SECOND = 100
QUICK_RETRY = {"initial_seconds": 0.1, "max_seconds": 1}
QUICK_HEARTBEAT = {"interval_seconds": 1, "timeout_seconds": 1}
SLACK_SECONDS = 1.0


def test_through_blink_restart_resets_and_a_rolling_update_no_event_is_lost_without_a_record(tmp_path: Path) -> None:
    with (
        fleet(NODES, per_second=EVENTS_PER_SECOND, chance=random.Random(fresh_seed())) as nodes,
        OtlpEndpoint() as endpoint,
        running_bridge(
            tmp_path,
            feed={
                "endpoints": nodes.endpoints,
                "retry": QUICK_RETRY,
                "heartbeat": {"interval_seconds": 6},
                "streams": ["alerts", "logs"],
            },
            send={"endpoint": endpoint.grpc_endpoint},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        with ExitStack() as publishing:
            for node in nodes.nodes:
                publishing.enter_context(node.publisher.going_on())
            nodes.blink(seconds=3)
            assert all(one["attempts"] == 1 for one in bridge.status()["subscriptions"]), "a blink breaks nothing"
            nodes.planned_restart(nodes.nodes[0], away_seconds=0.5)
            resets = nodes.jitter(turns=30, turn_seconds=0.1, share=0.05)
            nodes.rolling_update(away_seconds=0.3)
            bridge.wait_until_watching(within_seconds=20)
        sentinels = {node.publisher.first + len(node.publisher.published) for node in nodes.nodes}
        for node in nodes.nodes:
            node.publisher.publish(1)
        eventually(lambda: sentinels <= set(numbers_of(endpoint.log_records())), why="events flow again on every node")
        eventually(lambda: not nodes.silently_lost(endpoint.log_records()), why="each blind stretch has its record")
        bridge.wait_until_delivered()
        records = endpoint.log_records()
        assert max(numbers_of(records).values()) == 1
        gaps = gap_records(records)
        assert {gap["otelbridge.gap.upstream"] for gap in gaps} == set(nodes.endpoints)
        assert {gap["otelbridge.gap.cause"] for gap in gaps} == {"disconnect"}
        assert len(gaps) >= 2 * (NODES + 1), f"two streams, {NODES} + 1 restarts, {resets} resets"
        assert bridge.stop() == 0


def check(blinded: Blinded, *, within_seconds: float) -> None:
    assert blinded.noticed_seconds <= within_seconds
    assert blinded.gap_streams == {Stream.ALERTS, Stream.LOGS, Stream.MESSAGES}
    assert blinded.gap_start_off_by_seconds <= 1
    assert blinded.recovered_seconds <= blinded.longest_wait_seconds + SLACK_SECONDS
    assert blinded.events_flow_again
    assert blinded.balanced


def test_a_frozen_upstream_is_noticed_recorded_and_left_behind(tmp_path: Path) -> None:
    with Freeze() as upstream:
        check(blind(tmp_path, upstream, feed={"heartbeat": QUICK_HEARTBEAT, "retry": QUICK_RETRY}), within_seconds=3.2)


@pytest.mark.netns
def test_a_network_cut_silently_is_noticed_recorded_and_left_behind(tmp_path: Path) -> None:
    with Cut() as upstream:
        check(blind(tmp_path, upstream, feed={"heartbeat": QUICK_HEARTBEAT, "retry": QUICK_RETRY}), within_seconds=3.2)


DEAD_ADDRESS = "203.0.113.9"
"""Of a range set aside for documentation. The server's side is its gateway, and forwards nothing: a black hole."""
NO_ROUTE_ADDRESS = "2001:db8::9"
PRIVATE_HOSTS = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
CONNECTED_SECONDS = 5.0


@pytest.mark.netns
@pytest.mark.parametrize(
    "addresses",
    [
        (DEAD_ADDRESS, SERVER_ADDRESS),
        (SERVER_ADDRESS, DEAD_ADDRESS),
        (NO_ROUTE_ADDRESS, SERVER_ADDRESS),
        (DEAD_ADDRESS, NO_ROUTE_ADDRESS, SERVER_ADDRESS),
    ],
    ids=" ".join,
)
def test_of_a_name_with_several_addresses_the_living_one_is_found(addresses: tuple[str, ...], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    lines = [f"{SERVER_ADDRESS} machine.example", *(f"{address} relay.example" for address in addresses)]
    hosts.write_text("\n".join([*lines, ""]))
    with network_pair() as pair, SimulatorProcess(("--host", SERVER_ADDRESS), prefix=pair.on_server) as simulator:
        pair.route(f"{DEAD_ADDRESS}/32")
        endpoint = simulator.endpoint.replace(SERVER_ADDRESS, "relay.example")
        command = (*PRIVATE_HOSTS, str(hosts), str(COMMAND))
        with inside(pair.client), running_bridge(tmp_path, command, feed={"endpoints": [endpoint]}) as bridge:
            bridge.wait_until_watching(within_seconds=CONNECTED_SECONDS)
            assert bridge.status()["subscriptions"][0]["attempts"] == 1
