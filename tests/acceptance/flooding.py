"""A flood of a few kinds of alerts with rare ones strewn in, a bridge that counts it and is killed in the middle."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes, logs_in
from otelbridge.simulator.endpoint_answers import Request
from otelbridge.simulator.events import stamp_sequence, stamp_time
from otelbridge.simulator.generator import flood
from otelbridge.simulator.upstream import Relay
from tests.oracle import numbers_of, uid_of
from tests.peers.bridge import COMMAND, BridgeProcess, running_bridge
from tests.waiting import eventually

BURST = 20
SUMMARY = "otelbridge.flood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooded:
    """What became of a flood."""

    events: int
    rare: int
    rare_verbatim: int
    """Of the rare ones, each of which is to come once, at once and whole."""
    slowest_rare_seconds: float
    """From its publication to its arrival at the endpoint."""
    verbatim: int
    counted: int
    """By the records of floods."""
    records: int
    """At the endpoint, of the bridge's own too."""
    summaries: list[dict[str, Any]]
    balance: dict[str, int]
    replayed: Counter[int]
    """How often each flooded event has come by `queue replay --kind`."""
    ids_agree: bool
    """No two of the events at the endpoint share a `log.record.uid`."""


class Scene:
    """A relay that floods, and who listens.

    Args:
        relay: it.
        folder: of the bridge.
        kinds: of the flood.
        rare_every: so many events one is of a kind of its own.
        per_second: events.
    """

    def __init__(self, relay: Relay, folder: Path, *, kinds: int, rare_every: int, per_second: float) -> None:
        self.relay, self.folder, self.per_second = relay, folder, per_second
        self._alerts = flood(1, kinds, rare_every=rare_every)
        self.published = 0
        self.rare: set[int] = set()
        self.arrived: list[tuple[int, Request]] = []
        """With the Unix time in nanoseconds."""
        self.endpoint = OtlpEndpoint(show=lambda request: self.arrived.append((time.time_ns(), request)))

    def settings(self) -> dict[str, Any]:
        return {
            "feed": {"endpoints": [self.relay.endpoint]},
            "gate": {"flood": {"rate_per_second": 0.1, "burst": BURST}},
            "queue": {"retain_seconds": 3600},
            "send": {"endpoint": self.endpoint.grpc_endpoint},
        }

    def publish(self, events: int) -> None:
        """At the rate, as far as the bridge reads; events have their numbers, and their times."""
        began = time.monotonic()
        for number in range(events):
            ahead = number / self.per_second - (time.monotonic() - began)
            if ahead > 0.005:
                time.sleep(ahead)
            eventually(lambda: self.relay.room(Stream.ALERTS) > 100, why="the bridge reads")
            stream, message = next(self._alerts)
            stamp_time(message, time.time_ns())
            stamp_sequence(message, self.published)
            if message.PolicyName.startswith("rare"):  # type: ignore[union-attr]
                self.rare.add(self.published)
            self.relay.publish(stream, message)
            self.published += 1

    def wait_until_received(self, bridge: BridgeProcess) -> None:
        eventually(lambda: bridge.balance("alerts")["received"] == self.published, why="all are received")
        bridge.wait_until_delivered()


def run_flood(scene: Scene, events: int) -> Flooded:
    """Half of the flood, `kill -9`, the other half; then a replay of all that was counted."""
    with scene.endpoint:
        return _run(scene, events)


def _run(scene: Scene, events: int) -> Flooded:
    with running_bridge(scene.folder, **scene.settings()) as bridge:
        bridge.wait_until_watching()
        scene.publish(events // 2)
        scene.wait_until_received(bridge)
        bridge.process.send(signal.SIGKILL)
        bridge.process.wait(10)
    with running_bridge(scene.folder, **scene.settings()) as bridge:
        bridge.wait_until_watching()
        scene.publish(events - events // 2)
        scene.wait_until_received(bridge)
        balance = bridge.balance("alerts")
        assert bridge.stop() == 0  # which closes the windows
    return _found(scene, balance)


def _found(scene: Scene, balance: dict[str, int]) -> Flooded:
    summaries: list[dict[str, Any]] = []
    arrived: dict[int, float] = {}
    records = 0
    uids: dict[object, int] = {}
    for unix_nano, request in scene.arrived:
        for log in logs_in(request.body):
            records += 1
            if log.record.event_name == SUMMARY:
                summaries.append(attributes(log.record.attributes))
            for number in numbers_of([log]):
                assert number not in arrived, "each comes once"
                arrived[number] = (unix_nano - log.record.time_unix_nano) / 1e9
                uids[uid_of(log)] = number
    scene.endpoint.inbox.clear()
    replay = ["queue", "replay", "--since", "1h", "--kind", "alerts/flood-*", "--to", scene.endpoint.grpc_endpoint]
    where = ["--queue-directory", str(scene.folder / "queue")]
    subprocess.run([COMMAND, *replay, *where], check=True, timeout=120)
    replayed: Counter[int] = Counter()
    for log in scene.endpoint.log_records():
        for number in numbers_of([log]):
            replayed[number] += 1
            uids[uid_of(log)] = number
    return Flooded(
        events=scene.published,
        rare=len(scene.rare),
        rare_verbatim=len(scene.rare & set(arrived)),
        slowest_rare_seconds=max((arrived[number] for number in scene.rare & set(arrived)), default=0.0),
        verbatim=len(arrived),
        counted=sum(one["otelbridge.flood.events"] for one in summaries),
        records=records,
        summaries=summaries,
        balance=balance,
        replayed=replayed,
        ids_agree=len(uids) == len(set(arrived) | set(replayed)),
    )
