"""A queue filled to so many bytes, and what it takes a bridge to be ready again on top of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import FRESH, BridgeProcess
from tests.peers.process import answers_ok, free_ports
from tests.records import batch_of, gaps_told_by
from tests.waiting import eventually

MIB = 1024 * 1024
BATCH_BYTES = 256 * 1024
RECORDS_PER_BATCH = 256
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A start, and another one after `kill -9`."""

    held_records: int
    ready_seconds: float
    """From the process's start to the first 200 of /readyz: watching, with everything held at hand."""
    ready_again_seconds: float
    """The same after `kill -9`."""
    cpu_seconds: float
    """Of the first process until then: what does not depend on who else uses the machine."""
    peak_memory_bytes: int


def open_with_backlog(folder: Path, *, backlog_bytes: int) -> Opened:
    """Fills a queue, and starts a bridge on it whose endpoint is not there; twice."""
    folder.mkdir(parents=True)
    (nobody,) = free_ports(1)
    with Relay() as relay:
        bridge = BridgeProcess(
            folder,
            {
                "bridge": {"drain_seconds": 0},
                "queue": {"max_bytes": 2 * backlog_bytes + 4 * MIB},
                "feed": {"endpoints": [relay.endpoint]},
                "send": {"endpoint": f"http://127.0.0.1:{nobody}"},
            },
            command=FRESH,
        )
        held = fill(bridge.queue_directory, backlog_bytes)
        try:
            ready, cpu = start(bridge)
            bridge.process.kill()
            again, _ = start(bridge)
            assert bridge.held() >= held
            assert bridge.balances()
            peak = bridge.process.peak_memory_bytes()
            assert bridge.stop() == 0
        finally:
            bridge.process.kill()
    return Opened(
        held_records=held,
        ready_seconds=round(ready, 2),
        ready_again_seconds=round(again, 2),
        cpu_seconds=round(cpu, 2),
        peak_memory_bytes=peak,
    )


def start(bridge: BridgeProcess) -> tuple[float, float]:
    """Starts it; returns the time and the CPU time until it was ready."""
    began = time.monotonic()
    bridge.process.launch()
    eventually(lambda: answers_ok(bridge.url("/readyz")), within_seconds=READY_SECONDS, why="it is ready")
    return time.monotonic() - began, bridge.process.cpu_seconds()


def fill(directory: Path, backlog_bytes: int) -> int:
    """Puts batches into a queue until they have so many bytes; returns the records."""
    directory.mkdir()
    told: list[object] = []
    queue = DurableQueue.open(
        QueueSettings(directory=directory, max_bytes=4 * backlog_bytes + 4 * MIB),
        tell=told.append,
        record_gap=gaps_told_by(told.append),
    )
    batch = batch_of(*("x" * 64,) * RECORDS_PER_BATCH, padding=BATCH_BYTES // RECORDS_PER_BATCH - 128)
    batches = max(1, backlog_bytes // len(batch.request))
    for _ in range(batches):
        queue.put([batch], [Posting(batch.stream, Account.RECEIVED, "", batch.records)])
    queue.close()
    return batches * batch.records
