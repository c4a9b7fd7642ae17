"""Bridges that are killed at random instants under load, one life after the other; what was owed is looked for."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.relay import Relay
from tests.oracle import Publisher, Taken, duplicates_share_their_uid, held_on_disk, numbers_of
from tests.peers.bridge import BridgeProcess, Json, running_bridge

STARTING_SHARE = 0.25
"""So many lives end at an instant of their start, before the bridge says that it is up."""
STARTING_SECONDS = 1.5
RUNNING_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Killed:
    """What became of some lives."""

    seed: int
    kills: int = 0
    owed: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    duplicates: int = 0
    duplicates_share_their_uid: bool = True
    balanced: bool = False
    peak_memory_bytes: int = 0


def kill_again_and_again(folder: Path, *, seed: int, kills: int, per_second: float) -> Killed:
    """So many lives on one queue, each ended by SIGKILL at an instant that the seed decides, and a last one in peace.

    Returns:
        The figures. An event is owed when it was on disk, or taken by the endpoint, at the end of any of the lives.
    """
    chance = random.Random(seed)
    figures = Killed(seed=seed)
    taken = Taken()
    never = threading.Event()
    folder.mkdir(parents=True, exist_ok=True)
    with Relay() as relay, OtlpEndpoint(answers=taken) as endpoint:
        publisher = Publisher(relay, per_second=per_second, seed=seed)
        settings: dict[str, Json] = {
            "feed": {"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.1}},
            "send": {"endpoint": endpoint.grpc_endpoint, "replay_rate_factor": 0},
        }
        bridge = BridgeProcess(folder, settings)
        with publisher.going_on():
            for _ in range(kills):
                starting = chance.random() < STARTING_SHARE
                delay = chance.uniform(0, STARTING_SECONDS if starting else RUNNING_SECONDS)
                bridge.process.launch()
                try:
                    if not starting:
                        bridge.process.wait_until_up()
                    never.wait(delay)
                    figures.peak_memory_bytes = max(figures.peak_memory_bytes, bridge.process.peak_memory_bytes())
                finally:
                    bridge.process.kill()
                figures.kills += 1
                figures.owed |= held_on_disk(bridge.queue_directory) | taken.numbers()
        with running_bridge(folder, **settings) as last:
            last.wait_until_watching()
            last.wait_until_delivered(within_seconds=60)
            figures.balanced = last.balances()
            assert last.stop() == 0
        figures.lost = figures.owed - taken.numbers()
        records = endpoint.log_records()
        figures.duplicates = sum(numbers_of(records).values()) - len(taken.numbers())
        figures.duplicates_share_their_uid = duplicates_share_their_uid(records)
    return figures
