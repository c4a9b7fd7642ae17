"""What the queue's state does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otelbridge.event import NANOSECONDS, Stream
from otelbridge.queue.checkpoint import QueueClock
from otelbridge.queue.disk import Folder
from otelbridge.queue.memory import CACHE_BYTES, MemoryStore
from otelbridge.queue.model import Batch, Change, Span
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import row_id, span_of

NOW = 1_790_000_000 * NANOSECONDS
UNUSED: Any = None


def batch_of(size: int, *, plain: int = 0, received: int = 0) -> Batch:
    return Batch(
        stream=Stream.LOGS, request=bytes(size), plain=bytes(plain), records=1, oldest_received_unix_nano=received
    )


@pytest.mark.parametrize("step", [0, 3_600 * NANOSECONDS, -3_600 * NANOSECONDS])
def test_a_batch_has_the_queues_time_however_the_clock_was_set(tmp_path: Path, step: int) -> None:
    now = [NOW]
    clock = QueueClock(lambda: now[0], lambda: 0, "boot")
    now[0] += step
    clock.now()
    state = QueueState(Folder(tmp_path), UNUSED, lambda _: None, lambda _: None, clock)
    batch = batch_of(1, received=now[0])
    dated = state.dated(batch)
    assert dated.oldest_received_unix_nano == NOW
    assert (dated is batch) == (step == 0)


def test_copies_of_what_was_written_are_kept_up_to_their_bound_in_both_forms() -> None:
    cache, first, second, third = MemoryStore(), *(row_id(Stream.LOGS, number) for number in (1, 2, 3))
    cache.follow(Change(inserts={first: batch_of(CACHE_BYTES - 100, plain=40), second: batch_of(40, plain=21)}))
    assert list(cache.all()) == [first], "one byte too many"
    cache.follow(Change(inserts={second: batch_of(40, plain=20)}))
    assert list(cache.all()) == [first, second]
    span = span_of(Stream.LOGS)
    assert cache.count(Stream.LOGS) == 2
    assert [row.id for row in cache.measures(span, 9)] == [first, second]
    assert [row.id for row in cache.measures(span, 1)] == [first]
    cache.follow(Change(deletes=[Span(first, first)], inserts={third: batch_of(1)}))
    assert list(cache.all()) == [second, third]
    cache.remove(span)
    assert cache.all() == {}
