"""Every thread of the bridge meets an exception in each of its phases, under load, and goes on: nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import otelbridge
from otelbridge.bridge import Bridge
from otelbridge.cli.service import SettingsReloader
from otelbridge.feed.model import SubscriptionState
from otelbridge.settings.load import Loaded, load
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.log import Line
from otelbridge.telemetry.supervisor import FAULTS_TO_FAIL, Pulse
from tests.oracle import Publisher, missing_without_a_gap, numbers_of
from tests.peers.process import answers_ok
from tests.waiting import eventually

EVENTS_PER_SECOND = 200
BACK_SECONDS = 1.0
"""A thread that met a fault takes its next turn within this."""


MESSAGES = "feed.connection:messages"


class InjectedError(BaseException):
    """What nobody expects, and what is no Exception, as a library's `sys.exit` or a panic of compiled code is none."""


FOREIGN = ("_run", "waitress")
"""Threads of libraries that call us: gRPC's and waitress's. Their loops catch what we raise; what
somebody waits for must not be lost in it. They have no pulse: they are back with their next call."""


def kind_of(name: str) -> str:
    """What a thread is, by its name without what tells it from others of its kind."""
    found = re.fullmatch(r"Thread-\d+ \((\w+)\)|(send-apart|waitress)[-_]\d+|(\S+).*", name)
    assert found
    return str(next(filter(None, found.groups())))


@dataclass
class Fault:
    """Raises at a call of one function, once it is armed, and notes when that thread takes its next turn."""

    function: str
    """`module:Class.method`, below `otelbridge`."""
    thread: str
    """The first word of the name of the thread in which it raises."""
    times: int = 1
    error: type[BaseException] = InjectedError
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

        def noting_beat(pulse: Pulse, rest_seconds: float = 0.0) -> None:
            if self.raised_at and not self.came_back_at and self._is_this_thread():
                self.came_back_at = time.monotonic()
            beat(pulse, rest_seconds)

        monkeypatch.setattr(holder, name, faulty_generator if self.function == MESSAGES else faulty)
        monkeypatch.setattr(Pulse, "beat", noting_beat)

    def _is_this_thread(self) -> bool:
        return kind_of(threading.current_thread().name) == self.thread

    def _raise_if_due(self) -> None:
        if self.raised_at and not self.came_back_at and self.thread in FOREIGN and self._is_this_thread():
            self.came_back_at = time.monotonic()
        if self._armed.is_set() and self._is_this_thread() and len(self.raised_at) < self.times:
            self.raised_at.append(time.monotonic())
            raise self.error(self.function)


@dataclass
class Road:
    """A bridge under load, between a relay and an endpoint."""

    bridge: Bridge
    loaded: Loaded
    endpoint: OtlpEndpoint
    publisher: Publisher

    def failures(self, thread: str) -> list[Line]:
        """What the log says of a thread's faults."""
        lines = [entry.line for entry in self.bridge.components.telemetry.history.entries()]
        failed = [line for line in lines if line.event == "otelbridge.thread_failed"]
        return [line for line in failed if str(line.fields["thread"]).split()[0] == thread]

    def told(self, event: str) -> bool:
        """Whether something was told."""
        return any(entry.line.event == event for entry in self.bridge.components.telemetry.history.entries())

    def alive(self) -> bool:
        return self.bridge._livez().ok


QUIET = {"status.port": "0", "telemetry.traces.exporter": "none", "telemetry.metrics.exporter": "none"}
LOUD = {
    "telemetry.traces.exporter": "console",
    "telemetry.metrics.exporter": "console",
    "telemetry.metrics_interval_seconds": "1",
    "mapping.process_traces": "true",
}
"""With every thread that there can be."""


def loaded_of(settings: dict[str, str]) -> Loaded:
    flags = {"--set": [f"{name}={value}" for name, value in {**QUIET, **settings}.items()]}
    return load(file=None, environment={}, flags=flags)


@contextmanager
def road(
    folder: Path, *faults: Fault, patch: pytest.MonkeyPatch, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Road]:
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
            **more,
        }
        loaded = loaded_of(sets)
        bridge = Bridge(loaded)
        bridge.start()
        try:
            relay.wait_for_subscribers(1)
            publisher = Publisher(relay, EVENTS_PER_SECOND)
            with publisher.going_on():
                yield Road(bridge, loaded, endpoint, publisher)
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
    ("otelbridge-metrics", "telemetry.exporters:Reloading.current"),
    ("send-traces-1", "send.request_limits:BacklogLimiter.observe"),
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
    more = LOUD if thread in {"otelbridge-metrics", "send-traces-1"} else {}
    with road(tmp_path, fault, patch=monkeypatch, more=more) as under_load:
        eventually(lambda: under_load.endpoint.counts().records > EVENTS_PER_SECOND // 4)
        fault.arm()
        eventually(lambda: fault.came_back_at, why=f"{function} is called again")
        assert fault.came_back_at - fault.raised_at[0] <= BACK_SECONDS
        assert under_load.alive()
        published = len(under_load.publisher.published)
        eventually(lambda: len(under_load.publisher.published) > published + EVENTS_PER_SECOND // 4)
    (failed,) = under_load.failures(thread)
    assert failed.fields["error"] == f"InjectedError: {function}"
    assert "raise self.error" in str(failed.fields["traceback"])
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
    bridge = Bridge(loaded_of(settings))
    bridge.start()
    try:
        eventually(bridge.components.feed.subscriptions, within_seconds=BACK_SECONDS)
    finally:
        bridge.close()
    assert fault.raised_at


def test_a_feed_that_gets_no_thread_is_back_once_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC's own threads are counted in: closing a channel waits for a call whose end nobody was there to take."""
    start, refused = threading.Thread.start, threading.Event()
    refusals: list[str] = []

    def refusing(thread: threading.Thread) -> None:
        if refused.is_set() and threading.current_thread().name.startswith("feed"):
            refusals.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    with road(tmp_path, patch=monkeypatch) as under_load:
        eventually(lambda: under_load.endpoint.counts().records > EVENTS_PER_SECOND // 4)
        refused.set()
        (subscription,) = under_load.bridge.components.feed._subscriptions.values()
        eventually(lambda: subscription.status().state is SubscriptionState.WAITING and len(refusals) > 1)
        refused.clear()
        eventually(lambda: subscription.status().state is SubscriptionState.WATCHING, why="it is watched again")
        published = len(under_load.publisher.published)
        eventually(lambda: len(under_load.publisher.published) > published + EVENTS_PER_SECOND // 4)
    records = under_load.endpoint.log_records()
    upstreams = under_load.bridge._settings.feed.endpoints
    assert missing_without_a_gap(under_load.publisher, records, upstreams=upstreams) == []


CALLED_BACK = [("_run", "feed.connection:Heartbeat._read"), ("waitress", "status.app:StatusApp._answer")]


@pytest.mark.parametrize(("thread", "function"), CALLED_BACK)
def test_what_a_library_calls_in_its_own_thread_may_fail_and_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str, function: str
) -> None:
    # Of anything but an Exception waitress closes the connection no sooner than we do.
    fault = Fault(function, thread, error=RuntimeError if thread == "waitress" else InjectedError)
    with road(tmp_path, fault, patch=monkeypatch) as under_load:
        eventually(lambda: under_load.endpoint.counts().records > EVENTS_PER_SECOND // 4)
        fault.arm()
        status = under_load.bridge.status
        assert status is not None
        page = f"http://127.0.0.1:{status.port}/status"  # probes are answered by the loop, not by waitress' threads
        if thread == "waitress":
            assert not answers_ok(page)
        eventually(lambda: fault.raised_at)
        eventually(lambda: answers_ok(page) and fault.came_back_at)
        assert fault.came_back_at - fault.raised_at[0] <= BACK_SECONDS
    records = under_load.endpoint.log_records()
    upstreams = under_load.bridge._settings.feed.endpoints
    assert missing_without_a_gap(under_load.publisher, records, upstreams=upstreams) == []


SIGNALLED = """
import os, signal, sys, threading, time
from otelbridge.cli.process import stop_on_signals

asked = []
def hang_up():
    asked.append(time.monotonic())
    if len(asked) == 1:
        raise RuntimeError("nobody expects this")

stop = threading.Event()
os.close(2)  # nobody can be told, either
stop_on_signals(stop, "last words", hang_up=hang_up)
os.kill(os.getpid(), signal.SIGHUP)
while len(asked) < 2:
    time.sleep(0.01)
print(asked[1] - asked[0], flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print(stop.wait(10), flush=True)
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""


def test_the_thread_that_hears_signals_forgets_none_over_a_fault_and_needs_no_stderr() -> None:
    ended = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=20, check=False)
    seconds, stopped = ended.stdout.split()
    assert float(seconds) <= BACK_SECONDS
    assert stopped == "True"
    assert ended.returncode == 1


def test_the_thread_that_reads_the_settings_again_tries_again_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("bridge:Bridge.reload", "reload")
    fault.arm()
    with road(tmp_path, fault, patch=monkeypatch) as under_load:
        asked = threading.Event()
        reloading = SettingsReloader(
            lambda: under_load.loaded, under_load.bridge, asked=asked, file=None, watched=False
        )
        reloading.start()
        asked.set()
        eventually(lambda: under_load.told("otelbridge.settings_reloaded"), within_seconds=BACK_SECONDS)
        assert len(under_load.failures("reload")) == 1
        assert any(check.name == "thread reload" for check in under_load.bridge._livez().checks)


KILLED_APART = ("otelbridge-stderr", "follow", "signals", "reload", "send-apart")
"""By tests of their own."""
NOT_OURS = ("simulator", "publisher", "_serve", "process_request_thread", "OtelBatchSpanRecordProcessor")
"""The SDK's own thread catches whatever an exporter of ours raises."""
PACKAGE = Path(otelbridge.__file__).parent


def test_every_thread_of_a_bridge_has_a_row_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    with road(tmp_path, patch=monkeypatch, more=LOUD) as under_load:
        eventually(lambda: under_load.endpoint.counts().records > EVENTS_PER_SECOND // 4)
        kinds = {kind_of(thread.name) for thread in set(threading.enumerate()) - before}
    killed = {re.sub(r"-\d+$", "", thread) for thread, _ in [*PHASES, *CALLED_BACK]} | set(KILLED_APART)
    assert {re.sub(r"-\d+$", "", kind) for kind in kinds if not kind.startswith(NOT_OURS)} <= killed


def test_every_thread_that_the_code_starts_has_a_row_here() -> None:
    started = r'(?:SupervisedThread\(\s*|Pulse\()f?"([^" {]+)'
    names = {name for file in PACKAGE.rglob("*.py") for name in re.findall(started, file.read_text(encoding="utf-8"))}
    assert {"encoder", "signals", "reload", "otelbridge-metrics", "otelbridge-stderr"} <= names
    assert names <= {thread for thread, _ in PHASES} | set(KILLED_APART)
