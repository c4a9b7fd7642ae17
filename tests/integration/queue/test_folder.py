"""What others do to the queue's folder under a running queue: it is told within a second, and costs nothing open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from otelbridge.event import UPSTREAM_STREAMS, GapCause, Stream
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.disk import owner_of
from otelbridge.queue.model import Accepted, QueueInUse, QueueUnusable, RetryLater
from otelbridge.telemetry.events import GapEnded, QueueDegraded, QueueFolderExposed, QueueRecovered, QueueSalvaged
from tests.integration.queue.oracle import (
    Told,
    assert_balanced,
    drain,
    dropped,
    numbers_of,
    open_queue,
    put,
    take,
)
from tests.peers.small_disk import mounted
from tests.waiting import eventually

SECOND = 1_000_000_000
SAY_SECONDS = 3.0
"""The bar is one second; torture asks for it. Beside other tests everything takes its time."""
Act = Callable[[Path], None]


def delete_the_database(folder: Path) -> None:
    (folder / "queue.db").unlink()


def delete_the_log(folder: Path) -> None:
    (folder / "queue.db-wal").unlink()


def delete_the_shared_memory(folder: Path) -> None:
    (folder / "queue.db-shm").unlink()


def delete_all_files(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def delete_the_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def rename_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replace_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


def replace_the_database_by_rubbish(folder: Path) -> None:
    other = folder / "other"
    other.write_bytes(b"not a database" * 1000)
    other.replace(folder / "queue.db")


def restore_an_old_database(folder: Path) -> None:
    other = folder / "other"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE something (x)")
    other.replace(folder / "queue.db")


def rename_the_database(folder: Path) -> None:
    (folder / "queue.db").rename(folder / "kept.db")


TAKEN_AWAY = (
    delete_the_database,
    delete_the_log,
    delete_the_shared_memory,
    delete_all_files,
    delete_the_folder,
    rename_the_folder,
    replace_the_folder,
    replace_the_database_by_rubbish,
    restore_an_old_database,
    rename_the_database,
)


@pytest.mark.parametrize("act", TAKEN_AWAY, ids=lambda act: act.__name__)
def test_files_that_are_taken_away_are_made_anew_with_all_that_was_in_them(tmp_path: Path, act: Act) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    for n in range(50):
        put(queue, Stream.LOGS, [n])
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    delivered = take(queue, max_records=10)
    returned = take(queue, max_records=10)
    act(folder)
    eventually(lambda: told.of(QueueDegraded), within_seconds=SAY_SECONDS, why="it is noticed")
    for n in range(50, 60):
        put(queue, Stream.LOGS, [n])
    queue.settle(delivered, Accepted())
    queue.settle(returned, RetryLater(code="UNAVAILABLE", why="away"))
    eventually(lambda: told.of(QueueRecovered), why="new files")
    assert_balanced(queue)
    copy = tmp_path / "killed"
    shutil.copytree(folder, copy)  # as a killed process would leave it
    for directory in (copy, folder):
        if directory == folder:
            queue.close()
        second = open_queue(directory)
        assert drain(second) == list(range(10, 60))
        assert second.last_watching() == {("relay:1", Stream.LOGS): 7}
        assert_balanced(second)
        second.close()
    assert len(told.of(QueueDegraded)) == 1
    assert not told.of(GapEnded), "nothing is missing"


def test_a_folder_that_is_gone_when_the_queue_is_closed_is_made_anew(tmp_path: Path) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    queue.upkeep.stop()
    put(queue, Stream.ALERTS, range(5))
    shutil.rmtree(folder)
    queue.close()
    queue = open_queue(folder)
    assert drain(queue) == list(range(5))
    queue.close()


def test_a_folder_in_whose_place_is_a_file_is_told_until_the_file_is_gone(tmp_path: Path) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    queue.upkeep.stop()  # between the two acts it could make the folder anew
    put(queue, Stream.LOGS, range(5))
    folder.rename(tmp_path / "moved")
    folder.touch()
    for _ in range(3):
        queue.tend()
    assert len(told.of(QueueDegraded)) == 1
    put(queue, Stream.LOGS, range(5, 10))
    assert queue.depth().degraded
    lease = take(queue, max_records=5)
    assert numbers_of(lease) == list(range(5)), "what is open can be read all the while"
    queue.settle(lease, Accepted())
    folder.unlink()
    while queue.tend():
        pass
    assert told.of(QueueRecovered), "a folder can be made again"
    queue.close()
    queue = open_queue(folder)
    assert drain(queue) == list(range(5, 10))
    assert_balanced(queue)
    queue.close()


def truncate_the_database(folder: Path) -> None:
    os.truncate(folder / "queue.db", 0)


def truncate_the_log(folder: Path) -> None:
    os.truncate(folder / "queue.db-wal", 0)


def truncate_both(folder: Path) -> None:
    truncate_the_database(folder)
    truncate_the_log(folder)


@pytest.mark.parametrize("act", [truncate_the_database, truncate_the_log, truncate_both], ids=lambda act: act.__name__)
def test_emptied_files_cost_what_memory_does_not_have_and_that_is_told(tmp_path: Path, act: Act) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    began = time.time_ns()
    for n in range(120):
        put(queue, Stream.LOGS, range(100 * n, 100 * n + 100))  # 6 MB: more than memory keeps of what was written
    leased = take(queue, max_records=1000)
    act(folder)
    eventually(
        lambda: any(told.of(kind) for kind in (QueueDegraded, QueueSalvaged)), within_seconds=SAY_SECONDS, why="noticed"
    )
    eventually(lambda: not queue.depth().degraded, why="a new file")
    put(queue, Stream.LOGS, range(12_000, 12_100))
    queue.settle(leased, RetryLater(code="UNAVAILABLE", why="away"))
    got = drain(queue)
    lost = set(range(12_100)) - set(got)
    assert len(got) == len(set(got))
    assert set(range(1000)) | set(range(12_000, 12_100)) <= set(got), "what was leased, and what came after"
    assert sum(dropped(queue, "corrupt").values()) == len(lost)
    gaps = [told_gap.gap for told_gap in told.of(GapEnded)]
    assert sum(gap.lost_records or 0 for gap in gaps) == len(lost)
    for gap in gaps:
        assert began - SECOND <= gap.started_unix_nano <= began + SECOND, "from when nothing was held last"
        assert gap.ended_unix_nano > began
    assert_balanced(queue)
    queue.close()


def test_an_older_copy_in_the_files_place_brings_nothing_back_that_was_delivered_since(tmp_path: Path) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    put(queue, Stream.LOGS, range(100))
    older = {name: (folder / name).read_bytes() for name in ("queue.db", "queue.db-wal")}
    assert len(drain(queue)) == 100
    for n in range(120):
        put(queue, Stream.LOGS, range(100 * n + 100, 100 * n + 200))  # 6 MB: more than memory keeps of it
    for name, content in older.items():
        (folder / name).write_bytes(content)
    eventually(
        lambda: any(told.of(kind) for kind in (QueueDegraded, QueueSalvaged)), within_seconds=SAY_SECONDS, why="noticed"
    )
    eventually(lambda: not queue.depth().degraded, why="a new file")
    got = drain(queue)
    lost = set(range(100, 12_100)) - set(got)
    assert lost
    assert not set(range(100)) & set(got)
    assert sum(told_gap.gap.lost_records or 0 for told_gap in told.of(GapEnded)) == len(lost)
    assert_balanced(queue)
    queue.close()


def test_what_was_just_written_survives_an_emptied_file(tmp_path: Path) -> None:
    told = Told()
    queue = open_queue(tmp_path, told)
    for n in range(20):
        put(queue, Stream.ALERTS, [n])
    truncate_both(tmp_path)
    eventually(lambda: told.of(QueueRecovered), why="it is noticed")
    assert drain(queue) == list(range(20))
    assert not told.of(GapEnded)
    assert_balanced(queue)
    queue.close()


@pytest.mark.parametrize("name", ["queue.lock", "queue.db-wal"])
def test_a_deleted_file_lets_no_second_bridge_start(tmp_path: Path, name: str) -> None:
    told = Told()
    queue = open_queue(tmp_path, told)
    (tmp_path / name).unlink()
    with pytest.raises(QueueInUse):
        open_queue(tmp_path)
    assert owner_of(tmp_path) is not None
    eventually(lambda: told.of(QueueRecovered), why="it is made again")
    assert owner_of(tmp_path) == os.getpid()
    with pytest.raises(QueueInUse):
        open_queue(tmp_path)
    queue.close()
    assert owner_of(tmp_path) is None


def test_a_checkpoint_that_is_replaced_by_an_older_one_is_written_again(tmp_path: Path) -> None:
    folder, told = tmp_path / "queue", Told()
    queue = open_queue(folder, told)
    put(queue, Stream.LOGS, range(10))
    shutil.copy(folder / "queue.checkpoint", folder / "older")
    put(queue, Stream.LOGS, range(10, 20))
    (folder / "older").replace(folder / "queue.checkpoint")
    eventually(lambda: told.of(QueueRecovered), why="it is noticed")
    put(queue, Stream.LOGS, range(20, 30))
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    copy = tmp_path / "killed"
    shutil.copytree(folder, copy)
    queue.close()
    for file in copy.glob("queue.db*"):
        file.unlink()
    told = Told()
    queue = open_queue(copy, told)
    assert [told_gap.gap.lost_records for told_gap in told.of(GapEnded)] == [30]
    assert queue.ledger().total(Stream.LOGS, Account.RECEIVED) == 30
    assert_balanced(queue)
    queue.close()


def test_a_bridge_whose_folder_another_one_has_taken_keeps_away_from_its_files(tmp_path: Path) -> None:
    folder, told = tmp_path / "queue", Told()
    first = open_queue(folder, told)
    put(first, Stream.LOGS, [1])
    first.upkeep.stop()
    folder.rename(tmp_path / "moved")
    second = open_queue(folder)
    put(second, Stream.LOGS, [2])
    for _ in range(3):
        first.tend()
    assert first.depth().degraded
    put(first, Stream.LOGS, [3])
    assert drain(second) == [2]
    second.close()
    while first.tend() or first.depth().degraded:
        pass
    assert drain(first) == [1, 3]
    assert_balanced(first)
    first.close()


def test_links_inside_the_folder_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    for name in ("queue.lock", "queue.db"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).symlink_to(target)
        with pytest.raises(QueueUnusable, match="link"):
            open_queue(folder)
        assert target.read_text() == "precious"
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "queue.checkpoint").symlink_to(target)
    open_queue(folder).close()
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["queue.lock", "queue.db", "queue.db-wal", "queue.db-shm", "queue.checkpoint"])
def test_a_second_name_of_a_file_is_refused_where_others_could_have_given_it(tmp_path: Path, name: str) -> None:
    target, folder = tmp_path / "target", tmp_path / "queue"
    target.write_text("precious")
    folder.mkdir()
    folder.chmod(0o777)
    (folder / name).hardlink_to(target)
    with pytest.raises(QueueUnusable, match=f"{name} is a link"):
        open_queue(folder)
    assert target.read_text() == "precious"


def test_a_backup_by_links_stops_nobody(tmp_path: Path) -> None:
    queue = open_queue(tmp_path / "queue")
    put(queue, Stream.LOGS, [1])
    queue.close()
    for file in (tmp_path / "queue").glob("queue.*"):
        (tmp_path / file.name).hardlink_to(file)
    queue = open_queue(tmp_path / "queue")
    assert drain(queue) == [1]
    queue.close()


@pytest.mark.parametrize("name", ["queue.db", "queue.db-wal", "queue.db-shm"])
def test_a_pipe_in_the_place_of_a_file_is_refused_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(QueueUnusable, match="it is no file"):
        open_queue(tmp_path)


@pytest.mark.parametrize("name", ["queue.lock", "queue.checkpoint", "queue.reserve"])
def test_a_pipe_in_the_place_of_what_is_not_worth_a_failure_is_done_without(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    open_queue(tmp_path).close()


def test_a_folder_that_others_can_write_is_warned_of(tmp_path: Path) -> None:
    for mode, warned in ((0o700, 0), (0o755, 0), (0o777, 1), (0o775, 1)):
        told = Told()
        folder = tmp_path / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        open_queue(folder, told).close()
        assert len(told.of(QueueFolderExposed)) == warned, oct(mode)


def test_a_disk_that_becomes_read_only_is_told_though_nothing_is_written(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 64 * 1024 * 1024) as disk:
        told = Told()
        queue = open_queue(disk, told)
        put(queue, Stream.LOGS, [1])
        queue.upkeep.stop()
        queue.tend()
        with bind_mounted_read_only(disk):
            queue.tend()
            assert told.of(QueueDegraded)
            put(queue, Stream.LOGS, [2])
        while queue.tend() or queue.depth().degraded:
            pass
        assert drain(queue) == [1, 2]
        queue.close()


@contextmanager
def bind_mounted_read_only(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # a queue may have been opened in it


FORBIDDEN = """
import os, pathlib, sys
from otelbridge.event import Stream
from otelbridge.telemetry.events import QueueDegraded, QueueRecovered
from tests.integration.queue.oracle import Told, assert_balanced, drain, open_queue, put
os.chdir(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
told = Told()
queue = open_queue(pathlib.Path("queue"), told)
queue.upkeep.stop()
queue.tend()
put(queue, Stream.LOGS, range(10))
mode = os.stat(sys.argv[2]).st_mode
os.chmod(sys.argv[2], 0)
queue.tend()
assert len(told.of(QueueDegraded)) == 1, told.events
queue.tend()
put(queue, Stream.LOGS, range(10, 20))
assert queue.depth().degraded
assert drain(queue, max_records=10) == list(range(20))
put(queue, Stream.LOGS, range(20, 30))
assert_balanced(queue)
os.chmod(sys.argv[2], mode)
while queue.tend() or queue.depth().degraded:
    pass
assert len(told.of(QueueRecovered)) == 1
queue.close()
queue = open_queue(pathlib.Path("queue"))
assert drain(queue) == list(range(20, 30))
queue.close()
print("told and survived")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("what", ["queue", "queue/queue.db"])
def test_a_folder_or_file_that_may_not_be_touched_any_more_is_told_and_survived(what: str) -> None:
    with TemporaryDirectory() as place:  # a test's own folder can be entered by its owner only
        Path(place).chmod(0o777)
        child = subprocess.run(
            [sys.executable, "-c", FORBIDDEN, place, what], capture_output=True, text=True, check=False
        )
    assert child.stdout == "told and survived\n", child.stderr


# --- limits on the size of files ---

LIMITED = """
import pathlib, resource, sys
from otelbridge.event import Stream
from otelbridge.queue.model import Accepted
from tests.integration.queue.oracle import Told, assert_balanced, drain, open_queue, put
told = Told()
queue = open_queue(pathlib.Path(sys.argv[1]), told)
for n in range(400):
    put(queue, Stream.LOGS, range(20 * n, 20 * n + 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for n in range(400, 410):
    put(queue, Stream.LOGS, range(20 * n, 20 * n + 20))
    queue.tend()
assert queue.depth().degraded
got = drain(queue, max_records=500)
queue.tend()
got += drain(queue, max_records=500)
assert got == list(range(8200)), len(got)
assert_balanced(queue)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(queue, Stream.LOGS, range(8200, 8220))
while queue.tend() or queue.depth().degraded:
    pass
assert drain(queue) == list(range(8200, 8220))
assert_balanced(queue)
queue.close()
print("all delivered")
"""


@pytest.mark.parametrize("limit", [0, 4096, 1024 * 1024])
def test_a_backlog_is_delivered_under_a_limit_on_the_size_of_files(tmp_path: Path, limit: int) -> None:
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)], capture_output=True, text=True, check=False
    )
    assert child.stdout == "all delivered\n", child.stderr


STARTED_LIMITED = """
import pathlib, resource, sys
from otelbridge.event import Stream
from otelbridge.telemetry.events import QueueRecovered
from tests.integration.queue.oracle import Told, assert_balanced, drain, open_queue, put
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
told = Told()
queue = open_queue(pathlib.Path(sys.argv[1]), told)
queue.upkeep.stop()
assert queue.last_watching() == {("relay:1", Stream.LOGS): 7}
for _ in range(3):
    queue.tend()
put(queue, Stream.LOGS, range(8000, 8010))
got = drain(queue, max_records=500)
assert got == list(range(8010)), len(got)
assert_balanced(queue)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(queue, Stream.LOGS, range(8010, 8020))
while queue.tend() or queue.depth().degraded:
    pass
queue.close()
queue = open_queue(pathlib.Path(sys.argv[1]))
assert drain(queue) == list(range(8010, 8020))
assert_balanced(queue)
queue.close()
print("all delivered")
"""


@pytest.mark.parametrize("limit", [0, 16 * 1024, 1024 * 1024])
@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_start_under_a_limit_on_the_size_of_files_delivers_what_was_held(
    tmp_path: Path, limit: int, ended: str
) -> None:
    queue = open_queue(tmp_path / "live")
    for n in range(400):
        put(queue, Stream.LOGS, range(20 * n, 20 * n + 20))
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    if ended == "killed":
        shutil.copytree(tmp_path / "live", tmp_path / "queue")
    queue.close()
    if ended == "closed":
        shutil.copytree(tmp_path / "live", tmp_path / "queue")
    child = subprocess.run(
        [sys.executable, "-c", STARTED_LIMITED, str(tmp_path / "queue"), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout == "all delivered\n", child.stderr


# --- what a start finds ---


def test_a_start_that_finds_its_history_gone_keeps_the_time_that_was_not_watched(tmp_path: Path) -> None:
    for damage in ("deleted", "damaged", "emptied"):
        folder = tmp_path / damage
        queue = open_queue(folder)
        empty_until = time.time_ns()
        put(queue, Stream.LOGS, [1])
        put_until = time.time_ns()
        queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
        queue.close()
        database = folder / "queue.db"
        if damage == "deleted":
            database.unlink()
        else:
            database.write_bytes(b"rubbish" * 10_000 if damage == "damaged" else b"")
        told = Told()
        queue = open_queue(folder, told)
        assert queue.last_watching() == {("relay:1", Stream.LOGS): 7}, damage
        (gap,) = [told_gap.gap for told_gap in told.of(GapEnded)]
        assert gap.lost_records == 1
        assert gap.started_unix_nano <= empty_until, damage
        assert gap.ended_unix_nano >= put_until, damage
        queue.close()


def test_a_folder_that_tells_of_an_earlier_life_and_holds_nothing_of_it_ends_in_a_gap(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    queue.close()
    ended = time.time_ns()
    for file in tmp_path.glob("queue.*"):
        if file.name != "queue.lock":
            file.unlink()
    told = Told()
    open_queue(tmp_path, told).close()
    gaps = [told_gap.gap for told_gap in told.of(GapEnded)]
    assert [(gap.stream, gap.cause) for gap in gaps] == [(s, GapCause.CORRUPTION) for s in UPSTREAM_STREAMS]
    assert all(ended - 60 * SECOND < gap.started_unix_nano <= ended <= gap.ended_unix_nano for gap in gaps)


def test_a_note_of_what_was_watched_that_is_cut_off_ends_in_a_gap_too(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    queue.checkpoint_watching({("relay:1", Stream.LOGS): 7})
    queue.close()
    (tmp_path / "queue.db").unlink()
    checkpoint = tmp_path / "queue.checkpoint"
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    told = Told()
    queue = open_queue(tmp_path, told)
    assert not queue.last_watching()
    queue.close()
    unwatched = [told_gap.gap for told_gap in told.of(GapEnded) if told_gap.gap.lost_records is None]
    assert [gap.stream for gap in unwatched] == list(UPSTREAM_STREAMS)


def test_a_new_folder_is_no_gap(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        told = Told()
        open_queue(folder, told).close()
        assert not told.of(GapEnded)


def test_a_start_in_a_folder_that_was_made_read_only_delivers_what_is_there(tmp_path: Path) -> None:
    folder, killed = tmp_path / "queue", tmp_path / "killed"
    queue = open_queue(folder)
    for n in range(20):
        put(queue, Stream.LOGS, [n])
    queue.settle(take(queue, max_records=5), Accepted())
    shutil.copytree(folder, killed)
    queue.close()
    with bind_mounted_read_only(killed):
        told = Told()
        queue = open_queue(killed, told)
        assert told.of(QueueDegraded)
        put(queue, Stream.LOGS, [20])
        assert drain(queue) == list(range(5, 21))
        assert_balanced(queue)
        with pytest.raises(QueueInUse):
            open_queue(killed)
    eventually(lambda: not queue.depth().degraded, why="it can be written again")
    assert_balanced(queue)
    queue.close()
    queue = open_queue(killed)
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()
