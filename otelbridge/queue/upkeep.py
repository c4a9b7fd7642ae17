"""The queue's own thread: it tends the queue each half second, so that recovery needs nobody else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

from otelbridge.queue.holding import Holding
from otelbridge.queue.log_bound import bound_log
from otelbridge.queue.renewal import renew
from otelbridge.telemetry.pulse import Pulse

EVERY_SECONDS = 0.5
STOP_SECONDS = 10  # a disk that hangs must not hang the end of the program
SPARE_PAGES = 8192  # 64 MiB may stay unused in the file: the next outage needs no new space
GIVE_BACK_PAGES = 256  # 2 MiB each half second: no put waits for long


def tidy(holding: Holding) -> None:
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

    def __init__(self, tend: Callable[[], bool]) -> None:
        self.pulse = Pulse("queue")
        self._tend = tend
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-upkeep", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.pulse.beat()
            if not self._tend():
                self._stopping.wait(EVERY_SECONDS)

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
