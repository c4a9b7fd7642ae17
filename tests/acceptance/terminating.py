"""SIGTERM in each phase of a bridge's life: how it ended, and whether what it owed is still there."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Answer, Hang, Request
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, Taken, held_on_disk, holes, received_by_the_ledger
from tests.peers.bridge import FRESH, BridgeProcess
from tests.waiting import eventually

GRACE_SECONDS = 2.0
"""The bridge's own `drain_seconds`; Kubernetes would wait longer."""
CLOSE_SECONDS = 5.0
"""What ending may take beyond the grace: the queue, the status server, the telemetry."""
SPREAD_SECONDS = 0.3
LAUNCH_SECONDS = 1.5
EVENTS_PER_SECOND = 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a life ended."""

    phase: str
    code: int
    heard: bool
    """It had its handler when the signal was sent. Before that the kernel ends it, and it has received nothing."""
    subscribed: bool
    """The upstream had been asked for events by the end."""
    received: int
    """By its ledger."""
    lost: set[int]
    """Received, and neither delivered nor on disk."""
    accounted: bool
    """As many different events were delivered or are on disk as the ledger says were received."""
    seconds: float
    """From the signal to the end."""

    @property
    def passed(self) -> bool:
        """Ended as it should, with nothing lost."""
        peaceful = self.code == 0
        unborn = self.code == -signal.SIGTERM and not self.heard and not self.subscribed and not self.received
        return (peaceful or unborn) and not self.lost and self.accounted


class Stage:
    """A relay, an endpoint, and a bridge between them, in one folder."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.answer: Answer = OK
        self.taken = Taken(self._script)
        self.relay = Relay()
        self.endpoint = OtlpEndpoint(answers=self.taken, keep=False)
        self.relay.start()
        self.publisher = Publisher(self.relay, per_second=EVENTS_PER_SECOND)
        self.bridge = BridgeProcess(
            folder,
            {
                "bridge": {"drain_seconds": GRACE_SECONDS},
                "feed": {"endpoints": [self.relay.endpoint], "retry": {"initial_seconds": 0.2}},
                "send": {"endpoint": self.endpoint.grpc_endpoint, "replay_rate_factor": 0, "timeout_seconds": 1},
            },
            command=FRESH,
        )

    def _script(self, request: Request) -> Answer:
        return self.answer if request.signal == "logs" else OK

    def received(self) -> int:
        return sum(self.bridge.balance(stream)["received"] for stream in ("alerts", "logs"))

    def close(self) -> None:
        self.bridge.process.kill()
        self.endpoint.stop()
        self.relay.stop()


def launching(stage: Stage) -> None:
    """At any instant of its first second and a half, whether it hears signals or not."""
    stage.bridge.process.launch()
    threading.Event().wait(stage.chance.uniform(0, LAUNCH_SECONDS))


def starting(stage: Stage) -> None:
    """As soon as it can hear a signal at all: before that, the kernel ends it, and it has touched nothing yet."""
    stage.bridge.process.launch()
    eventually(lambda: stage.bridge.process.catches(signal.SIGTERM), within_seconds=30, why="it hears SIGTERM")


def connecting(stage: Stage) -> None:
    stage.relay.stop()
    stage.bridge.process.start()


def watching_under_load(stage: Stage) -> None:
    stage.bridge.process.start()
    stage.bridge.wait_until_watching()
    eventually(lambda: stage.received() > 0, within_seconds=20, why="events come in")


def endpoint_down(stage: Stage) -> None:
    stage.endpoint.stop()
    watching_under_load(stage)


def endpoint_frozen(stage: Stage) -> None:
    stage.answer = Hang(seconds=60)
    watching_under_load(stage)


PHASES: Mapping[str, Callable[[Stage], None]] = {
    "launching": launching,
    "starting": starting,
    "connecting": connecting,
    "watching under load": watching_under_load,
    "endpoint down": endpoint_down,
    "endpoint frozen": endpoint_frozen,
}


def terminate_in(phase: str, folder: Path, chance: random.Random) -> Ended:
    """Brings a new bridge into the phase, waits a moment by chance, and sends SIGTERM."""
    folder.mkdir(parents=True)
    stage = Stage(folder, chance)
    try:
        with stage.publisher.going_on():
            PHASES[phase](stage)
            if phase not in {"launching", "starting"}:
                threading.Event().wait(chance.uniform(0, SPREAD_SECONDS))
            heard = stage.bridge.process.catches(signal.SIGTERM)
            told = time.monotonic()
            stage.bridge.process.send(signal.SIGTERM)
            code = stage.bridge.wait(GRACE_SECONDS + CLOSE_SECONDS)
            seconds = time.monotonic() - told
        stage.endpoint.stop()
        there = held_on_disk(stage.bridge.queue_directory) | stage.taken.numbers()
        received = received_by_the_ledger(stage.bridge.queue_directory)
        assert stage.relay.dropped == 0, "the relay itself lost some: nothing can be said about the bridge"
        return Ended(
            phase=phase,
            code=code,
            heard=heard,
            subscribed=any(call.method.startswith("Watch") for call in stage.relay.calls),
            received=received,
            lost=holes(stage.publisher, there),
            accounted=len(there) == received,
            seconds=round(seconds, 2),
        )
    finally:
        stage.close()
