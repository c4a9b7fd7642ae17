"""`send.ordered` between an endpoint that breaks calls, a line that is cut, and a bridge that is killed, by a seed."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Answer, Hang, LoseAnswer, Request, Reset
from otelbridge.simulator.events import sequences_in
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, held_on_disk
from tests.peers.bridge import FRESH, BridgeProcess, Json, running_bridge

LIFE_SECONDS = 3.0
EVENTS_PER_SECOND = 1_500
BREAKING = (Reset(), LoseAnswer())
DELIVER_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What became of some lives."""

    seed: int
    protocol: str
    kills: int
    owed: int
    broken: int
    """Calls that the endpoint broke, before or after it had stored the records."""
    cuts: int
    """Connections that were reset in the middle of whatever was under way."""
    doubles: int
    lost: list[int]
    overtaken: list[tuple[str, int, int]]
    """Stream, and the numbers of two records of one resource of which the later one came first."""


@dataclass(slots=True)
class Breaking:
    """An endpoint's script that breaks a share of the calls, and takes its time over some others."""

    chance: random.Random
    share: float
    broken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, _: Request) -> Answer:
        with self._lock:
            if self.chance.random() < self.share:
                self.broken += 1
                return self.chance.choice(BREAKING)
            return Hang(seconds=self.chance.uniform(0, 0.05)) if self.chance.random() < 0.5 else OK


@contextmanager
def cutting(proxy: TcpProxy, chance: random.Random, every_seconds: float) -> Iterator[list[int]]:
    """Resets connections now and then; yields how many, by the time."""
    done, cuts = threading.Event(), [0]

    def run() -> None:
        while not done.wait(chance.expovariate(1 / every_seconds)):
            cuts[0] += proxy.cut()

    thread = threading.Thread(target=run, name="cutter")
    thread.start()
    try:
        yield cuts
    finally:
        done.set()
        thread.join()


def deliver_in_order(folder: Path, seed: int) -> Ordered:
    """Lives of an ordered bridge, each but the last ended by SIGKILL, and what came of their records."""
    chance = random.Random(seed)
    protocol = ("grpc", "http/protobuf")[seed % 2]
    kills = chance.choice((0, 1, 3))
    script = Breaking(random.Random(seed), share=chance.choice((0.05, 0.3, 0.6)))
    folder.mkdir(parents=True, exist_ok=True)
    owed: set[int] = set()
    with Relay() as relay, OtlpEndpoint(answers=script) as endpoint:
        address = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint
        with TcpProxy(address.partition("//")[2]) as proxy:
            path = "" if protocol == "grpc" else "/v1/logs"
            settings: dict[str, Json] = {
                "feed": {"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.1}},
                "send": {
                    "protocol": protocol,
                    "endpoint": f"http://{proxy.endpoint}{path}",
                    "ordered": True,
                    "concurrency": 4,
                    "max_request_records": chance.choice((50, 500, 8192)),
                    "replay_rate_factor": 0,
                    "retry_initial_seconds": 0.05,
                    "retry_max_seconds": 0.2,
                },
            }
            publisher = Publisher(relay, per_second=EVENTS_PER_SECOND, seed=seed)
            with cutting(proxy, chance, every_seconds=chance.choice((0.05, 0.3, 1.0))) as cuts:
                bridge = BridgeProcess(folder, settings, command=FRESH)
                with publisher.going_on():
                    for _ in range(kills):
                        bridge.process.launch()
                        try:
                            bridge.process.wait_until_up()
                            bridge.wait_until_watching()
                            threading.Event().wait(chance.uniform(0.1, LIFE_SECONDS))
                        finally:
                            bridge.process.kill()
                        owed |= held_on_disk(bridge.queue_directory) | set(arrivals(endpoint, publisher))
                with running_bridge(folder, **settings) as last:
                    last.wait_until_watching()
                    first = len(publisher.published)
                    publisher.publish(int(LIFE_SECONDS * EVENTS_PER_SECOND))
                    relay.wait_until_sent()
                    assert relay.dropped == 0
                    owed |= set(range(first, len(publisher.published)))
                    last.wait_until_delivered(within_seconds=DELIVER_SECONDS)
                    assert last.stop() == 0
        taken = [number for request in endpoint.inbox.requests("logs") for number in sequences_in(request.body)]
        return Ordered(
            seed=seed,
            protocol=protocol,
            kills=kills,
            owed=len(owed),
            broken=script.broken,
            cuts=cuts[0],
            doubles=len(taken) - len(set(taken)),
            lost=sorted(owed - set(taken)),
            overtaken=overtaken(endpoint, publisher),
        )


def arrivals(endpoint: OtlpEndpoint, publisher: Publisher) -> dict[int, tuple[Stream, bytes]]:
    """Each number taken so far, in the order in which it came first, with its stream and its resource."""
    stream_of = dict(publisher.published)
    came: dict[int, tuple[Stream, bytes]] = {}
    for request in endpoint.inbox.requests("logs"):
        for per_resource in ExportLogsServiceRequest.FromString(request.body).resource_logs:
            resource = per_resource.resource.SerializeToString(deterministic=True)
            for number in sequences_in(per_resource.SerializeToString()):
                came.setdefault(number, (stream_of[number], resource))
    return came


def overtaken(endpoint: OtlpEndpoint, publisher: Publisher) -> list[tuple[str, int, int]]:
    """Where the first arrivals of a stream and resource are not in the order of publishing."""
    latest: dict[tuple[Stream, bytes], int] = {}
    found = []
    for number, of in arrivals(endpoint, publisher).items():
        if number < latest.get(of, -1):
            found.append((of[0].value, number, latest[of]))
        latest[of] = max(number, latest.get(of, -1))
    return found
