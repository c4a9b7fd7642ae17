"""A whole road on loopback, generator -> bridge (-> Collector) -> counting endpoint, and stretches over it."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bridges
from benchmarks.bridges import Bridge
from benchmarks.child import Child, Facts
from benchmarks.corpus import Corpus, corpus_file
from benchmarks.programs import BUILD, COLLECTOR, Programs

START_SECONDS = 60.0
POLL_SECONDS = 0.05
STALLED_SECONDS = 15.0
"""No event arrived for so long: the rest will not come."""
CLEAN_LAG_SECONDS = 0.5
"""A bridge that is further behind than this when the last event is out does not keep up with the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What became of so many events at a rate."""

    asked_per_second: float
    per_second: float
    """What the generator reached."""
    published: int
    dropped: int
    """By the generator, because the slots of the bridge's subscription were full."""
    fullest: int
    """Most slots in use, of 1,000."""
    arrived: int
    """Different events at the endpoint."""
    duplicates: int
    lag_seconds: float
    """How far the endpoint was behind the last event, at the rate."""
    cpu_us: dict[str, float]
    """CPU per event of each process: bridge, generator, sink, collector."""
    core_percent: float
    """Share of a core that the bridge took, from the first event until the last one had arrived."""
    wakeups_per_second: float
    """How often a thread of the bridge was woken."""
    requests: int
    bytes_per_record: float
    wire_bytes_per_record: float
    """Headers and messages of the requests as they are sent, so compressed; 0 where the endpoint cannot tell."""

    @property
    def lost(self) -> int:
        return self.published - self.arrived

    @property
    def clean(self) -> bool:
        return not self.lost and self.lag_seconds <= CLEAN_LAG_SECONDS


class Watch:
    """What a process takes between two moments: share of a core, and wake-ups."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._spent, self._switches, self._began = child.cpu_seconds(), child.switches(), time.monotonic()

    def stop(self) -> tuple[float, float]:
        """Percent of a core, and wake-ups per second, since the start of this watch."""
        seconds = time.monotonic() - self._began
        woken = sum(count - self._switches.get(thread, 0) for thread, count in self._child.switches().items())
        return 100 * (self._child.cpu_seconds() - self._spent) / seconds, woken / seconds


class Road:
    """Running processes, from the moment on at which the bridge is subscribed."""

    def __init__(
        self, processes: dict[str, Child], *, folder: Path, status_port: int, subscribed_seconds: float
    ) -> None:
        self.processes = processes
        self.folder = folder
        """Its files; otelbridge's queue is in `queue`."""
        self.bridge, self.generator, self.sink = processes["bridge"], processes["generator"], processes["sink"]
        self._status_port = status_port
        self.subscribed_seconds = subscribed_seconds
        """From the start of the bridge's process to its subscription."""

    def stretch(self, rate: float, seconds: float) -> Stretch:
        """Sends for about so long, waits until everything has arrived, and says what it took."""
        return self.send(rate, max(1, round(rate * seconds)))

    def send(self, rate: float, count: int) -> Stretch:
        """Sends so many events, waits until everything has arrived, and says what it took."""
        before = self.sink.ask("counts")
        cpu_before = {name: child.cpu_seconds() for name, child in self.processes.items()}
        watch = Watch(self.bridge)
        said = self.generator.ask(f"{rate} {count}", within_seconds=3 * count / rate + 60)
        arrived_in_time = self.sink.ask("counts")["distinct"] - before["distinct"]
        expected = said["published"] - said["dropped"]
        after = self.wait_until_arrived(before["distinct"] + expected)
        core_percent, wakeups_per_second = watch.stop()
        cpu = {name: child.cpu_seconds() - cpu_before[name] for name, child in self.processes.items()}
        arrived = after["distinct"] - before["distinct"]
        records = max(1, after["records"] - before["records"])
        per_second = said["published"] / said["seconds"]
        return Stretch(
            asked_per_second=rate,
            per_second=per_second,
            published=said["published"],
            dropped=said["dropped"],
            fullest=said["fullest"],
            arrived=arrived,
            duplicates=after["duplicates"] - before["duplicates"],
            lag_seconds=max(0, expected - arrived_in_time) / per_second,
            cpu_us={name: 1e6 * spent / max(1, arrived) for name, spent in cpu.items()},
            core_percent=core_percent,
            wakeups_per_second=wakeups_per_second,
            requests=after["requests"] - before["requests"],
            bytes_per_record=(after["bytes"] - before["bytes"]) / records,
            wire_bytes_per_record=(after.get("wire_bytes", 0) - before.get("wire_bytes", 0)) / records,
        )

    def wait_until_arrived(self, distinct: int) -> Facts:
        """The endpoint's counts once so many different events have come, or none has come for a while."""
        counts = self.sink.ask("counts")
        moved = time.monotonic()
        while counts["distinct"] < distinct and time.monotonic() - moved < STALLED_SECONDS:
            time.sleep(POLL_SECONDS)
            self.bridge.check()
            latest = self.sink.ask("counts")
            if latest["distinct"] != counts["distinct"]:
                moved = time.monotonic()
            counts = latest
        return counts

    def status(self) -> dict[str, Any]:
        """otelbridge's status document."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status_port}/status", timeout=30) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def residue(self) -> int:
        """What otelbridge's ledger cannot account for, over all streams."""
        streams = self.status()["ledger"]["streams"].values()
        return sum(abs(accounts["residue"]) for accounts in streams)

    def held(self) -> int:
        """Records that otelbridge holds."""
        return sum(self.status()["queue"]["streams"].values())

    def held_bytes(self) -> int:
        """What they take in otelbridge's queue."""
        return int(self.status()["queue"]["bytes"])

    def dropped_inside(self) -> int:
        """Events that otelbridge itself dropped."""
        streams = self.status()["ledger"]["streams"].values()
        return sum(sum(accounts["dropped"].values()) for accounts in streams)


@contextmanager
def open_road(programs: Programs, bridge: Bridge, corpus: Corpus) -> Iterator[Road]:
    """A road whose bridge is subscribed; everything ends, and its files go, with the context.

    Raises:
        RuntimeError: something did not come up, with its log.
    """
    runs = BUILD / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    events = corpus_file(corpus, BUILD)
    folder = Path(tempfile.mkdtemp(dir=runs))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sink = stack.enter_context(Child(programs.sink, log=folder / "sink.log", talks=True))
        endpoints = sink.hear(START_SECONDS)
        arguments = (*programs.generator, "--corpus", str(events))
        generator = stack.enter_context(Child(arguments, log=folder / "generator.log", talks=True))
        upstream = generator.hear(START_SECONDS)["endpoint"]
        processes = {"generator": generator, "sink": sink}
        endpoint = endpoints["grpc" if bridge.protocol == "grpc" else "http"]
        if bridge.through_collector:
            endpoint, processes["collector"] = _start_collector(stack, folder, endpoint)
        status_port = _free_port()
        argv = bridges.command(bridge, folder, upstream=upstream, endpoint=endpoint, status_port=status_port)
        started = time.time()
        processes["bridge"] = stack.enter_context(Child(argv, log=folder / "bridge.log"))
        subscribed = _subscribed_at(generator, processes["bridge"]) - started
        yield Road(processes, folder=folder, status_port=status_port, subscribed_seconds=subscribed)


def _subscribed_at(generator: Child, bridge: Child) -> float:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        bridge.check()
        if (said := generator.listen(1)) is not None:
            return float(said["subscribed"] / 1e9)
    raise RuntimeError(f"the bridge does not subscribe:\n{bridge.log()}")


def _start_collector(stack: ExitStack, folder: Path, endpoint: str) -> tuple[str, Child]:
    listen, health = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
    config = bridges.collector_config(folder, listen=listen, health=health, endpoint=endpoint.removeprefix("http://"))
    collector = stack.enter_context(Child([str(COLLECTOR), "--config", str(config)], log=folder / "collector.log"))
    deadline = time.monotonic() + START_SECONDS
    while not _answers(f"http://{health}/"):
        collector.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the Collector does not come up:\n{collector.log()}")
        time.sleep(POLL_SECONDS)
    return f"http://{listen}", collector


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
