"""Two relays with the same events: each event is delivered once, and what one relay drops is counted as its loss."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.events import stamp_sequence, stamp_time
from otelbridge.simulator.upstream import Relay
from tests.oracle import duplicates_share_their_uid, gap_records, numbers_of
from tests.peers.bridge import COMMAND, BridgeProcess, Json, running_bridge
from tests.roads import SameEvents
from tests.waiting import eventually

WINDOW_SECONDS = 2.0
EVENTS = 2_000


@pytest.fixture
def relays() -> Iterator[list[Relay]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Relay()) for _ in range(2)]


def settings(relays: Sequence[Relay], endpoint: OtlpEndpoint) -> dict[str, Json]:
    return {
        "feed": {
            "endpoints": [relay.endpoint for relay in relays],
            "roads": True,
            "roads_window_seconds": WINDOW_SECONDS,
            "streams": ["alerts", "logs"],
        },
        "send": {"endpoint": endpoint.grpc_endpoint},
        "telemetry": {"disabled": False},
    }


def counted(bridge: BridgeProcess, metric: str) -> int:
    """The sum over all series of a counter."""
    lines = [line for line in bridge.metrics().splitlines() if line.startswith(f"{metric}{{")]
    return sum(int(float(line.split()[-1])) for line in lines)


def road(bridge: BridgeProcess, relay: Relay) -> dict[str, Any]:
    roads: list[dict[str, Any]] = bridge.status()["roads"]["roads"]
    return next(one for one in roads if one["upstream"] == relay.endpoint)


def total(bridge: BridgeProcess, account: str) -> int:
    streams = bridge.status()["ledger"]["streams"]
    return sum(streams[stream][account] for stream in ("alerts", "logs"))


def settled(bridge: BridgeProcess, relays: Sequence[Relay], events: SameEvents) -> None:
    """Returns once all is received, delivered, and nothing waits for a copy any more."""
    expected = len(relays) * events.published - sum(map(len, events.dropped))
    eventually(lambda: total(bridge, "received") == expected, within_seconds=60, why="all is received")
    eventually(lambda: bridge.status()["roads"]["waiting"] == 0, within_seconds=30, why="the window is over")
    bridge.wait_until_delivered()


def watched_for_long(bridge: BridgeProcess, events: SameEvents) -> None:
    """Returns once both roads are known to be watched, and have to answer for what they lack."""
    bridge.wait_until_watching()
    time_up = time.monotonic() + 2 * WINDOW_SECONDS
    while time.monotonic() < time_up:
        events.publish(100, drop=False)


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.0, 0.01), (0.01, 0.05)])
def test_the_union_arrives_once_and_the_metered_loss_is_the_seeded_one(
    shares: tuple[float, float], relays: list[Relay], endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, **settings(relays, endpoint)) as bridge:
        events = SameEvents(relays, shares)
        watched_for_long(bridge, events)
        events.publish(EVENTS)
        settled(bridge, relays, events)
        assert not any(relay.dropped for relay in relays), "nothing but what was seeded"
        numbers = numbers_of(endpoint.log_records())
        assert set(numbers) == set(range(events.published)) - events.dropped_by_all(), "the union is complete"
        assert sum(numbers.values()) == len(numbers), "no duplicates"
        both = len(events.dropped_by_all())
        for relay, dropped in zip(relays, events.dropped, strict=True):
            brought_by_the_other = EVENTS - sum(map(len, events.dropped)) + len(dropped)
            eventually(
                lambda relay=relay, least=brought_by_the_other: road(bridge, relay)["compared"] >= least,  # type: ignore[misc]
                why="all are compared",
            )
            assert road(bridge, relay)["missed"] == len(dropped) - both, "what no road brings nobody knows of"
        ledger = bridge.status()["ledger"]
        assert ledger["balanced"]
        assert total(bridge, "doubled") == events.published - sum(map(len, events.dropped)) + both
        missed = sum(road(bridge, relay)["missed"] for relay in relays)
        assert counted(bridge, "otelbridge_source_missed_total") == missed
        assert counted(bridge, "otelbridge_alerts_total") == bridge.balance("alerts")["delivered"] > 0, "once each"


def test_while_one_road_restarts_nothing_is_missed_and_what_it_lacks_is_unknown(
    relays: list[Relay], endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, **settings(relays, endpoint)) as bridge:
        events = SameEvents(relays, (0.0, 0.0))
        watched_for_long(bridge, events)
        with events.going_on():
            for _ in range(2):
                relays[1].kill()
                eventually(lambda: bridge.status()["subscriptions"][1]["state"] == "waiting", why="it is lost")
                first = bridge.status()["answers"]
                assert any(f"Yes, by {relays[0].endpoint}" in one["sentence"] for one in first)
                relays[1].start()
                bridge.wait_until_watching()
        eventually(lambda: bridge.status()["roads"]["waiting"] == 0, within_seconds=30, why="the window is over")
        bridge.wait_until_delivered()
        numbers = numbers_of(endpoint.log_records())
        assert set(numbers) == set(range(events.published)), "the other road has brought everything"
        assert sum(numbers.values()) == len(numbers), "no duplicates"
        assert road(bridge, relays[1])["missed"] == 0
        assert road(bridge, relays[1])["unknown"] > 0
        gaps = [gap for gap in gap_records(endpoint.log_records()) if gap["otelbridge.gap.upstream"]]
        assert gaps
        for gap in gaps:
            assert gap["otelbridge.gap.upstream"] == relays[1].endpoint
            assert gap["otelbridge.gap.covered_by"] == relays[0].endpoint
            assert "otelbridge.gap.estimated_records" not in gap


def test_a_kill_of_the_bridge_loses_nothing_that_was_received_and_doubles_nothing(
    relays: list[Relay], endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, **settings(relays, endpoint)) as bridge:
        events = SameEvents(relays, (0.01, 0.05))
        bridge.wait_until_watching()
        events.publish(1_000)
        eventually(lambda: bridge.held() == 0, why="all is delivered")
        bridge.process.send(signal.SIGKILL)
        bridge.process.wait(10)
    for relay in relays:
        relay.wait_for_subscribers(0)
    with running_bridge(tmp_path, **settings(relays, endpoint)) as bridge:
        bridge.wait_until_watching()
        events.publish(1_000)
        eventually(lambda: bridge.status()["roads"]["waiting"] == 0, within_seconds=30, why="the window is over")
        bridge.wait_until_delivered()
        for relay, dropped in zip(relays, events.dropped, strict=True):
            assert road(bridge, relay)["missed"] <= len(dropped), "what was in the window when it was killed is unknown"
    records = endpoint.log_records()
    numbers = numbers_of(records)
    assert set(numbers) == set(range(events.published)) - events.dropped_by_all()
    assert sum(numbers.values()) - len(numbers) <= 0.0001 * len(numbers)
    assert duplicates_share_their_uid(records)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["feed.endpoints=a"], "names 1 address"),
        (["feed.endpoints=a,a:32767"], "names 1 address"),
        (["feed.endpoints=" + ",".join(f"n{number}" for number in range(9))], "names 9 addresses"),
        (["feed.endpoints=a,b", "feed.resolve=all"], "feed.resolve is all"),
        (["feed.endpoints=a,b", "feed.roads_window_seconds=0"], "roads_window_seconds"),
    ],
)
def test_what_cannot_be_roads_is_refused_with_a_cure(sets: list[str], says: str) -> None:
    options = [part for one in ["feed.roads=true", *sets] for part in ("--set", one)]
    asked = subprocess.run(
        [COMMAND, "config", "check", *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert asked.returncode == 2
    assert says in asked.stderr + asked.stdout


def test_a_node_beside_the_relay_answers_for_its_own_events_only(
    relays: list[Relay], endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    relay, node = relays
    with running_bridge(tmp_path, **settings(relays, endpoint)) as bridge:
        bridge.wait_until_watching()
        published = 0

        def publish(*, lost_by_relay: bool) -> None:
            nonlocal published
            for name in ("n1", "n2"):
                message = pb.Log(HostName=name, Operation="File", Resource="/x", Type="ContainerLog", PID=published)
                stamp_time(message, time.time_ns())
                stamp_sequence(message, published)
                published += 1
                if name == "n2" or not lost_by_relay:
                    relay.publish(Stream.LOGS, message)
                if name == "n1":
                    node.publish(Stream.LOGS, message)

        began = time.monotonic()
        while time.monotonic() - began < 2 * WINDOW_SECONDS:
            publish(lost_by_relay=False)
            time.sleep(0.01)
        for _ in range(50):
            publish(lost_by_relay=True)
        eventually(lambda: bridge.status()["roads"]["waiting"] == 0, within_seconds=30, why="the window is over")
        bridge.wait_until_delivered()
        assert Counter(range(published)) == numbers_of(endpoint.log_records())
        assert (road(bridge, relay)["missed"], road(bridge, relay)["nodes"]) == (50, {"n1": 50})
        assert (road(bridge, node)["missed"], road(bridge, node)["never_brought"]) == (0, ["n2"])
