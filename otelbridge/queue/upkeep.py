"""The queue's own thread: it tends the queue each half second, so that recovery needs nobody else."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from otelbridge.queue.disk import DiskError
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import bound_log
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import SupervisedThread

ENDINGS = ("-wal", "-shm", "")  # an old log beside a new database would be taken for its own


def renew(holding: QueueState) -> None:
    """Gives the file of a full disk up if nothing in it is owed, kept or lent; `recover` makes the next one."""
    store = holding.store
    if store is None or holding.weather is not DiskError.FULL or holding.desk.loans():
        return
    if sum(holding.counts.batches.values()) > len(holding.room) or holding.pending.dead_letters:
        return
    try:
        if store.dead_letter_sizes() or store.retained_bytes():
            return
    except sqlite3.Error:
        return  # `recover` will meet it too
    # The books first, in a file whose space is reserved: a start without the database goes by them.
    holding.mirror.write(holding.books.page())
    holding.pending.notes |= holding.notes
    holding.shut()
    with contextlib.suppress(OSError):  # what is left is opened again, and what waits is deleted in it
        for ending in ENDINGS:
            Path(f"{holding.path}{ending}").unlink(missing_ok=True)


EVERY_SECONDS = 0.5
STOP_SECONDS = 10  # a disk that hangs must not hang the end of the program
SPARE_PAGES = 8192  # 64 MiB may stay unused in the file: the next outage needs no new space
GIVE_BACK_PAGES = 256  # 2 MiB each half second: no put waits for long


def tidy(holding: QueueState) -> None:
    """Lays space by for when the disk is full, bounds the log, gives back what an outage took; renews a stuck file."""
    if holding.weather is not None or holding.store is None:
        renew(holding)
        return
    holding.reserve.lay()
    try:
        bound_log(holding.store, holding.path)
        pages, unused = holding.store.file_pages()
        if unused > max(SPARE_PAGES, pages // 2):
            holding.store.give_back_space(GIVE_BACK_PAGES)
    except sqlite3.Error as error:
        holding.weathered(error)


class Upkeep:
    """Runs `tend` until it is stopped; at once again when there is more to do."""

    def __init__(self, tend: Callable[[], bool], tell: Tell) -> None:
        self._tend = tend
        self._stopping = threading.Event()
        self._thread = SupervisedThread("queue-upkeep", self._turn, tell=tell)
        self.pulse = self._thread.pulse
        self._thread.start()

    def _turn(self) -> bool:
        if not self._tend():
            self._stopping.wait(EVERY_SECONDS)
        return not self._stopping.is_set()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
