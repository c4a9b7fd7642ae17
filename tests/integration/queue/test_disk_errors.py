"""A disk that is full or fails for a while: batches wait, exports go on, and the ledger balances all the time."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.disk import WAL_LIMIT_BYTES
from otelbridge.queue.file import too_long
from otelbridge.queue.model import Accepted, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.setting import section_from
from otelbridge.telemetry.events import GapEnded, QueueDegraded, QueueRecovered, QueueSalvaged
from tests.integration.queue.oracle import (
    RECORD_BYTES,
    Disk,
    Told,
    assert_balanced,
    batch_of,
    disk_error,
    drain,
    dropped,
    numbers_of,
    open_queue,
    put,
    take,
)
from tests.peers.small_disk import mounted
from tests.records import gaps_told_by
from tests.waiting import eventually

MIB = 1024 * 1024
SAY_SECONDS = 3.0
"""The bar is one second; torture asks for it. Beside other tests everything takes its time."""
LATER = RetryLater(code="UNAVAILABLE", why="away")


def open_on(disk: Disk, directory: Path, told: Told, **settings: object) -> DurableQueue:
    return DurableQueue.open(
        section_from(QueueSettings, {"directory": directory, **settings}),
        tell=told,
        record_gap=gaps_told_by(told),
        connect=disk.connect,
    )


@pytest.mark.parametrize("fault", ["full", "broken"])
@pytest.mark.parametrize(
    "words", [("INSERT",), ("DELETE",), ("COMMIT",), ("BEGIN",), ("INSERT", "DELETE", "SELECT", "PRAGMA")]
)
def test_the_queue_goes_on_while_the_disk_fails_and_recovers_by_itself(
    tmp_path: Path, fault: str, words: tuple[str, ...]
) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    for n in range(10):
        put(queue, Stream.LOGS, [n])
    out = take(queue, max_records=2)
    getattr(disk, fault)(words=words)
    for n in range(10, 20):
        put(queue, Stream.LOGS, [n])
        assert_balanced(queue)
    queue.settle(out, Accepted())
    assert_balanced(queue)
    assert len(told.of(QueueDegraded)) == 1
    assert queue.depth().degraded
    got = numbers_of(out) + drain(queue, max_records=3)
    assert_balanced(queue)
    disk.well()
    eventually(lambda: told.of(QueueRecovered), within_seconds=5, why="the queue's own thread tries again")
    put(queue, Stream.LOGS, [20])
    got += drain(queue)
    assert sorted(got) == list(range(21)), "each exactly once within a life"
    assert_balanced(queue)
    queue.close()
    queue = open_queue(tmp_path)
    assert drain(queue) == [], "the acknowledgements came to disk"
    assert_balanced(queue)
    queue.close()


def test_a_backlog_that_is_delivered_while_nothing_can_be_written_costs_no_more_with_each_batch(tmp_path: Path) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    queue.upkeep.stop()
    for n in range(200):
        put(queue, Stream.LOGS, [n])
    disk.broken()
    put(queue, Stream.LOGS, [200])
    got: list[int] = []
    most = 0
    while len(got) < 150:
        disk.statements.clear()
        leases = [take(queue, max_records=1) for _ in range(3)]
        queue.replace(leases[0], [batch_of(Stream.LOGS, numbers_of(leases[0]))])
        for lease in reversed(leases[1:]):  # not in the order in which they were leased
            queue.settle(lease, Accepted())
        again = take(queue, max_records=1)
        queue.settle(again, Accepted())
        got += [n for lease in (again, *leases[1:]) for n in numbers_of(lease)]
        most = max(most, len(disk.statements))
    assert most < 40, "statements of four takes"
    assert len(queue._state.leases.settled()) < 10
    disk.well()
    while queue.tend() or queue.depth().degraded:
        pass
    got += drain(queue)
    assert sorted(got) == list(range(201)), "each once"
    assert_balanced(queue)
    queue.close()
    queue = open_queue(tmp_path)
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()


def test_what_was_watched_while_only_memory_held_what_came_is_not_noted(tmp_path: Path) -> None:
    """A kill would lose what came since: then the gap of the restart has to begin before it."""
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path / "queue", told)
    queue.upkeep.stop()
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    disk.broken()
    put(queue, Stream.LOGS, [1])
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 9})
    for noted in (7, 9):
        killed = tmp_path / f"killed-{noted}"
        shutil.copytree(tmp_path / "queue", killed)
        after = open_queue(killed)
        assert after.last_watching() == {("relay:1", Stream.LOGS): noted}
        after.close()
        disk.well()
        while queue.tend() or queue.depth().degraded:
            pass
        put(queue, Stream.LOGS, [2])
    queue.close()


def test_batches_that_waited_in_memory_survive_a_restart_after_the_recovery(tmp_path: Path) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    put(queue, Stream.ALERTS, [0])
    disk.full()
    for n in range(1, 50):
        put(queue, Stream.ALERTS if n % 2 else Stream.LOGS, [n])
    assert queue.depth().memory_records == 49
    disk.well()
    eventually(lambda: queue.depth().memory_records == 0, why="written when the disk takes writes")
    queue.close()
    queue = open_queue(tmp_path)
    assert sorted(drain(queue)) == list(range(50))
    assert_balanced(queue)
    queue.close()


def test_a_lease_from_memory_that_comes_back_is_written_too(tmp_path: Path) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    disk.broken()
    put(queue, Stream.LOGS, range(8))
    lease = take(queue)
    disk.well()
    eventually(lambda: told.of(QueueRecovered), why="recovery")
    queue.replace(lease, [batch_of(Stream.LOGS, range(4)), batch_of(Stream.LOGS, range(4, 8))])
    assert drain(queue, max_records=4) == list(range(8))
    assert_balanced(queue)
    queue.close()


def test_pieces_and_dead_letters_work_while_the_disk_is_full(tmp_path: Path) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    put(queue, Stream.LOGS, range(8))
    put(queue, Stream.LOGS, [8])
    disk.full()
    queue.replace(take(queue, max_records=8), [batch_of(Stream.LOGS, range(4)), batch_of(Stream.LOGS, range(4, 8))])
    queue.dead_letter(take(queue, max_records=4), Refused(code="400", why="no"))
    assert_balanced(queue)
    assert [numbers_of(letter.request) for letter in queue.dead_letters()] == [[0, 1, 2, 3]]
    lease = take(queue)
    assert numbers_of(lease) == [4, 5, 6, 7, 8]
    queue.settle(lease, LATER)
    disk.well()
    eventually(lambda: told.of(QueueRecovered), why="recovery")
    queue.close()
    queue = open_queue(tmp_path)
    assert drain(queue) == [4, 5, 6, 7, 8]
    assert [numbers_of(letter.request) for letter in queue.dead_letters()] == [[0, 1, 2, 3]]
    assert_balanced(queue)
    queue.close()


@pytest.mark.parametrize(("fault", "reason"), [("full", "queue_full"), ("broken", "disk_error")])
def test_memory_is_bounded_too_and_what_does_not_fit_is_counted(tmp_path: Path, fault: str, reason: str) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told, memory_max_bytes=MIB)
    for n in range(10):
        put(queue, Stream.LOGS, range(100 * n, 100 * n + 100))
    getattr(disk, fault)()
    for n in range(10, 40):
        put(queue, Stream.LOGS, range(100 * n, 100 * n + 100))
        assert_balanced(queue)
    in_memory = queue.depth().memory_records
    assert in_memory * RECORD_BYTES <= MIB < (in_memory + 100) * RECORD_BYTES
    assert dropped(queue, reason) == {Stream.LOGS: 3000 - in_memory}
    disk.well()
    eventually(lambda: told.of(QueueRecovered), why="recovery")
    assert drain(queue) == [*range(1000), *range(4000 - in_memory, 4000)]
    assert_balanced(queue)
    queue.close()


@pytest.mark.parametrize("overwritten", [False, True], ids=["reopened", "salvaged"])
def test_commits_that_failed_but_took_effect_are_neither_doubled_nor_lost(tmp_path: Path, overwritten: bool) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told, synchronous="full")
    queue.upkeep.stop()
    for n in range(5):
        put(queue, Stream.LOGS, [n])
    out = take(queue, max_records=2)
    disk.syncs_fail()
    for n in range(5, 10):
        put(queue, Stream.LOGS, [n])
        queue.tend()
    queue.settle(out, Accepted())
    got = numbers_of(out)
    for _ in range(6):  # all that is on disk, and some of what is in memory and perhaps on disk
        lease = take(queue, max_records=1)
        got += numbers_of(lease)
        queue.settle(lease, Accepted())
        assert_balanced(queue)
    returned = take(queue, max_records=1)
    disk.well()
    if overwritten:
        failures = iter([disk_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")])
        disk.fails = lambda sql: next(failures, None) if sql.startswith("BEGIN") else None
    while queue.tend() or queue.depth().degraded:
        assert_balanced(queue)
    assert len(told.of(QueueSalvaged)) == overwritten
    queue.settle(returned, LATER)
    put(queue, Stream.LOGS, [10])
    got += drain(queue)
    assert got == list(range(11)), "each once, in order"
    assert_balanced(queue)
    queue.close()
    queue = open_queue(tmp_path)
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()


def test_a_log_that_has_grown_is_moved_into_the_database_as_soon_as_it_can_be(tmp_path: Path) -> None:
    told = Told()
    queue = open_queue(tmp_path, told)
    log = tmp_path / "queue.db-wal"
    with closing(sqlite3.connect(tmp_path / "queue.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM batches").fetchone()
        for n in range(WAL_LIMIT_BYTES // (50 * RECORD_BYTES)):
            put(queue, Stream.LOGS, range(50 * n, 50 * n + 50))
        queue.tend()
        assert too_long(log)
        assert not told.of(QueueDegraded), "a reader that holds the log up is no trouble"
    queue.tend()
    put(queue, Stream.LOGS, [1])
    assert not too_long(log)
    assert log.stat().st_size <= WAL_LIMIT_BYTES
    assert_balanced(queue)
    queue.close()


def test_the_disk_is_said_to_be_degraded_at_once(tmp_path: Path) -> None:
    disk, told = Disk(), Told()
    queue = open_on(disk, tmp_path, told)
    disk.broken(words=("COMMIT",))
    put(queue, Stream.LOGS, [1])
    (degraded,) = told.of(QueueDegraded)
    assert "disk I/O error" in degraded.error
    disk.well()
    (recovered,) = eventually(lambda: told.of(QueueRecovered), why="recovery")
    assert recovered.degraded_seconds < 5
    queue.close()


# --- a real full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 8 * MIB) as place:
        yield place


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def test_a_really_full_disk_loses_nothing_and_doubles_nothing(small_disk: Path) -> None:
    told = Told()
    queue = open_queue(small_disk / "queue", told)
    number = 0
    for _ in range(20):
        put(queue, Stream.LOGS, range(number, number + 50))
        number += 50
    filler = fill(small_disk)
    got: list[int] = []
    while not told.of(QueueDegraded):
        put(queue, Stream.LOGS, range(number, number + 50))
        number += 50
    for _ in range(30):
        put(queue, Stream.LOGS, range(number, number + 50))
        number += 50
        lease = take(queue, max_records=50)
        got += numbers_of(lease)
        queue.settle(lease, Accepted())
        assert_balanced(queue)
    filler.unlink()
    began = time.monotonic()
    eventually(lambda: told.of(QueueRecovered) and not queue.depth().degraded, within_seconds=5, why="space is back")
    assert time.monotonic() - began < 5
    got += drain(queue)
    assert got == list(range(number))
    assert_balanced(queue)
    queue.close()
    queue = open_queue(small_disk / "queue")
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()


def test_a_full_disk_is_told_within_a_second_though_the_log_still_takes_what_comes(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 40 * MIB) as disk:
        told = Told()
        queue = open_queue(disk / "queue", told)
        eventually((disk / "queue" / "queue.reserve").exists, why="space is laid by")
        for n in range(500):  # the log goes round: it has space of its own from then on
            put(queue, Stream.LOGS, range(20 * n, 20 * n + 20))
        assert drain(queue) == list(range(10_000))
        filler = fill(disk)
        filled = time.monotonic()
        eventually(lambda: told.of(QueueDegraded), why="it is noticed")
        assert time.monotonic() - filled < SAY_SECONDS
        put(queue, Stream.LOGS, [1])
        depth = queue.depth()
        assert (depth.degraded, depth.memory_records) == (True, 0), "it is on disk all the same"
        filler.unlink()
        eventually(lambda: told.of(QueueRecovered), within_seconds=5, why="space is back")
        assert not queue.depth().degraded
        assert len(told.of(QueueDegraded)) == 1
        assert drain(queue) == [1]
        queue.close()


def test_a_disk_without_a_name_left_for_a_file_is_told_and_a_start_on_it_works_from_memory(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 40 * MIB, inodes=32) as disk:
        told = Told()
        queue = open_queue(disk / "queue", told)
        put(queue, Stream.LOGS, [1])
        names = take_all_names(disk)
        eventually(lambda: told.of(QueueDegraded), within_seconds=SAY_SECONDS, why="it is noticed")
        put(queue, Stream.LOGS, [2])
        queue.close()
        take_all_names(disk)
        queue = open_queue(disk / "queue", told)
        put(queue, Stream.LOGS, [3])
        for name in names:
            name.unlink()
        eventually(lambda: not queue.depth().degraded and not queue.depth().memory_records, why="names are back")
        assert drain(queue) == [1, 2, 3]
        assert_balanced(queue)
        assert not told.of(GapEnded)
        queue.close()


def take_all_names(place: Path) -> list[Path]:
    names = []
    with contextlib.suppress(OSError):
        for n in itertools.count():
            names.append(place / f"name-{time.monotonic_ns()}-{n}")
            names[-1].touch()
    return names[:-1]


def test_what_was_delivered_is_recorded_on_a_full_disk_too(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 40 * MIB) as disk:
        told = Told()
        queue = open_queue(disk / "queue", told)
        eventually((disk / "queue" / "queue.reserve").exists, why="space is laid by")
        for n in range(100):
            put(queue, Stream.LOGS, range(50 * n, 50 * n + 50))
        fill(disk)
        number = 5000
        while not told.of(QueueDegraded):
            put(queue, Stream.LOGS, range(number, number + 50))
            number += 50
        got = [n for _ in range(50) for n in settle_one(queue)]
        eventually(lambda: told.of(QueueRecovered), why="the reserve makes room for what was delivered")
        copy = tmp_path / "copy"
        shutil.copytree(disk / "queue", copy)  # as a killed process would leave it: the disk is full all the while
        assert_balanced(queue)
        queue.close()
        queue = open_queue(copy)
        left = drain(queue)
        assert sorted(got + left) == list(range(number)), "nothing lost, and nothing delivered comes back"
        assert_balanced(queue)
        queue.close()


def test_a_disk_that_the_queue_has_filled_to_the_last_byte_is_given_back_once_all_is_delivered(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 28 * MIB) as disk:
        told = Told()
        queue = open_queue(disk / "queue", told)
        eventually((disk / "queue" / "queue.reserve").exists, why="space is laid by")
        queue.upkeep.stop()
        queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
        number = 0
        full = 0
        while full < 20:  # with each recovery batches take what the reserve had given
            put(queue, Stream.LOGS, range(number, number + 50))
            number += 50
            if queue.depth().degraded:
                queue.tend()
                full += queue.depth().degraded
        got = [n for _ in range(number // 50) for n in settle_one(queue)]
        assert got == list(range(number))
        assert queue.depth().degraded
        assert_balanced(queue)
        for _ in range(5):
            put(queue, Stream.LOGS, [number])
            queue.tend()
            number += 1
        assert not queue.depth().degraded
        assert queue.depth().memory_records == 0
        assert (disk / "queue" / "queue.db").stat().st_size < MIB
        assert not told.of(QueueSalvaged), "the queue gave its file up by itself"
        assert_balanced(queue)
        queue.close()
        queue = open_queue(disk / "queue")
        assert drain(queue) == list(range(number - 5, number))
        assert queue.last_watching() == {("relay:1", Stream.LOGS): 7}
        assert_balanced(queue)
        queue.close()


def settle_one(queue: DurableQueue) -> list[int]:
    lease = take(queue, max_records=50)
    queue.settle(lease, Accepted())
    return numbers_of(lease)


def test_a_backlog_is_delivered_and_taken_over_by_a_start_on_a_full_disk(small_disk: Path) -> None:
    queue = open_queue(small_disk / "queue")
    for n in range(20):
        put(queue, Stream.LOGS, [n])
    queue.close()
    filler = fill(small_disk)
    queue = open_queue(small_disk / "queue")
    put(queue, Stream.LOGS, [20])
    got = drain(queue)
    filler.unlink()
    eventually(lambda: not queue.depth().degraded, why="space is back")
    got += drain(queue)
    assert sorted(got) == list(range(21))
    assert_balanced(queue)
    queue.close()


def test_a_start_on_a_full_disk_works_from_memory(small_disk: Path) -> None:
    told = Told()
    filler = fill(small_disk)
    queue = open_queue(small_disk, told)
    put(queue, Stream.ALERTS, [1, 2, 3])
    lease = take(queue)
    assert numbers_of(lease) == [1, 2, 3]
    queue.settle(lease, LATER)
    filler.unlink()
    eventually(lambda: queue.depth().memory_records == 0, within_seconds=5, why="space is back")
    assert drain(queue) == [1, 2, 3]
    assert_balanced(queue)
    queue.close()
