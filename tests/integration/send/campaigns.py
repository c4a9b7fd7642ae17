"""Load against an endpoint that fails, refuses or is slow by a rule: what was delivered, set aside and copied."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.checkpoint import Account
from otelbridge.queue.model import Batch
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Answer, Hang, Request, Status
from tests.integration.send.conftest import Road
from tests.integration.send.endpoint_process import EndpointProcess
from tests.records import batch_of, bodies_of, count_records, request_of

SOURCES = 10
FAILURE = Status(code=grpc.StatusCode.INTERNAL, details="overloaded")
REFUSAL = Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="entry too far behind")


@dataclass
class Load:
    """Puts records at a rate, a batch every 20 ms, on a thread of its own; the names of bad ones begin with `bad`."""

    road: Road
    per_second: float
    seconds: float
    bad_share: float = 0.0
    one_bad_source: bool = True
    names: list[str] = field(default_factory=list)

    def run(self) -> None:
        began, put = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < self.seconds:
            due = int(elapsed * self.per_second)
            if due > put:
                self.road.put(self._batch(range(put, due)))
                put = due
            threading.Event().wait(0.02)  # the pace of the load itself

    def _batch(self, numbers: range) -> Batch:
        by_node: dict[str, list[str]] = {}
        for n in numbers:
            chance = random.Random(n).random()
            bad = chance < self.bad_share
            node = "node-bad" if bad and self.one_bad_source else f"node-{n % SOURCES}"
            by_node.setdefault(node, []).append(f"{'bad' if bad else 'good'}-{n}")
        self.names += [name for names in by_node.values() for name in names]
        return Batch(
            stream=batch_of("x").stream,
            request=b"".join(request_of(*names, node=node, padding=200) for node, names in by_node.items()),
            records=len(numbers),
            oldest_received_unix_nano=time.time_ns(),
        )


@dataclass
class Outcome:
    """What came of it."""

    owed: int
    arrived: Counter[str]
    set_aside: Counter[str]
    held: int

    @property
    def copies(self) -> int:
        return sum(self.arrived.values()) - len(self.arrived)


def arrived_at(endpoint: OtlpEndpoint | EndpointProcess) -> list[str]:
    """The bodies of the records that it took."""
    return endpoint.bodies() if isinstance(endpoint, EndpointProcess) else bodies_of(endpoint.log_records())


def outcome_of(road: Road, endpoint: OtlpEndpoint | EndpointProcess, names: list[str]) -> Outcome:
    dead = Counter(
        record.body.string_value
        for letter in road.queue.dead_letters()
        for per_resource in ExportLogsServiceRequest.FromString(letter.request).resource_logs
        for per_scope in per_resource.scope_logs
        for record in per_scope.log_records
    )
    arrived = Counter(arrived_at(endpoint))
    assert not set(names) - set(arrived) - set(dead) or road.held()
    assert road.balanced()
    assert road.total(Account.REJECTED) == sum(dead.values())
    return Outcome(len(names), arrived, dead, road.held())


def failing_by_chance(
    share: float, *, latency_seconds: float, seed: int, failure: Answer = FAILURE
) -> Callable[[Request], Answer]:
    """So many of all answers are failures, whatever the request holds."""
    chance, lock = random.Random(seed), threading.Lock()

    def answer(_: Request) -> Answer:
        time.sleep(latency_seconds)  # what the endpoint needs to answer
        with lock:
            return failure if chance.random() < share else OK

    return answer


def refusing_bad_records(*, latency_seconds: float, answer: Answer = REFUSAL) -> Callable[[Request], Answer]:
    """A request that holds a bad record is refused as a whole."""

    def judge(request: Request) -> Answer:
        time.sleep(latency_seconds)
        return answer if b"bad-" in request.body else OK

    return judge


def growing_with_size(seconds_per_record: float) -> Callable[[Request], Answer]:
    """Takes its time for each record, and stores them even when nobody waits for the answer any more."""
    return lambda request: Hang(seconds=seconds_per_record * count_records(request.body))


SHIPPED: dict[str, object] = {
    "timeout_seconds": 10,
    "retry_initial_seconds": 1,
    "retry_max_seconds": 60,
    "hold_initial_seconds": 30,
    "hold_max_seconds": 300,
}
"""As an operator has them who sets nothing."""


def share_in_time(endpoint: OtlpEndpoint | EndpointProcess, load: Load) -> float:
    """Of the good records of a load, those that have arrived by now."""
    good = sum(name.startswith("good") for name in load.names)
    return sum(body.startswith("good") for body in arrived_at(endpoint)) / good


def load_beside(
    road: Road, endpoint: OtlpEndpoint | EndpointProcess, load: Load, *, protocol: str, drain_seconds: float
) -> dict[str, object]:
    """Runs a load to its end and waits for the backlog; the figures."""
    workers = road.start(endpoint, protocol=protocol, **SHIPPED)
    cpu_before = time.process_time()
    load.run()
    in_time, cpu = share_in_time(endpoint, load), time.process_time() - cpu_before
    deadline = time.monotonic() + drain_seconds
    while road.held() and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    outcome = outcome_of(road, endpoint, load.names)
    return {
        "owed": outcome.owed,
        "good_in_time": round(in_time, 3),
        "cpu_share": round(cpu / load.seconds, 2),
        "held": outcome.held,
        "set_aside": len(outcome.set_aside),
        "wrongly_set_aside": sum(not name.startswith("bad") for name in outcome.set_aside),
        "bad": sum(name.startswith("bad") for name in load.names),
        "copies": outcome.copies,
        "requests": workers.status().counts.requests,
        "state": str(workers.status().breaker.state),
    }


def capacity(
    road: Road,
    endpoint: OtlpEndpoint,
    *,
    share: float,
    seconds: float,
    protocol: str,
    failure: Answer = FAILURE,
    warm_up_seconds: float = 0,
) -> float:
    """Records a second out of a backlog that does not end, through an endpoint that fails so often by chance."""
    endpoint.answers = failing_by_chance(share, latency_seconds=0.03, seed=5, failure=failure)
    put = [
        batch_of(*[f"good-{n}-{k}" for k in range(10)])  # a fifth of what a request may hold here
        for n in range(int((seconds + warm_up_seconds) * 250))
    ]
    road.put(*put)
    road.start(
        endpoint,
        protocol=protocol,
        **(SHIPPED | {"max_request_records": 50, "concurrency": 1, "replay_rate_factor": 0}),
    )
    threading.Event().wait(warm_up_seconds)
    began, before = time.monotonic(), endpoint.counts().records
    threading.Event().wait(seconds)
    return (endpoint.counts().records - before) / (time.monotonic() - began)
