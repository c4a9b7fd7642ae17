"""Packed requests in the queue: limits count what they unpack to, bounds what they take, and damage is found."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.inspect import inspect
from otelbridge.queue.model import Accepted, Batch
from otelbridge.queue.packing import DamagedRequest, is_packed, joined, packed, unpacked
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.store import checksum
from tests.integration.queue.oracle import RECORD_BYTES, assert_balanced, batch_of, numbers_of, open_queue, take

RECORDS = 64
REQUEST_BYTES = RECORDS * RECORD_BYTES


def packed_batch(first: int, stream: Stream = Stream.LOGS) -> Batch:
    batch = batch_of(stream, range(first, first + RECORDS))
    smaller = packed(batch.request)
    assert is_packed(smaller)
    return replace(batch, request=smaller)


def put(queue: DurableQueue, *batches: Batch) -> None:
    queue.put(batches, [Posting(batch.stream, Account.RECEIVED, "", batch.records) for batch in batches])


def test_a_lease_is_limited_by_what_it_unpacks_to_in_this_life_and_the_next(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, *[packed_batch(RECORDS * n) for n in range(12)])
    first = take(queue, max_bytes=3 * REQUEST_BYTES)
    assert (first.records, first.request_bytes) == (3 * RECORDS, 3 * REQUEST_BYTES)
    assert numbers_of(unpacked(joined(first.parts))) == list(range(3 * RECORDS))
    queue.settle(first, Accepted())
    queue.close()
    queue = open_queue(tmp_path)
    second = take(queue, max_bytes=10 * REQUEST_BYTES - 1)
    assert second.request_bytes == 9 * REQUEST_BYTES
    assert numbers_of(unpacked(joined(second.parts))) == list(range(3 * RECORDS, 12 * RECORDS))
    queue.settle(second, Accepted())
    assert_balanced(queue)
    queue.close()


def test_the_bound_counts_what_is_held(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_bytes=4 << 20)
    batches = [packed_batch(RECORDS * n) for n in range(400)]
    put(queue, *batches)
    assert sum(batch.records for batch in batches) * RECORD_BYTES > 3 * (4 << 20)
    assert queue.depth().bytes == sum(len(batch.request) for batch in batches)
    assert queue.depth().records == 400 * RECORDS
    assert_balanced(queue)
    queue.close()


def test_packed_and_unpacked_batches_lie_side_by_side(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, batch_of(Stream.LOGS, [0]), packed_batch(1), batch_of(Stream.LOGS, [RECORDS + 1]))
    with inspect(tmp_path) as seen:
        assert seen.verify().sound
    lease = take(queue)
    assert lease.request_bytes == REQUEST_BYTES + 2 * RECORD_BYTES
    assert numbers_of(unpacked(joined(lease.parts))) == list(range(RECORDS + 2))
    queue.settle(lease, Accepted())
    queue.close()


def test_verify_finds_a_batch_that_was_sealed_damaged(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, packed_batch(0), packed_batch(RECORDS))
    queue.close()
    with inspect(tmp_path) as seen:
        victim = next(seen.batches()).number
        batch = seen.batch(victim)
    assert batch is not None
    spoilt = bytearray(batch.request)
    spoilt[len(spoilt) // 2] ^= 0x10
    spoilt_batch = replace(batch, request=bytes(spoilt))
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        values = (spoilt_batch.request, checksum(victim, spoilt_batch), victim)
        connection.execute("UPDATE batches SET request = ?, checksum = ? WHERE id = ?", values)
    connection.close()
    with inspect(tmp_path) as seen:
        assert seen.verify().damaged == (victim,)
    queue = open_queue(tmp_path)
    lease = take(queue)
    with pytest.raises(DamagedRequest):
        unpacked(joined(lease.parts))
    queue.close()
