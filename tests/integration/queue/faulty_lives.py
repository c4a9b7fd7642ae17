"""Lives of a queue on a disk that fails at a chosen call: `python -m tests.integration.queue.faulty_lives FOLDER`.

Runs in a process that was started on a FaultyDisk. Reads what fails as JSON lines, `[life, operation, errno, spared,
times]`, and answers each with what came of it; with errno 0, with how many calls of each operation that life makes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otelbridge.event import Stream
from otelbridge.queue.model import Accepted, Lease, QueueUnusable, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import GapEnded, QueueSalvaged
from tests.integration.queue.oracle import Told, assert_balanced, batch_of, drain, numbers_of, open_queue, put
from tests.peers.faulty_disk import WRITING, FaultyDisk, Operation

LATER = RetryLater(code="UNAVAILABLE", why="away")
ROUNDS_TO_RECOVER = 40
WATCHED = {("relay:1", stream): 7 for stream in (Stream.ALERTS, Stream.LOGS)}


@dataclass
class Life:
    """A queue with what was put into it and what it gave out."""

    folder: Path
    told: Told = field(default_factory=Told)
    given: int = 0
    got: list[int] = field(default_factory=list)
    queue: DurableQueue | None = None

    def open(self) -> DurableQueue:
        if self.queue is None:
            self.queue = open_queue(self.folder, self.told)
            self.queue.upkeep.stop()
        return self.queue

    def put(self, records: int, stream: Stream = Stream.LOGS) -> None:
        queue, numbers = self.open(), range(self.given, self.given + records)
        self.given += records
        put(queue, stream, numbers)
        assert_balanced(queue)

    def take(self, records: int) -> Lease | None:
        return self.open().take(max_bytes=1 << 20, max_records=records)

    def deliver(self, records: int) -> None:
        if lease := self.take(records):
            self.open().settle(lease, Accepted())
            self.got += numbers_of(lease)
            assert_balanced(self.open())


def busy(life: Life) -> None:
    """Everything that a queue does."""
    queue = life.open()
    for stream in (Stream.LOGS, Stream.ALERTS, Stream.LOGS):
        life.put(10, stream)
    queue.checkpoint_watching(WATCHED)
    queue.tend()
    if lease := life.take(10):
        life.deliver(10)
        queue.settle(lease, LATER)
    queue.glance()
    life.put(200, Stream.ALERTS)
    if lease := life.take(200):
        numbers = numbers_of(lease)
        refused, rest = queue.replace(
            lease, [batch_of(lease.stream, numbers[:3]), batch_of(lease.stream, numbers[3:])], keep=True
        )
        queue.dead_letter(refused, Refused(code="400", why="no"))
        queue.settle(rest, LATER)
    for _ in range(4):
        life.put(100)
        life.deliver(100)
        queue.tend()


def started(life: Life) -> None:
    """A start on what an earlier life left, and a little work."""
    for stream in (Stream.LOGS, Stream.ALERTS):
        life.put(10, stream)
        life.deliver(20)
        life.open().tend()


def emptied(life: Life) -> None:
    """The folder goes, under a queue that holds more than is remembered of what was just written."""
    for _ in range(4):
        life.put(1500)
    shutil.rmtree(life.folder, ignore_errors=True)
    life.put(5)
    for _ in range(3):
        life.open().tend()
    life.put(5)
    life.deliver(10)


def nothing(folder: Path) -> Life:
    return Life(folder)


def killed(folder: Path) -> Life:
    """What a kill leaves: a log that is not in the database."""
    life = closed(folder, killed=True)
    (folder / "queue.db-shm").unlink()
    return life


def damaged(folder: Path) -> Life:
    """A database that SQLite cannot read."""
    life = closed(folder, killed=False)
    with (folder / "queue.db").open("r+b") as file:
        file.write(bytes(100))
    return life


def closed(folder: Path, *, killed: bool) -> Life:
    life = Life(folder)
    for _ in range(5):
        life.put(20)
        life.put(5, Stream.ALERTS)
    life.deliver(30)
    life.open().checkpoint_watching(WATCHED)
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    if killed:
        shutil.copytree(folder, copy)
    life.open().close()
    if killed:
        shutil.rmtree(folder)
        copy.rename(folder)
    life.told.events.clear()
    life.queue = None
    return life


LIVES: Mapping[str, tuple[Callable[[Path], Life], Callable[[Life], None]]] = {
    "busy": (nothing, busy),
    "started": (killed, started),
    "salvaged": (damaged, started),
    "emptied": (nothing, emptied),
}


def live(name: str, folder: Path, disk: FaultyDisk, operations: list[Operation], fault: dict[str, Any]) -> object:
    """One life; what is wrong with it, empty where nothing is."""
    shutil.rmtree(folder, ignore_errors=True)
    prepare, act = LIVES[name]
    life = prepare(folder)
    try:
        with disk.failing(*operations, **fault) as failing:
            try:
                act(life)
            except QueueUnusable:  # a start that a human is told about
                life.queue = None
            calls = {one.operation.name: one.hits for one in failing}
        judge(life)
    except AssertionError as wrong:
        return str(wrong) or repr(wrong)
    finally:
        if life.queue is not None:
            life.queue.close()
    return "" if fault["error"] else calls


def judge(life: Life) -> None:
    """The disk is well again: everything comes, once, and nothing is said to be lost."""
    queue = life.open()
    for _ in range(ROUNDS_TO_RECOVER):
        more, depth = queue.tend(), queue.depth()
        if not more and not depth.degraded and not depth.memory_records:
            break
    else:
        raise AssertionError(f"it is stuck: {depth}")
    life.put(5)
    life.got += drain(queue)
    assert_balanced(queue)
    refused = [number for letter in queue.dead_letters() for number in numbers_of(letter.request)]
    assert sorted(life.got + refused) == list(range(life.given)), "each record once"
    if not life.told.of(QueueSalvaged):
        assert not life.told.of(GapEnded)
    queue.close()
    after = open_queue(life.folder)
    assert drain(after) == []
    assert_balanced(after)
    after.close()


def main() -> None:
    folder, disk = Path(sys.argv[1]), FaultyDisk.of_this_process()
    for line in sys.stdin:
        name, operation, error, spared, times = json.loads(line)
        operations = [Operation[operation]] if operation in Operation.__members__ else [*WRITING]
        fault: dict[str, Any] = {"error": error, "spared": spared, "times": times}
        sys.stdout.write(json.dumps(live(name, folder, disk, operations if error else [*Operation], fault)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
