"""Every thread of the bridge meets an exception in each of its phases, under load, and goes on: nothing is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from otelbridge.bridge import Bridge
from otelbridge.settings.load import load
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.log import Line
from otelbridge.telemetry.supervisor import FAULTS_TO_FAIL, Pulse
from tests.oracle import Publisher, missing_without_a_gap, numbers_of
from tests.waiting import eventually

EVENTS_PER_SECOND = 200
BACK_SECONDS = 1.0
"""A thread that met a fault takes its next turn within this."""


MESSAGES = "feed.connection:messages"


class InjectedError(Exception):
    """What nobody expects."""


@dataclass
class Fault:
    """Raises at a call of one function, once it is armed, and notes when that thread takes its next turn."""

    function: str
    """`module:Class.method`, below `otelbridge`."""
    thread: str
    """The first word of the name of the thread in which it raises."""
    times: int = 1
    raised_at: list[float] = field(default_factory=list)
    came_back_at: float = 0.0
    _armed: threading.Event = field(default_factory=threading.Event)

    def arm(self) -> None:
        self._armed.set()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, path = self.function.partition(":")
        holder: Any = import_module(f"otelbridge.{module}")
        *owners, name = path.split(".")
        for owner in owners:
            holder = getattr(holder, owner)
        whole, beat = getattr(holder, name), Pulse.beat

        def faulty(*arguments: Any, **named: Any) -> Any:
            self._raise_if_due()
            return whole(*arguments, **named)

        def faulty_generator(*arguments: Any) -> Iterator[Any]:
            for item in whole(*arguments):
                yield item
                self._raise_if_due()

        def noting_beat(pulse: Pulse) -> None:
            if self.raised_at and not self.came_back_at and self._is_this_thread():
                self.came_back_at = time.monotonic()
            beat(pulse)

        monkeypatch.setattr(holder, name, faulty_generator if self.function == MESSAGES else faulty)
        monkeypatch.setattr(Pulse, "beat", noting_beat)

    def _is_this_thread(self) -> bool:
        return threading.current_thread().name.split()[0] == self.thread

    def _raise_if_due(self) -> None:
        if self._armed.is_set() and self._is_this_thread() and len(self.raised_at) < self.times:
            self.raised_at.append(time.monotonic())
            raise InjectedError(self.function)


@dataclass
class Road:
    """A bridge under load, between a relay and an endpoint."""

    bridge: Bridge
    endpoint: OtlpEndpoint
    publisher: Publisher

    def failures(self, thread: str) -> list[Line]:
        """What the log says of a thread's faults."""
        lines = [entry.line for entry in self.bridge.components.telemetry.history.entries()]
        failed = [line for line in lines if line.event == "otelbridge.thread_failed"]
        return [line for line in failed if str(line.fields["thread"]).split()[0] == thread]

    def alive(self) -> bool:
        return self.bridge._livez().ok


QUIET = {"status.port": "0", "telemetry.traces.exporter": "none", "telemetry.metrics.exporter": "none"}


def bridge_of(settings: dict[str, str]) -> Bridge:
    flags = {"--set": [f"{name}={value}" for name, value in {**QUIET, **settings}.items()]}
    return Bridge(load(file=None, environment={}, flags=flags))


@contextmanager
def road(folder: Path, *faults: Fault, patch: pytest.MonkeyPatch) -> Iterator[Road]:
    for fault in faults:
        fault.install(patch)
    with Relay() as relay, OtlpEndpoint(http_port=None) as endpoint:
        sets = {
            "feed.endpoints": relay.endpoint,
            "feed.retry.initial_spread_seconds": "0",
            "feed.retry.initial_seconds": "0.1",
            "feed.heartbeat.interval_seconds": "0.3",
            "feed.heartbeat.timeout_seconds": "0.3",
            "send.endpoint": endpoint.grpc_endpoint,
            "queue.directory": str(folder),
        }
        bridge = bridge_of(sets)
        bridge.start()
        try:
            relay.wait_for_subscribers(1)
            publisher = Publisher(relay, EVENTS_PER_SECOND)
            with publisher.going_on():
                yield Road(bridge, endpoint, publisher)
            last = set({stream: number for number, stream in publisher.published}.values())
            eventually(lambda: last <= set(numbers_of(endpoint.log_records())), why="the last events arrive")
            bridge.drain("the test is over")
        finally:
            bridge.close()


PHASES = [
    ("encoder", "feed.buffer:Buffer.take"),
    ("encoder", "feed.buffer:Buffer.take_overflow"),
    ("encoder", "pipeline:Pipeline._encode_events"),
    ("encoder", "pipeline:Pipeline._count_overflows"),
    ("encoder", "queue.queue:DurableQueue.put"),
    ("encoder", "queue.state:QueueState.insert"),
    ("encoder", "queue.checkpoint:Ledger.post_all"),
    ("encoder", "queue.dequeue:WorkSignal.notify"),
    ("send-1", "send.circuit_breaker:CircuitBreaker.ask"),
    ("send-1", "queue.queue:DurableQueue.take"),
    ("send-1", "send.request_limits:BacklogLimiter.charge"),
    ("send-1", "send.grpc_sender:GrpcSender.send"),
    ("send-1", "queue.queue:DurableQueue.settle"),
    ("send-1", "send.circuit_breaker:CircuitBreaker.accepted"),
    ("queue-upkeep", "queue.queue:collect"),
    ("queue-upkeep", "queue.overflow:Overflow.expire"),
    ("queue-upkeep", "queue.file:QueueFile.sync"),
    ("housekeeper", "queue.queue:DurableQueue.checkpoint_watching"),
    ("housekeeper", "feed.nodes:NodeRoster.fallen_silent"),
    ("housekeeper", "queue.queue:DurableQueue.balance"),
    ("otelbridge-telemetry", "telemetry.telemetry:Mailbox.take"),
    ("otelbridge-telemetry", "telemetry.metrics:Instruments.flush"),
    ("otelbridge-telemetry", "telemetry.telemetry:Telemetry._write_held_back"),
    ("otelbridge-status", "status.server:StatusServer._make_room"),
    ("read", "feed.buffer:BufferWriter.offer"),
    ("read", MESSAGES),
    ("feed", "feed.connection:Connection.next_message"),
    ("feed", "feed.monitor:Monitor._hear"),
    ("feed", "feed.subscription:Subscription._look"),
]


@pytest.mark.parametrize(("thread", "function"), PHASES)
def test_a_thread_that_meets_a_fault_is_back_within_a_second_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str, function: str
) -> None:
    fault = Fault(function, thread)
    with road(tmp_path, fault, patch=monkeypatch) as under_load:
        eventually(lambda: under_load.endpoint.counts().records > EVENTS_PER_SECOND // 4)
        fault.arm()
        eventually(lambda: fault.came_back_at, why=f"{function} is called again")
        assert fault.came_back_at - fault.raised_at[0] <= BACK_SECONDS
        assert under_load.alive()
        published = len(under_load.publisher.published)
        eventually(lambda: len(under_load.publisher.published) > published + EVENTS_PER_SECOND // 4)
    (failed,) = under_load.failures(thread)
    assert failed.fields["error"] == f"InjectedError: {function}"
    assert "raise InjectedError" in str(failed.fields["traceback"])
    records = under_load.endpoint.log_records()
    upstreams = under_load.bridge._settings.feed.endpoints
    assert missing_without_a_gap(under_load.publisher, records, upstreams=upstreams) == []
    if thread != "feed":  # whose fault costs the connection, and a gap says so
        assert {number for number, _ in under_load.publisher.published} == set(numbers_of(records))
    ledger, held = under_load.bridge.components.queue.balance()
    assert not any(ledger.residue(held).values())


def test_a_thread_that_fails_again_and_again_fails_the_liveness_probe_until_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("queue.queue:DurableQueue.put", "encoder", times=FAULTS_TO_FAIL + 1)
    with road(tmp_path, fault, patch=monkeypatch) as under_load:
        fault.arm()
        eventually(lambda: not under_load.alive(), why="it fails")
        (check,) = [check for check in under_load.bridge._livez().checks if not check.ok]
        assert check.name == "thread encoder"
        assert "times in a row: InjectedError: queue.queue:DurableQueue.put" in check.why
        eventually(under_load.alive, why="the fault is over")
    records = under_load.endpoint.log_records()
    assert {number for number, _ in under_load.publisher.published} == set(numbers_of(records))


class Unwilling:
    """A stderr that raises once what no stream should."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.raised = False

    def write(self, text: str) -> None:
        if not self.raised:
            self.raised = True
            raise InjectedError
        self.lines.append(text)

    def flush(self) -> None:
        """Nothing is kept back."""


def test_the_thread_that_writes_log_lines_goes_on_and_the_line_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Unwilling()
    monkeypatch.setattr(sys, "stderr", stderr)
    with road(tmp_path, patch=monkeypatch) as under_load:
        eventually(lambda: any("thread=otelbridge-stderr" in line for line in stderr.lines))
        assert b"otelbridge_telemetry_dropped_total 1.0" in under_load.bridge.components.telemetry.prometheus()


def test_a_thread_that_follows_a_name_subscribes_to_what_it_found_before_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("feed.feed:Feed._add", "follow")
    fault.arm()
    settings = {"feed.resolve": "all", "feed.endpoints": "localhost:32767", "queue.directory": str(tmp_path)}
    fault.install(monkeypatch)
    bridge = bridge_of(settings)
    bridge.start()
    try:
        eventually(bridge.components.feed.subscriptions, within_seconds=BACK_SECONDS)
    finally:
        bridge.close()
    assert fault.raised_at
