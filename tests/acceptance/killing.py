"""Bridges that are killed at random instants under load, one life after the other; what was owed is looked for."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Answer, Hang, Request
from otelbridge.simulator.events import sequences_in
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, changed, duplicates_share_their_uid, held_on_disk, out_of_order
from tests.peers.bridge import FRESH, BridgeProcess, Json, running_bridge

STARTING_SHARE = 0.25
"""So many lives end at an instant of their start, before the bridge says that it is up."""
STARTING_SECONDS = 1.5
RUNNING_SECONDS = 1.0
ANSWER_SECONDS = (0.0, 0.0, 0.1, 0.4)
"""What an answer takes in a life: in the slower ones more is held, and more is in flight, when it ends."""
LIFE_HEADER = "x-life"
"""Says by which life a request was sent."""
REQUESTS_IN_FLIGHT = 2
"""The bridge's `send.concurrency`: so many requests per life may be taken and not yet settled."""


@dataclass(slots=True, kw_only=True)
class Killed:
    """What became of some lives."""

    seed: int
    kills: int = 0
    owed: int = 0
    held_at_kills: int = 0
    """Events that were on disk when a life ended, over all lives."""
    lost: set[int] = field(default_factory=set)
    duplicates: int = 0
    unexcused: list[str] = field(default_factory=list)
    """Duplicates of anything but a request that was in flight when its life ended."""
    out_of_order: int = 0
    """Requests whose events are not in the order in which they were published."""
    changed: int = 0
    """Records that are not what the mapping makes of what was published."""
    duplicates_share_their_uid: bool = True
    balanced: bool = False
    peak_memory_bytes: int = 0

    @property
    def passed(self) -> bool:
        """All that the oracle asks for, but for the memory."""
        faults = self.lost or self.unexcused or self.out_of_order or self.changed
        return self.balanced and self.duplicates_share_their_uid and not faults


class Lives:
    """An endpoint's script that takes everything, and remembers in which life of the bridge which request came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lives: list[list[list[int]]] = []
        self._answer_seconds = 0.0
        self._numbers: set[int] = set()

    def __call__(self, request: Request) -> Answer:
        if request.signal == "logs":
            numbers = sequences_in(request.body)
            with self._lock:
                # Not the latest life: what one had sent when it was killed may be looked at in the next one.
                self._lives[int(request.metadata[LIFE_HEADER])].append(numbers)
                self._numbers.update(numbers)
        return Hang(seconds=self._answer_seconds) if self._answer_seconds else OK

    def begin(self, headers_file: Path, *, answer_seconds: float) -> None:
        """Another life, in which each answer takes so long; its number goes into the headers that it will send."""
        with self._lock:
            headers_file.write_text(f"{LIFE_HEADER}={len(self._lives)}\n", encoding="utf-8")
            self._lives.append([])
            self._answer_seconds = answer_seconds

    def numbers(self) -> set[int]:
        """All numbers taken so far."""
        with self._lock:
            return set(self._numbers)

    def judge(self, figures: Killed) -> None:
        """Counts duplicates, and those that nothing excuses."""
        later: set[int] = set()
        for index in range(len(self._lives) - 1, -1, -1):
            life = self._lives[index]
            within = Counter(number for request in life for number in request)
            figures.unexcused += [f"{number} in life {index}" for number, times in within.items() if times > 1]
            repeated = [request for request in life if not later.isdisjoint(request)]
            figures.duplicates += sum(len(later.intersection(request)) for request in repeated)
            if len(repeated) > REQUESTS_IN_FLIGHT:
                figures.unexcused.append(f"{len(repeated)} requests of life {index} came again")
            later.update(within)


def kill_again_and_again(folder: Path, *, seed: int, kills: int, per_second: float, compare_every: int = 1) -> Killed:
    """So many lives on one queue, each ended by SIGKILL at an instant that the seed decides, and a last one in peace.

    Args:
        folder: for the bridge.
        seed: decides the instants, and what is published.
        kills: lives.
        per_second: events.
        compare_every: one event in so many is compared with what was published.

    Returns:
        The figures. An event is owed when it was on disk, or taken by the endpoint, at the end of any of the lives.
    """
    chance = random.Random(seed)
    figures = Killed(seed=seed)
    lives = Lives()
    owed: set[int] = set()
    never = threading.Event()
    folder.mkdir(parents=True, exist_ok=True)
    headers_file = folder / "headers"
    with Relay() as relay, OtlpEndpoint(answers=lives) as endpoint:
        publisher = Publisher(relay, per_second=per_second, seed=seed, remember=True)
        settings: dict[str, Json] = {
            "feed": {"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.1}},
            "send": {
                "endpoint": endpoint.grpc_endpoint,
                "headers_file": str(headers_file),
                "replay_rate_factor": 0,
                "concurrency": REQUESTS_IN_FLIGHT,
            },
        }
        bridge = BridgeProcess(folder, settings, command=FRESH)
        with publisher.going_on():
            for _ in range(kills):
                starting = chance.random() < STARTING_SHARE
                delay = chance.uniform(0, STARTING_SECONDS if starting else RUNNING_SECONDS)
                lives.begin(headers_file, answer_seconds=chance.choice(ANSWER_SECONDS))
                bridge.process.launch()
                try:
                    if not starting:
                        bridge.process.wait_until_up()
                    never.wait(delay)
                    figures.peak_memory_bytes = max(figures.peak_memory_bytes, bridge.process.peak_memory_bytes())
                finally:
                    bridge.process.kill()
                figures.kills += 1
                held = held_on_disk(bridge.queue_directory)
                figures.held_at_kills += len(held)
                owed |= held | lives.numbers()
        lives.begin(headers_file, answer_seconds=0)
        with running_bridge(folder, **settings) as last:
            last.wait_until_watching()
            last.wait_until_delivered(within_seconds=60)
            figures.balanced = last.balances()
            assert last.stop() == 0
        figures.owed = len(owed)
        figures.lost = owed - lives.numbers()
        lives.judge(figures)
        figures.out_of_order = out_of_order(endpoint.inbox.requests("logs"))
        records = endpoint.log_records()
        figures.duplicates_share_their_uid = duplicates_share_their_uid(records)
        figures.changed = len(changed(publisher, records, every=compare_every))
    return figures
