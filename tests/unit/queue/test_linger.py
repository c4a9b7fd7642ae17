from __future__ import annotations

import pytest

from otelbridge.event import Stream
from otelbridge.queue.linger import AT_ONCE, Linger, LingerLimits
from otelbridge.queue.model import Batch

LIMITS = LingerLimits(seconds={Stream.LOGS: 0.2, Stream.ALERTS: 0.05}, enough_bytes=1000, enough_records=100)


def a_batch(*, stream: Stream = Stream.LOGS, size: int = 10, records: int = 1) -> Batch:
    return Batch(stream=stream, request=bytes(size), records=records, oldest_received_unix_nano=0)


def test_the_first_batch_sets_the_moment_for_all_that_join_it() -> None:
    linger = Linger(LIMITS)
    linger.put(a_batch(), 10.0)
    linger.put(a_batch(), 10.15)
    assert linger.due_at(Stream.LOGS) == pytest.approx(10.2)


def test_each_stream_waits_by_itself() -> None:
    linger = Linger(LIMITS)
    linger.put(a_batch(), 10.0)
    linger.put(a_batch(stream=Stream.ALERTS), 10.0)
    assert linger.due_at(Stream.ALERTS) == pytest.approx(10.05)
    assert linger.due_at(Stream.LOGS) == pytest.approx(10.2)


@pytest.mark.parametrize("batch", [a_batch(size=1000), a_batch(records=100)], ids=["bytes", "records"])
def test_enough_for_a_request_is_due_at_once(batch: Batch) -> None:
    linger = Linger(LIMITS)
    linger.put(batch, 10.0)
    assert linger.due_at(Stream.LOGS) == AT_ONCE


def test_what_a_request_left_keeps_its_moment() -> None:
    linger = Linger(LIMITS)
    linger.put(a_batch(size=900), 10.0)
    linger.put(a_batch(size=200), 10.1)
    linger.leased(Stream.LOGS, size=900, records=1, all_of_it=False)
    assert linger.due_at(Stream.LOGS) == pytest.approx(10.2)


def test_after_a_request_that_took_all_the_next_batch_sets_the_moment() -> None:
    linger = Linger(LIMITS)
    linger.put(a_batch(size=900), 10.0)
    linger.leased(Stream.LOGS, size=900, records=1, all_of_it=True)
    linger.put(a_batch(), 11.0)
    assert linger.due_at(Stream.LOGS) == pytest.approx(11.2)


def test_what_was_held_before_this_process_began_waits_for_nothing() -> None:
    assert Linger(LIMITS).due_at(Stream.LOGS) == AT_ONCE + 0.2


def test_what_came_back_is_due_now_and_so_is_what_joins_it() -> None:
    linger = Linger(LIMITS)
    linger.hurry(Stream.LOGS)
    linger.put(a_batch(), 10.0)
    assert linger.due_at(Stream.LOGS) == AT_ONCE


def test_nothing_waits_once_the_linger_is_lifted() -> None:
    linger = Linger(LIMITS)
    linger.put(a_batch(), 10.0)
    linger.lift()
    assert linger.due_at(Stream.LOGS) == AT_ONCE
