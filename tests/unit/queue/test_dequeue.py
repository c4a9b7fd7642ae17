from __future__ import annotations

import math
import threading
import time

import pytest

from otelbridge.event import Stream
from otelbridge.queue.dequeue import AT_ONCE, Linger, LingerLimits, WorkSignal
from otelbridge.queue.model import Batch
from tests.waiting import eventually


class Hall:
    """A lock, some work that is free, and waiters that count how often they are woken for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free = 0
        self.due_at = 0.0
        self.signal = WorkSignal(self.lock, lambda: self.due_at if self.free else math.inf)

    def bring(self, work: int) -> None:
        with self.lock:
            self.free += work
            self.signal.notify()

    def ask(self) -> bool:
        with self.lock:
            found = self.free > 0 and self.due_at <= time.monotonic()
            self.free -= found
            self.signal.taken(anything=found)
            return found


def send_home(hall: Hall, threads: list[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            hall.signal.wake()
            thread.join(0.01)


def test_one_piece_of_news_wakes_one_of_those_that_wait() -> None:
    hall = Hall()
    threads: list[threading.Thread] = []
    for _ in range(3):
        threads.append(threading.Thread(target=hall.signal.wait, args=(30,)))
        threads[-1].start()
        eventually(lambda: len(hall.signal.waiters) == len(threads))
    hall.bring(1)
    threads.pop().join(5)  # the one that came last
    assert len(hall.signal.waiters) == 2
    hall.free = 0
    send_home(hall, threads)


def test_whoever_leaves_work_behind_wakes_the_next() -> None:
    hall = Hall()
    done: list[bool] = []

    def ask_once() -> None:
        if hall.signal.wait(30):
            done.append(hall.ask())

    threads = [threading.Thread(target=ask_once) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(hall.signal.waiters) == 3)
    hall.bring(2)  # wakes one, who takes one piece and leaves the other
    eventually(lambda: len(done) == 2, why="each asks once only, so another one has been woken")
    assert done == [True, True]
    assert len(hall.signal.waiters) == 1, "nothing is left for the third"
    send_home(hall, threads)


def test_whoever_takes_the_last_piece_wakes_nobody() -> None:
    hall = Hall()
    threads = [threading.Thread(target=hall.signal.wait, args=(30,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(hall.signal.waiters) == 2)
    hall.free = 1
    assert hall.ask()
    assert len(hall.signal.waiters) == 2
    send_home(hall, threads)


def test_what_was_asked_for_in_vain_is_no_work_until_there_is_news() -> None:
    hall = Hall()
    hall.free = 1
    assert hall.signal.has_work()
    with hall.lock:
        hall.signal.taken(anything=False)
    assert not hall.signal.has_work()
    assert not hall.signal.wait(0.01)
    hall.bring(0)
    assert hall.signal.has_work()


def test_what_is_due_later_is_no_work_until_then() -> None:
    hall = Hall()
    hall.due_at = time.monotonic() + 0.05
    hall.bring(1)
    assert not hall.signal.has_work()
    assert hall.signal.wait(30)
    assert time.monotonic() >= hall.due_at


def test_one_of_those_that_wait_sets_its_alarm_and_more_news_wakes_nobody() -> None:
    hall = Hall()
    hall.due_at = time.monotonic() + 30
    threads: list[threading.Thread] = []
    for _ in range(2):
        threads.append(threading.Thread(target=hall.signal.wait, args=(60,)))
        threads[-1].start()
        eventually(lambda: len(hall.signal.waiters) == len(threads))
    hall.bring(1)
    eventually(lambda: len(hall.signal.waiters) == 2 and hall.signal.alarm == hall.due_at)
    for _ in range(100):
        with hall.lock:
            hall.signal.notify()
            assert len(hall.signal.waiters) == 2
    hall.due_at = 0.0  # enough for a request has come
    hall.bring(1)
    eventually(lambda: sum(thread.is_alive() for thread in threads) == 1)
    hall.free = 0
    send_home(hall, threads)


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


@pytest.mark.parametrize("more", [a_batch(size=399), a_batch(size=0, records=39)], ids=["bytes", "records"])
def test_what_a_request_left_counts_towards_the_next(more: Batch) -> None:
    linger = Linger(LIMITS)
    for _ in range(2):
        linger.put(a_batch(size=600, records=60), 10.0)
    linger.leased(Stream.LOGS, size=600, records=60, all_of_it=False)
    linger.put(more, 10.0)
    assert linger.due_at(Stream.LOGS) == pytest.approx(10.2)
    linger.put(a_batch(size=1, records=1), 10.0)
    assert linger.due_at(Stream.LOGS) == AT_ONCE


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
    linger.change(LingerLimits())
    assert linger.due_at(Stream.LOGS) == AT_ONCE
