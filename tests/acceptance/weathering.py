"""A bridge under load on a disk whose calls fail for a while; how soon it says so, and recovers."""

from __future__ import annotations

import contextlib
import errno
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, numbers_of
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.faulty_disk import WRITING, FaultyDisk, Operation
from tests.peers.process import answers_ok
from tests.waiting import eventually

EVENTS_PER_SECOND = 2_000
"""Enough for SQLite to move its log into the database every third of a second."""
MEET_SECONDS = 15.0
SAY_SECONDS = 10.0
RECOVER_SECONDS = 30.0
"""Waited for at most; the bars are the tests'."""
EXPORTED_MEANWHILE = 200
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Calls that fail."""

    name: str
    operations: tuple[Operation, ...]
    ending: str = ""
    """Of the files' names."""
    error: int = errno.EIO
    harmless: bool = False
    """Nothing that the queue needs fails: it need not be said."""
    deletes_only: bool = False
    """Nothing is received meanwhile: what fails is to record that something was delivered."""


WRITES = (Operation.WRITE,)
WRITE_ERROR = Fault(name="EIO on writes to the log", operations=WRITES, ending="-wal")
SYNC_ERROR = Fault(name="EIO on sync", operations=(Operation.SYNC,))
DELETE_ERROR = Fault(name="EIO on deleting what was delivered", operations=WRITES, deletes_only=True)
DATABASE_ERROR = Fault(name="EIO on writes to the database", operations=WRITES, ending="queue.db")
LOG_FULL = Fault(name="log full", operations=WRITES, ending="-wal", error=errno.ENOSPC)
DATABASE_FULL = Fault(name="database full", operations=WRITES, ending="queue.db", error=errno.ENOSPC)
ALL_FULL = Fault(name="everything full", operations=WRITING, error=errno.ENOSPC)

EIO = (
    WRITE_ERROR,
    SYNC_ERROR,
    DELETE_ERROR,
    DATABASE_ERROR,
    Fault(name="EIO on commits", operations=(Operation.COMMIT,)),
    Fault(name="EIO on setting a size", operations=(Operation.GROW,)),
    Fault(name="EIO on the checkpoint's copy", operations=WRITES, ending=".checkpoint", harmless=True),
    Fault(name="EIO on everything", operations=WRITING),
)
FULL = (
    LOG_FULL,
    DATABASE_FULL,
    Fault(name="full at commits", operations=(Operation.COMMIT,), error=errno.ENOSPC),
    Fault(name="full for deletions", operations=WRITES, error=errno.ENOSPC, deletes_only=True),
    Fault(name="full at setting a size", operations=(Operation.GROW,), error=errno.ENOSPC),
    Fault(
        name="full for the checkpoint's copy",
        operations=WRITES,
        ending=".checkpoint",
        error=errno.ENOSPC,
        harmless=True,
    ),
    ALL_FULL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endured:
    """What became of a fault."""

    name: str
    said_seconds: float
    """From the first call that failed to `degraded` on /status; 0 where nothing had to be said."""
    alive: bool
    """/livez was green all the while."""
    exported: int
    """Records that arrived while the disk failed."""
    recovered_seconds: float
    """From the disk's recovery to: not degraded, nothing waits in memory."""
    largest_log_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weathered:
    """A life with faults."""

    faults: list[Endured]
    published: int
    lost: int
    duplicates: int
    balanced: bool
    said_in_log: int
    """Lines that say that the disk takes no writes."""
    exit_code: int | None


def weather(folder: Path, faults: Iterable[Fault], *, synchronous: str, last_seconds: float) -> Weathered:
    """One life of a bridge through the faults, each for so long after it was said."""
    disk = FaultyDisk(folder / "bridge" / "queue", folder / "disk")
    try:
        with (
            Relay() as relay,
            OtlpEndpoint() as endpoint,
            running_bridge(
                folder / "bridge",
                env=disk.env,
                queue={"synchronous": synchronous},
                feed={"endpoints": [relay.endpoint]},
                send={
                    "endpoint": endpoint.grpc_endpoint,
                    "replay_rate_factor": 0,
                    "retry_initial_seconds": 0.1,
                    "retry_max_seconds": 0.2,
                },
            ) as bridge,
        ):
            bridge.wait_until_watching()
            stage = Stage(bridge, endpoint, relay, disk, Publisher(relay, per_second=EVENTS_PER_SECOND))
            endured = [stage.endure(fault, last_seconds) for fault in faults]
            relay.wait_until_sent()
            assert relay.dropped == 0, "the relay itself lost some: nothing can be said about the bridge"
            bridge.wait_until_delivered()
            balanced = bridge.balances()
            code = bridge.stop()
        arrived = numbers_of(endpoint.log_records())
    finally:
        disk.close()
    expected = Counter(range(len(stage.publisher.published)))
    return Weathered(
        faults=endured,
        published=len(stage.publisher.published),
        lost=len(expected - arrived),
        duplicates=sum((arrived - expected).values()),
        balanced=balanced,
        said_in_log=bridge.process.output().count("The disk does not accept writes"),
        exit_code=code,
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """A running bridge between a relay and an endpoint, on a disk that can fail."""

    bridge: BridgeProcess
    endpoint: OtlpEndpoint
    relay: Relay
    disk: FaultyDisk
    publisher: Publisher

    def endure(self, fault: Fault, last_seconds: float) -> Endured:
        """The load goes on, the disk fails, is said to, fails on for so long, and is well again."""
        if not fault.deletes_only:
            with self.publisher.going_on():
                return self._endure(fault, last_seconds)
        self.relay.wait_until_sent()
        self.bridge.wait_until_delivered()  # who stops with a request taken and not answered makes copies of it
        self.endpoint.stop()
        self.publisher.publish(EVENTS_PER_SECOND)
        self.relay.wait_until_sent()
        eventually(lambda: self.bridge.held() >= EVENTS_PER_SECOND, why="a backlog is on disk")
        return self._endure(fault, last_seconds)

    def _endure(self, fault: Fault, last_seconds: float) -> Endured:
        queue_directory = self.bridge.queue_directory
        log_bytes = [0]
        alive = [True]

        def look() -> bool:
            alive[0] = alive[0] and answers_ok(self.bridge.url("/livez"))
            with contextlib.suppress(FileNotFoundError):  # it may just be opened anew
                log_bytes.append((queue_directory / "queue.db-wal").stat().st_size)
            return True

        exported = self.endpoint.counts().records
        with self.disk.failing(*fault.operations, error=fault.error, ending=fault.ending) as failing:
            if fault.deletes_only:
                self.endpoint.start()
            eventually(lambda: any(one.hits for one in failing), within_seconds=MEET_SECONDS, why=f"{fault.name}: met")
            met = time.monotonic()
            if not fault.harmless:
                eventually(self.degraded, within_seconds=SAY_SECONDS, why=f"{fault.name}: it is said")
            said = time.monotonic() - met
            until = time.monotonic() + last_seconds
            eventually(
                lambda: (
                    look()
                    and time.monotonic() >= until
                    and self.endpoint.counts().records >= exported + EXPORTED_MEANWHILE
                ),
                within_seconds=last_seconds + MEET_SECONDS,
                why=f"{fault.name}: exports go on",
            )
            exported = self.endpoint.counts().records - exported
        well = time.monotonic()
        eventually(
            lambda: look() and not self.degraded() and not self.bridge.status()["queue"]["memory_records"],
            within_seconds=RECOVER_SECONDS,
            why=f"{fault.name}: it recovers",
        )
        recovered = time.monotonic() - well
        assert self.bridge.balances(), fault.name
        return Endured(
            name=fault.name,
            said_seconds=0 if fault.harmless else round(said, 2),
            alive=alive[0],
            exported=exported,
            recovered_seconds=round(recovered, 2),
            largest_log_bytes=max(log_bytes),
        )

    def degraded(self) -> bool:
        return bool(self.bridge.status()["queue"]["degraded"])
