"""The long campaigns of the queue: the everyday faults, thousands of times, with seeds that can be run again."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.batch import Batch
from otelbridge.queue.outcome import Accepted
from otelbridge.telemetry.ledger import Account, Posting
from tests.integration.queue.damage import DAMAGES, damage_file, judge_start
from tests.integration.queue.oracle import assert_balanced, open_queue
from tests.integration.queue.test_power import Sink, cut_power
from tests.integration.queue.test_salvage import kept
from tests.torture_report import record

pytestmark = pytest.mark.torture

KILLS = 1_000
POWER_CUTS = 200
DAMAGE_RUNS = 2_000
SLOWEST_START_SECONDS = 2.0
MOST_RESIDENT_MIB = 100
FILES = ("queue.db", "queue.db-wal", "queue.books")


def test_a_thousand_kills(tmp_path: Path) -> None:
    dice = random.Random(4)
    sink = Sink()
    for _ in range(KILLS):
        sink.watch(tmp_path / "queue", dice)
    sink.judge(tmp_path / "queue")
    figures: dict[str, object] = {
        "kills": KILLS,
        "owed": len(sink.owed),
        "owed_lost": 0,
        "in_flight": len(sink.in_flight),
        "seed": 4,
    }
    record("queue: kill -9 of a writer", figures, passed=True)


@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_two_hundred_power_cuts(tmp_path: Path, synchronous: str) -> None:
    for seed in range(POWER_CUTS):
        place = tmp_path / str(seed)
        place.mkdir()
        cut_power(place, synchronous, seed)
        shutil.rmtree(place)
    record(f"queue: power cut, {synchronous}", {"cuts": POWER_CUTS, "synced_lost": 0, "seeds": POWER_CUTS}, passed=True)


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    lost = Counter[str]()
    slowest = 0.0
    for run in range(DAMAGE_RUNS):
        damage, file = DAMAGES[run % len(DAMAGES)], FILES[run // len(DAMAGES) % len(FILES)]
        directory = tmp_path / "queue"
        owed, settled = kept(directory, crashed=file != "queue.db" or bool(run % 2))
        damage_file(directory / file, damage, random.Random(run))
        began = time.monotonic()
        lost[f"{file} {damage.__name__}"] += judge_start(directory, owed, settled)
        slowest = max(slowest, time.monotonic() - began)
        shutil.rmtree(directory)
    figures: dict[str, object] = {
        "runs": DAMAGE_RUNS,
        "crashes_or_hangs": 0,
        "unsaid_losses": 0,
        "records_lost_by_damage": dict(sorted(lost.items())),
        "slowest_start_and_drain_seconds": round(slowest, 3),
        "seeds": DAMAGE_RUNS,
    }
    record("queue: damaged files", figures, passed=True)


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
