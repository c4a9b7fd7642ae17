"""The long campaigns of the queue: the everyday faults, thousands of times, with seeds that can be run again."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Accepted, Batch
from tests.acceptance.pairs import in_pairs
from tests.acceptance.seeds import fresh_seed, rounds
from tests.integration.queue.damage import DAMAGES, damage_file, judge_start
from tests.integration.queue.faulty_lives import LIVES
from tests.integration.queue.oracle import assert_balanced, open_queue
from tests.integration.queue.test_durability import Sink, cut_power, cut_power_under_a_writer
from tests.integration.queue.test_faulty_lives import lives
from tests.integration.queue.test_recovery import kept
from tests.torture_report import record

pytestmark = pytest.mark.torture

KILLS_PER_SEED = 20
KILL_SEEDS = 50
POWER_CUTS = 200
DAMAGE_RUNS = 2_000
SLOWEST_START_SECONDS = 2.0
MOST_RESIDENT_MIB = 100
FAULTY_PLACES = 40
"""Of each operation in a life; of most there are no more."""
FAULTY_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENOMEM)
FILES = ("queue.db", "queue.db-wal", "queue.checkpoint")


@dataclass(frozen=True, slots=True)
class Turn:
    """One seed's work, in a folder of its own."""

    folder: Path
    seed: int
    variant: str = ""


def turns_of(folder: Path, first_seed: int, times: int, variant: str = "") -> list[Turn]:
    return [Turn(folder / str(seed), seed, variant) for seed in range(first_seed, first_seed + times)]


@dataclass(slots=True)
class Tally:
    """What came of the turns so far."""

    first_seed: int
    turns: int = 0
    faults: dict[int, str] = field(default_factory=dict)

    def count(self, turn: Turn, fault: str) -> None:
        shutil.rmtree(turn.folder, ignore_errors=True)
        self.turns += 1
        if fault:
            self.faults[turn.seed] = fault

    def record(self, name: str, figures: dict[str, object]) -> None:
        """Writes what is known, and fails if a turn did."""
        common = {"first_seed": self.first_seed, "turns": self.turns, "bad_seeds": sorted(self.faults)}
        record(name, common | figures, passed=not self.faults)
        assert not self.faults, self.faults


def kill_writers(turn: Turn) -> tuple[int, int]:
    turn.folder.mkdir()
    dice = random.Random(turn.seed)
    sink = Sink()
    for _ in range(KILLS_PER_SEED):
        sink.watch(turn.folder / "queue", dice)
    sink.judge(turn.folder / "queue")
    return len(sink.owed), len(sink.in_flight)


def test_a_thousand_kills(tmp_path: Path) -> None:
    tally = Tally(fresh_seed())
    owed = in_flight = 0
    for turn, found, fault in in_pairs(kill_writers, turns_of(tmp_path, tally.first_seed, rounds(KILL_SEEDS))):
        tally.count(turn, fault)
        owed, in_flight = owed + (found or (0, 0))[0], in_flight + (found or (0, 0))[1]
    kills = tally.turns * KILLS_PER_SEED
    tally.record("queue: kill -9 of a writer", {"kills": kills, "owed": owed, "in_flight": in_flight})


def cut(turn: Turn) -> int:
    turn.folder.mkdir()
    cut_power(turn.folder / "snapshots", turn.variant, turn.seed)
    return cut_power_under_a_writer(turn.folder / "writer", turn.variant, turn.seed)


@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_two_hundred_power_cuts(tmp_path: Path, synchronous: str) -> None:
    tally = Tally(fresh_seed())
    lost: list[int] = []
    for turn, found, fault in in_pairs(cut, turns_of(tmp_path, tally.first_seed, rounds(POWER_CUTS), synchronous)):
        tally.count(turn, fault)
        lost.append(found or 0)
    tally.record(
        f"queue: power cut, {synchronous}",
        {
            "cuts": 2 * tally.turns,
            "cuts_that_lost_something": sum(map(bool, lost)),
            "most_records_lost_of_the_last_second": max(lost),
        },
    )


def damage(turn: Turn) -> tuple[str, int, float]:
    turn.folder.mkdir()
    harm = DAMAGES[turn.seed % len(DAMAGES)]
    file = FILES[turn.seed // len(DAMAGES) % len(FILES)]
    directory = turn.folder / "queue"
    owed, settled = kept(directory, crashed=file != "queue.db" or bool(turn.seed % 2))
    damage_file(directory / file, harm, random.Random(turn.seed))
    began = time.monotonic()
    lost = judge_start(directory, owed, settled)
    return f"{file} {harm.__name__}", lost, time.monotonic() - began


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    tally = Tally(fresh_seed())
    lost = Counter[str]()
    slowest = 0.0
    for turn, found, fault in in_pairs(damage, turns_of(tmp_path, tally.first_seed, rounds(DAMAGE_RUNS))):
        tally.count(turn, fault)
        if found is not None:
            name, records, seconds = found
            lost[name] += records
            slowest = max(slowest, seconds)
    tally.record(
        "queue: damaged files",
        {
            "records_lost_by_damage": dict(sorted(lost.items())),
            "slowest_start_and_drain_seconds": round(slowest, 3),
        },
    )


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize(("batch_bytes", "records"), [(60_000, 100), (700, 1)])
def test_a_full_backlog_costs_no_memory_and_opens_at_once(tmp_path: Path, batch_bytes: int, records: int) -> None:
    queue = open_queue(tmp_path, max_bytes=512 * 2**20)
    body = random.Random(1).randbytes(batch_bytes)
    batch = Batch(stream=Stream.LOGS, request=body, records=records, oldest_received_unix_nano=time.time_ns())
    before = resident_mib()
    for _ in range(512 * 2**20 // batch_bytes):
        queue.put([batch], [Posting(Stream.LOGS, Account.RECEIVED, "", records)])
    held, grown = queue.depth().records, resident_mib() - before
    queue.close()
    began = time.monotonic()
    queue = open_queue(tmp_path, max_bytes=512 * 2**20)
    opened = time.monotonic() - began
    began = time.monotonic()
    for _ in range(50):
        lease = queue.take(max_bytes=2**20, max_records=8192)
        assert lease is not None
        queue.settle(lease, Accepted())
    taken = (time.monotonic() - began) / 50
    assert_balanced(queue)
    queue.close()
    figures: dict[str, object] = {
        "held_records": held,
        "resident_growth_mib": round(grown, 1),
        "open_seconds": round(opened, 3),
        "take_and_settle_of_a_mebibyte_ms": round(taken * 1e3, 2),
    }
    passed = grown < MOST_RESIDENT_MIB and opened < SLOWEST_START_SECONDS
    record(f"queue: 512 MiB held in batches of {batch_bytes} bytes", figures, passed=passed)
    assert passed, figures


@pytest.mark.parametrize("life", LIVES)
def test_any_call_may_fail_at_any_place_of_a_life(tmp_path: Path, life: str) -> None:
    with lives(tmp_path) as on_a_faulty_disk:
        wrong = on_a_faulty_disk.wrong(life, FAULTY_PLACES, FAULTY_ERRORS, lasting=(False, True))
        lived = on_a_faulty_disk.lived
    record(f"queue: a call fails, {life}", {"lives": lived, "wrong": wrong}, not wrong)
    assert not wrong
