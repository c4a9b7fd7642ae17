from __future__ import annotations

import threading

from otelbridge.queue.work_signal import WorkSignal
from tests.waiting import eventually


class Hall:
    """A lock, some work that is free, and waiters that count how often they are woken for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free = 0
        self.signal = WorkSignal(self.lock, lambda: self.free > 0)

    def bring(self, work: int) -> None:
        with self.lock:
            self.free += work
            self.signal.notify()

    def ask(self) -> bool:
        with self.lock:
            found = self.free > 0
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
        eventually(lambda: hall.signal.waiters == len(threads))
    hall.bring(1)
    threads.pop().join(5)  # the one that came last
    assert hall.signal.waiters == 2
    hall.free = 0
    send_home(hall, threads)


def test_whoever_leaves_work_behind_wakes_the_next() -> None:
    hall = Hall()
    done: list[bool] = []

    def work() -> None:
        while hall.signal.wait(30):
            done.append(hall.ask())
            if len(done) >= 2:
                return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: hall.signal.waiters == 2)
    hall.bring(2)
    eventually(lambda: len(done) >= 2)
    assert done == [True, True]
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
