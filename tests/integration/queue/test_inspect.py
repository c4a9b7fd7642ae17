from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.dead_letters import leave
from otelbridge.queue.inspect import ROWS_AT_ONCE, inspect
from otelbridge.queue.model import Accepted, QueueUnusable, Refused
from tests.integration.queue.oracle import assert_balanced, batch_of, drain, numbers_of, open_queue, put, take
from tests.waiting import eventually


def test_a_queue_can_be_looked_at_while_its_bridge_runs_after_a_crash_and_at_rest(tmp_path: Path) -> None:
    live = tmp_path / "live"
    queue = open_queue(live)
    for n in range(10):
        put(queue, Stream.ALERTS if n % 2 else Stream.LOGS, [n])
    queue.settle(take(queue, max_records=2), Accepted())
    crashed = tmp_path / "crashed"
    shutil.copytree(live, crashed)
    for directory, running in ((live, True), (crashed, False)):
        with inspect(directory) as seen:
            assert (seen.owner_pid is not None) is running
            assert seen.checkpoint_readable
            assert seen.ledger().total(Stream.LOGS, Account.DELIVERED) == 2
            assert seen.held() == queue.held()
            assert not any(seen.ledger().residue(seen.held()).values())
            listed = list(seen.batches())
            assert [one.records for one in listed] == [1] * 8
            batch = seen.batch(listed[0].number)
            assert batch is not None
            assert numbers_of(batch.request) == [1]
            assert seen.verify().sound
    put(queue, Stream.LOGS, [10])
    queue.close()
    before = {path.name: path.stat().st_mtime_ns for path in live.iterdir()}
    with inspect(live) as seen:
        assert seen.verify().records == 9
    assert {path.name: path.stat().st_mtime_ns for path in live.iterdir()} == before, "looking leaves no trace"


def test_a_long_queue_is_listed_without_a_batch_missing_or_twice(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    queue.put([batch_of(Stream.LOGS, [n]) for n in range(2 * ROWS_AT_ONCE + 1)])
    queue.close()
    with inspect(tmp_path) as seen:
        listed = [numbers_of(batch.request) for one in seen.batches() if (batch := seen.batch(one.number))]
    assert listed == [[n] for n in range(2 * ROWS_AT_ONCE + 1)]


def test_verify_names_a_damaged_batch(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, range(30))
    queue.close()
    path = tmp_path / "queue.db"
    content = path.read_bytes()
    place = content.rindex(bytes(range(200, 220)))
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    with inspect(tmp_path) as seen:
        found = seen.verify()
        assert not found.sound
        assert list(found.damaged) == [one.number for one in seen.batches()]


def test_a_folder_without_a_queue_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(QueueUnusable, match=r"there is no queue\.db in it"), inspect(tmp_path):
        pass


def test_the_flight_recorder_keeps_what_was_delivered_within_its_bounds(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, retain_seconds=3600, retain_max_bytes=100 * 512, max_age_seconds=3600)
    now = time.time_ns()
    for n in range(30):
        put(queue, Stream.LOGS, range(10 * n, 10 * n + 10), received=now + n)
        queue.settle(take(queue), Accepted())
    eventually(lambda: queue.depth().retained_bytes <= 100 * 512, why="upkeep forgets the oldest")
    with inspect(tmp_path) as seen:
        kept = [n for one in seen.retained() for n in numbers_of(one.request)]
        assert kept == list(range(200, 300))
        some = [n for one in seen.retained(now + 25, now + 26) for n in numbers_of(one.request)]
        assert some == list(range(250, 270))
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()


def test_a_command_left_by_another_process_is_done_by_the_running_bridge(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(3):
        put(queue, Stream.ALERTS, [n])
        queue.dead_letter(take(queue), Refused(code="400", why="no"))
    with inspect(tmp_path) as seen:
        first, second, third = [dead_letter.id for dead_letter in seen.dead_letters()]
    command = leave(tmp_path, "resend", [first, third])
    (tmp_path / "command-0-nonsense.json").write_text("{")
    eventually(lambda: not command.exists() and queue.depth().records == 2, why="upkeep does commands")
    assert drain(queue) == [0, 2]
    assert [dead_letter.id for dead_letter in queue.dead_letters()] == [second]
    leave(tmp_path, "discard", [second])
    eventually(lambda: queue.dead_letters() == [], why="the same")
    assert_balanced(queue)
    queue.close()
