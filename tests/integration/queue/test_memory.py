"""What was just put is leased from memory; a backlog, an earlier life's and a damaged file's batches from the disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.memory import CACHE_BYTES
from otelbridge.queue.model import Accepted
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.store import connect
from tests.integration.queue.oracle import (
    RECORD_BYTES,
    assert_balanced,
    drain,
    numbers_of,
    open_queue,
    put,
    take,
)

PER_BATCH = 100


def open_watched(directory: Path, statements: list[str]) -> DurableQueue:
    def connect_watched(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    settings = QueueSettings(directory=directory)
    queue = DurableQueue.open(settings, tell=lambda _: None, record_gap=lambda _: None, connect=connect_watched)
    statements.clear()
    return queue


def reads(statements: list[str]) -> int:
    return sum("FROM batches" in statement and statement.startswith("SELECT") for statement in statements)


def test_a_worker_that_comes_at_once_reads_nothing_from_disk(tmp_path: Path) -> None:
    statements: list[str] = []
    queue = open_watched(tmp_path, statements)
    for n in range(0, 50, 5):
        put(queue, Stream.LOGS, range(n, n + 5))
        lease = take(queue)
        assert numbers_of(lease) == list(range(n, n + 5))
        queue.settle(lease, Accepted())
    assert reads(statements) == 0
    assert_balanced(queue)
    queue.close()


def test_a_backlog_larger_than_what_is_kept_comes_in_order_from_disk_and_then_from_memory_again(tmp_path: Path) -> None:
    statements: list[str] = []
    queue = open_watched(tmp_path, statements)
    batches = 2 * CACHE_BYTES // (PER_BATCH * RECORD_BYTES)
    for n in range(batches):
        put(queue, Stream.LOGS, range(n * PER_BATCH, (n + 1) * PER_BATCH))
    assert drain(queue) == list(range(batches * PER_BATCH))
    assert reads(statements) > 0
    statements.clear()
    put(queue, Stream.LOGS, [1, 2, 3])
    assert numbers_of(take(queue)) == [1, 2, 3]
    assert reads(statements) == 0
    queue.close()


def test_what_came_after_an_earlier_life_s_backlog_does_not_overtake_it(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1, 2])
    queue.close()
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [3, 4])
    assert drain(queue) == [1, 2, 3, 4]
    assert_balanced(queue)
    queue.close()
