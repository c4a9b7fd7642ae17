"""A damaged file never stops a start: what is whole is kept, what is lost is counted and said."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.dequeue import IDLE_ROUNDS
from otelbridge.queue.model import Accepted, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.recovery import carve
from otelbridge.queue.settings import QueueSettings
from otelbridge.telemetry.events import GapEnded, QueueSalvaged
from tests.integration.queue.damage import DAMAGES, Damage, damage_file, judge_start
from tests.integration.queue.oracle import (
    Disk,
    Told,
    assert_balanced,
    disk_error,
    drain,
    dropped,
    numbers_of,
    open_queue,
    put,
    take,
)
from tests.records import gaps_told_by

LATER = RetryLater(code="UNAVAILABLE", why="away")
SEEDS = range(1)


def kept(directory: Path, *, crashed: bool) -> tuple[set[int], set[int]]:
    """A queue of an earlier life: the records that it owes, and those that it has delivered."""
    queue = open_queue(directory)
    for n in range(60):
        put(queue, (Stream.LOGS, Stream.ALERTS, Stream.MESSAGES)[n % 3], range(20 * n, 20 * n + 20))
    settled: set[int] = set()
    for _ in range(3):
        lease = take(queue, max_records=100)
        settled |= set(numbers_of(lease))
        queue.settle(lease, Accepted())
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    queue.close()
    if crashed:  # the files as a killed process leaves them: with a log that is not in the database yet
        shutil.rmtree(directory)
        copy.rename(directory)
    else:
        shutil.rmtree(copy)
    return set(range(1200)) - settled, settled


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", ["queue.db", "queue.db-wal", "queue.checkpoint"])
def test_a_start_survives(tmp_path: Path, file: str, damage: Damage, seed: int) -> None:
    directory = tmp_path / "queue"
    owed, settled = kept(directory, crashed=file != "queue.db" or bool(seed % 2))
    damage_file(directory / file, damage, random.Random(f"{file} {damage.__name__} {seed}"))
    judge_start(directory, owed, settled)


def test_a_schema_that_is_no_text_any_more_is_damage_like_any_other(tmp_path: Path) -> None:
    """SQLite quotes the bytes in what it says of them, and Python's module fails to decode that."""
    owed, settled = kept(tmp_path, crashed=False)
    file = tmp_path / "queue.db"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"CREATE TABLE checkpoint", b"CREATE TABL\xa0 checkpoint"))
    with pytest.raises(UnicodeDecodeError), closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA auto_vacuum")

    assert judge_start(tmp_path, owed, settled) == 0


def test_an_empty_and_a_missing_database_are_started_anew_and_the_loss_is_said(tmp_path: Path) -> None:
    for ending in ("empty", "missing"):
        directory = tmp_path / ending
        owed, settled = kept(directory, crashed=False)
        (directory / "queue.db").unlink()
        if ending == "empty":
            (directory / "queue.db").touch()
        assert judge_start(directory, owed, settled) == len(owed)


def test_a_lost_log_is_noticed_by_the_checkpoints_copy_and_counted_exactly(tmp_path: Path) -> None:
    directory = tmp_path / "queue"
    kept(directory, crashed=True)
    before = sqlite3.connect(f"file:{directory}/queue.db?mode=ro&immutable=1", uri=True)
    tables = before.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    before.close()
    (directory / "queue.db-wal").unlink()
    told = Told()
    queue = open_queue(directory, told)
    got = drain(queue)
    lost = 1200 - len(got) - sum(p.records for p in queue.ledger().postings() if p.account == "delivered") + len(got)
    assert tables == 0 or got
    assert sum(dropped(queue, "corrupt").values()) == lost > 0
    assert sum(h.gap.lost_records or 0 for h in told.of(GapEnded)) == lost
    assert_balanced(queue)
    queue.close()


def test_broken_files_are_set_aside_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    for _ in range(4):
        told = Told()
        queue = open_queue(tmp_path, told)
        put(queue, Stream.LOGS, [1])
        queue.close()
        damage_file(tmp_path / "queue.db", DAMAGES[5], random.Random(1))
        open_queue(tmp_path, told).close()
        (salvaged,) = told.of(QueueSalvaged)
        assert Path(salvaged.set_aside).exists()
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 2


def test_a_database_with_a_broken_tree_gives_back_nearly_all(tmp_path: Path) -> None:
    directory = tmp_path / "queue"
    owed, settled = kept(directory, crashed=False)
    content = bytearray((directory / "queue.db").read_bytes())
    content[:8192] = bytes(8192)  # the header, the schema: SQLite has nothing left to go by
    (directory / "queue.db").write_bytes(content)
    assert judge_start(directory, owed, settled) == 0


def test_what_only_the_log_has_is_carved_too(tmp_path: Path) -> None:
    queue = open_queue(tmp_path / "queue")
    for n in range(60):
        put(queue, Stream.LOGS, [n])
    queue.upkeep.stop()
    shutil.copytree(tmp_path / "queue", tmp_path / "crashed")
    database, log = (tmp_path / "crashed" / name for name in ("queue.db", "queue.db-wal"))
    assert database.stat().st_size < log.stat().st_size
    found = sorted(n for _, batch in carve(database) for n in numbers_of(batch.request))
    assert sorted(set(found)) == list(range(60))
    queue.close()


@pytest.mark.parametrize("running", [True, False], ids=["running", "at a start"])
def test_what_was_delivered_does_not_come_back_out_of_the_remains_of_a_broken_file(
    tmp_path: Path, running: bool
) -> None:
    told, disk = Told(), Disk()
    queue = DurableQueue.open(
        QueueSettings(directory=tmp_path), tell=told, record_gap=gaps_told_by(told), connect=disk.connect
    )
    queue.upkeep.stop()
    for n in range(60):
        put(queue, Stream.LOGS, range(20 * n, 20 * n + 20))
    for _ in range(3):
        queue.settle(take(queue, max_records=200), Accepted())
    if running:
        assert queue._state.file.store is not None
        assert queue._state.file.store.move_log()
    else:
        queue.close()
    file = tmp_path / "queue.db"
    assert len({batch_id for batch_id, _ in carve(file)}) > 30, "deleted rows are in the file still"
    with file.open("r+b") as broken:
        broken.write(bytes(8192))  # without the header only the pages are left to go by
    if running:
        failures = iter([disk_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")])
        disk.fails = lambda sql: next(failures, None) if sql.startswith("INSERT") else None
        put(queue, Stream.LOGS, range(1200, 1220))
        assert told.of(QueueSalvaged)
    else:
        queue = open_queue(tmp_path)
        put(queue, Stream.LOGS, range(1200, 1220))
    assert drain(queue) == list(range(600, 1220))
    assert_balanced(queue)
    queue.close()


def test_damage_while_running_is_salvaged_and_what_is_leased_comes_along(tmp_path: Path) -> None:
    told, disk = Told(), Disk()
    queue = DurableQueue.open(
        QueueSettings(directory=tmp_path),
        tell=told,
        record_gap=gaps_told_by(told),
        connect=disk.connect,
    )
    for n in range(40):
        put(queue, Stream.LOGS, range(10 * n, 10 * n + 10))
    lease = take(queue, max_records=100)
    failures = iter([disk_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")])
    disk.fails = lambda sql: next(failures, None) if sql.startswith("INSERT") else None
    put(queue, Stream.LOGS, range(400, 410))
    assert len(told.of(QueueSalvaged)) == 1
    queue.settle(lease, LATER)
    assert drain(queue) == list(range(410))
    assert_balanced(queue)
    queue.close()


def test_what_is_leased_and_only_in_part_in_the_old_file_is_handed_out_once(tmp_path: Path) -> None:
    told, disk = Told(), Disk()
    queue = DurableQueue.open(
        QueueSettings(directory=tmp_path), tell=told, record_gap=gaps_told_by(told), connect=disk.connect
    )
    for n in range(4):
        put(queue, Stream.LOGS, range(10 * n, 10 * n + 10))
    lease = take(queue, max_records=20)
    with closing(sqlite3.connect(tmp_path / "queue.db")) as base, base:
        base.execute("DELETE FROM batches WHERE id = ?", (lease.batch_ids[0],))
    failures = iter([disk_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")])
    disk.fails = lambda sql: next(failures, None) if sql.startswith("INSERT") else None
    put(queue, Stream.LOGS, range(40, 50))
    assert len(told.of(QueueSalvaged)) == 1
    assert drain(queue) == list(range(20, 50))
    queue.settle(lease, LATER)
    assert drain(queue) == list(range(20))
    assert_balanced(queue)
    queue.close()


def test_a_disk_that_reads_each_new_file_wrong_too_is_given_up_for_now(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(4):
        put(queue, Stream.LOGS, range(10 * n, 10 * n + 10))
    queue.close()
    disk, told = Disk(), Told()
    queue = DurableQueue.open(
        QueueSettings(directory=tmp_path), tell=told, record_gap=gaps_told_by(told), connect=disk.connect
    )
    error = disk_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")
    disk.fails = lambda sql: error if "checksum, request FROM batches" in sql else None
    assert queue.take(max_bytes=1 << 20, max_records=100) is None
    assert len(told.of(QueueSalvaged)) == IDLE_ROUNDS
    disk.fails = lambda _: None
    assert drain(queue) == list(range(40))
    assert_balanced(queue)
    queue.close()


def test_a_file_overwritten_while_running_costs_what_was_not_leased_and_is_said(tmp_path: Path) -> None:
    told = Told()
    queue = open_queue(tmp_path, told)
    for n in range(200):
        put(queue, Stream.LOGS, range(100 * n, 100 * n + 100))
    lease = take(queue, max_records=200)
    for name in ("queue.db", "queue.db-wal"):
        path = tmp_path / name
        with path.open("r+b") as file:
            file.write(random.Random(2).randbytes(path.stat().st_size))
    for n in range(200, 210):
        put(queue, Stream.LOGS, range(100 * n, 100 * n + 100))
    got = numbers_of(lease)
    queue.settle(lease, Accepted())
    got += drain(queue)
    assert len(got) == len(set(got))
    lost = set(range(21000)) - set(got)
    assert sum(dropped(queue, "corrupt").values()) == len(lost)
    assert not lost or told.of(GapEnded)
    assert set(range(20000, 21000)) <= set(got)
    assert_balanced(queue)
    queue.close()


def test_dead_letters_that_a_damaged_file_has_lost_are_counted_no_more(tmp_path: Path) -> None:
    told = Told()
    queue = open_queue(tmp_path, told)
    queue.upkeep.stop()
    put(queue, Stream.LOGS, [1])
    queue.dead_letter(take(queue), Refused(code="400", why="no"))
    for name in ("queue.db", "queue.db-wal"):
        path = tmp_path / name
        path.write_bytes(random.Random(2).randbytes(path.stat().st_size))
    assert queue._state.file.store is not None
    queue._state.file.store._connection.execute("PRAGMA shrink_memory")  # what SQLite has in memory is whole
    assert queue.dead_letters() == []
    assert told.of(QueueSalvaged)
    queue.tend()
    assert queue.depth().dead_letters == 0
    assert_balanced(queue)
    queue.close()


def test_one_damaged_batch_costs_itself_only(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(30):
        put(queue, Stream.ALERTS, range(10 * n, 10 * n + 10))
    queue.close()
    base = sqlite3.connect(tmp_path / "queue.db")
    ids = [row[0] for row in base.execute("SELECT id FROM batches ORDER BY id")]
    base.execute("UPDATE batches SET request = zeroblob(5120) WHERE id = ?", (ids[3],))
    base.execute("UPDATE batches SET records = 7 WHERE id = ?", (ids[9],))
    base.commit()
    base.close()
    told = Told()
    queue = open_queue(tmp_path, told)
    assert drain(queue) == [n for n in range(300) if not (30 <= n < 40 or 90 <= n < 100)]
    assert dropped(queue, "corrupt") == {Stream.ALERTS: 20}
    assert sum(h.gap.lost_records or 0 for h in told.of(GapEnded)) == 20
    assert_balanced(queue)
    queue.close()
