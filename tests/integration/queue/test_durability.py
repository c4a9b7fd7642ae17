"""Sudden ends: a killed process, and a machine that loses power with writes that never reached the platter."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otelbridge.event import GapCause, Stream
from otelbridge.queue.model import Accepted
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.setting import section_from
from otelbridge.telemetry.events import GapEnded, QueueSalvaged
from tests.integration.queue.oracle import Told, assert_balanced, drain, numbers_of, open_queue, put, take
from tests.peers.faulty_disk import FaultyDisk
from tests.records import gaps_told_by

SECTOR_BYTES = 512

WRITER = """
import pathlib, sys
from otelbridge.event import Stream
from otelbridge.queue.model import Accepted
from tests.integration.queue.oracle import open_queue, put, take, numbers_of
queue = open_queue(pathlib.Path(sys.argv[1]), synchronous=sys.argv[3])
number = int(sys.argv[2])
out = sys.stdout
while True:
    put(queue, Stream.LOGS, range(number, number + 20))
    number += 20
    out.write(f"owed {number}\\n"); out.flush()
    if number % 60 == 0:
        lease = queue.take(max_bytes=1 << 20, max_records=40)
        out.write(f"sent {' '.join(map(str, numbers_of(lease)))}\\n"); out.flush()
        queue.settle(lease, Accepted())
        out.write("done\\n"); out.flush()
"""


class Sink:
    """What the killed writers owed, and what they handed out."""

    def __init__(self) -> None:
        self.owed: set[int] = set()
        self.sent: list[int] = []
        self.in_flight: set[int] = set()
        self.next = 0

    def watch(self, directory: Path, dice: random.Random) -> None:
        """Lets a child write for a while, and kills it at a random line."""
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), str(self.next), "normal"], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = dice.randrange(1, 120)
            sent: list[int] = []
            for line in child.stdout:
                word, *rest = line.split()
                match word:
                    case "owed":
                        self.owed |= set(range(int(rest[0]) - 20, int(rest[0])))
                        self.next = int(rest[0])
                    case "sent":
                        sent = [int(n) for n in rest]
                        self.sent += sent
                    case "done":
                        sent = []
                lines -= 1
                if lines == 0:
                    child.send_signal(signal.SIGKILL)
            self.in_flight |= set(sent)
            self.next += 20  # the put under way may be on disk too; its numbers are not used again

    def judge(self, directory: Path) -> None:
        told = Told()
        queue = open_queue(directory, told)
        assert_balanced(queue)
        left = drain(queue)
        assert_balanced(queue)
        queue.close()
        assert self.owed <= set(self.sent) | set(left), "owed and lost"
        assert set(self.sent) & set(left) <= self.in_flight, "only what was in flight may come twice"
        assert not told.of(QueueSalvaged)
        assert not told.of(GapEnded)


def test_a_killed_process_loses_nothing_and_repeats_only_what_was_in_flight(tmp_path: Path) -> None:
    dice = random.Random(7)
    sink = Sink()
    for _ in range(4):
        sink.watch(tmp_path / "queue", dice)
    sink.judge(tmp_path / "queue")


# --- power cuts ---


def snapshot(directory: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(directory, place)
    return place


def mixed(old: bytes, new: bytes, dice: random.Random) -> bytes:
    """What the platter may hold: each sector written since the last sync is there, or is not; the end may be torn.

    The first sector is the log's header, which SQLite syncs before it writes a frame that relies on it.
    """
    torn = dice.randrange(max(len(new) - SECTOR_BYTES, 1), len(new) + 1) if len(new) > len(old) else len(new)
    old = old.ljust(len(new), b"\0")
    parts = [new[:SECTOR_BYTES]]
    keep = dice.random()
    for start in range(SECTOR_BYTES, len(new), SECTOR_BYTES):
        sector = new[start : start + SECTOR_BYTES] if dice.random() < keep else old[start : start + SECTOR_BYTES]
        parts.append(sector)
    return b"".join(parts)[:torn]


def second_life(directory: Path, synchronous: str) -> tuple[list[int], Told]:
    """What a queue that is opened after the cut delivers, each once, and what it tells."""
    told = Told()
    queue = DurableQueue.open(
        section_from(QueueSettings, {"directory": directory, "synchronous": synchronous}),
        tell=told,
        record_gap=gaps_told_by(told),
        boot="second",
    )
    assert_balanced(queue)
    got = drain(queue)
    assert_balanced(queue)
    queue.close()
    assert len(got) == len(set(got))
    return got, told


def cut_power(directory: Path, synchronous: str, seed: int) -> None:
    dice = random.Random(seed)
    live = directory / "live"
    queue = DurableQueue.open(
        section_from(QueueSettings, {"directory": live, "synchronous": synchronous}),
        tell=Told(),
        record_gap=gaps_told_by(Told()),
        boot="first",
    )
    number = 0
    sent: list[int] = []

    def work(turns: int) -> None:
        nonlocal number
        for _ in range(turns):
            put(queue, Stream.LOGS, range(number, number + 20))
            number += 20
            if dice.random() < 0.3:
                lease = take(queue, max_records=40)
                sent.extend(numbers_of(lease))
                queue.settle(lease, Accepted())

    queue.upkeep.stop()  # the moments of syncing are ours
    work(dice.randrange(1, 60))
    if synchronous == "normal":
        queue.tend()
    else:
        put(queue, Stream.LOGS, [number])  # in this mode a put is what syncs
        number += 1
    synced = snapshot(live, directory / "synced")
    owed = set(range(number))
    sent_before = set(sent)
    work(dice.randrange(0, 40))
    cut = snapshot(live, directory / "cut")
    queue.close()
    for name in ("queue.db-wal", "queue.checkpoint"):
        old, new = synced / name, cut / name
        if old.exists() and new.exists():
            new.write_bytes(mixed(old.read_bytes(), new.read_bytes(), dice))
    (cut / "queue.db-shm").unlink(missing_ok=True)  # it is memory; a machine that starts anew has none
    got, told = second_life(cut, synchronous)
    assert set(got) <= set(range(number)), "nothing is made up"
    assert owed <= set(got) | set(sent), f"synced and lost: {owed - set(got) - set(sent)}"
    assert not (set(got) & sent_before), "what was settled before the sync does not come back"
    if synchronous == "normal":
        assert [h.gap.stream for h in told.of(GapEnded) if h.gap.cause is GapCause.CORRUPTION], "the cut is said"


@pytest.mark.parametrize("synchronous", ["normal", "full"])
@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_takes_the_unsynced_tail_at_most(tmp_path: Path, synchronous: str, seed: int) -> None:
    cut_power(tmp_path, synchronous, seed)


ONE_ROUND = """
import pathlib, sys
from otelbridge.event import Stream
from tests.integration.queue.oracle import open_queue, put
queue = open_queue(pathlib.Path(sys.argv[1]))
queue.upkeep.stop()
queue.tend()
put(queue, Stream.LOGS, range(20))
queue.tend()
print("tended", flush=True)
sys.stdin.read()
"""


def test_a_round_of_upkeep_brings_what_was_put_to_the_platter(tmp_path: Path) -> None:
    live, platter = tmp_path / "live", tmp_path / "platter"
    live.mkdir()
    platter.mkdir()
    disk = FaultyDisk(live, tmp_path / "work", platter=platter)
    with subprocess.Popen(
        [sys.executable, "-c", ONE_ROUND, str(live)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **disk.env},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "tended\n"
        child.kill()
    disk.close()
    queue = open_queue(platter)  # what was synced, and nothing else
    assert drain(queue) == list(range(20))
    queue.close()


LONGEST_LIFE_SECONDS = 1.8
WINDOW_SECONDS = 1.0
"""What `synchronous: normal` may cost."""


def cut_power_under_a_writer(directory: Path, synchronous: str, seed: int) -> int:
    """Kills a writer whose syncs are watched, and lets its disk forget what was never synced, in part and torn.

    Returns:
        Records that were put and are gone: with `full` there must not be any.
    """
    dice = random.Random(seed)
    live, platter = directory / "live", directory / "platter"
    live.mkdir(parents=True)
    platter.mkdir()
    disk = FaultyDisk(live, directory / "work", platter=platter)
    owed: list[tuple[float, int]] = []  # when a put was over, and the number after its last one
    sent: set[int] = set()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(live), "0", synchronous],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **disk.env},
    ) as child:
        assert child.stdout is not None
        until = 0.0
        for line in child.stdout:
            now = time.monotonic()
            until = until or now + dice.uniform(0, LONGEST_LIFE_SECONDS)
            word, *rest = line.split()
            if word == "owed":
                owed.append((now, int(rest[0])))
            elif word == "sent":
                sent |= {int(number) for number in rest}
            if now >= until:
                child.kill()
    disk.close()
    for new in live.glob("queue.*"):
        old = platter / new.name
        if new.suffix == ".reserve":
            continue
        new.write_bytes(forgotten(old.read_bytes() if old.exists() else b"", new.read_bytes(), dice))
    (live / "queue.db-shm").unlink(missing_ok=True)
    got, told = second_life(live, synchronous)
    put_at = {number: at for (at, end) in reversed(owed) for number in range(end - 20, end)}
    lost = set(put_at) - set(got) - sent
    if synchronous == "full":
        assert not lost, f"{len(lost)} of {len(put_at)} were put and are gone"
    early = [number for number in lost if put_at[number] < owed[-1][0] - WINDOW_SECONDS]
    assert not early, f"{len(early)} were put more than {WINDOW_SECONDS} s before the cut and are gone"
    said = [h.gap for h in told.of(GapEnded) if h.gap.cause is GapCause.CORRUPTION]
    assert said or not lost, "a loss is said"
    return len(lost)


def forgotten(old: bytes, new: bytes, dice: random.Random) -> bytes:
    """A file after the cut: what was synced for certain, and some sectors of what was written since."""
    keep = dice.choice((0.0, 0.5, dice.random()))
    size = max(len(old), len(new)) if keep else len(old)
    old, new = old.ljust(size, b"\0"), new.ljust(size, b"\0")
    sectors = (
        (new if dice.random() < keep else old)[start : start + SECTOR_BYTES] for start in range(0, size, SECTOR_BYTES)
    )
    return b"".join(sectors)


@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_what_was_synced_is_there_after_a_power_cut_under_a_writer(tmp_path: Path, synchronous: str) -> None:
    cut_power_under_a_writer(tmp_path, synchronous, seed=1)


@pytest.mark.parametrize(("synchronous", "said"), [("normal", True), ("full", False)])
def test_a_power_cut_is_said_where_it_may_have_taken_something(tmp_path: Path, synchronous: str, said: bool) -> None:
    live = tmp_path / "live"
    queue = DurableQueue.open(
        section_from(QueueSettings, {"directory": live, "synchronous": synchronous}),
        tell=Told(),
        record_gap=gaps_told_by(Told()),
        boot="first",
    )
    put(queue, Stream.LOGS, [1])
    cut = snapshot(live, tmp_path / "cut")
    queue.close()
    (cut / "queue.db-shm").unlink(missing_ok=True)
    got, told = second_life(cut, synchronous)
    assert (got, bool(told.of(GapEnded))) == ([1], said)


def test_a_clean_end_is_not_taken_for_a_power_cut(tmp_path: Path) -> None:
    for boot in ("first", "second"):
        told = Told()
        queue = DurableQueue.open(
            QueueSettings(directory=tmp_path), tell=told, record_gap=gaps_told_by(told), boot=boot
        )
        put(queue, Stream.LOGS, [1])
        queue.close()
        assert not told.of(GapEnded)
