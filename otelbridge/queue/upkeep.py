"""The queue's own thread: it tends the queue each half second, so that recovery needs nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable

from otelbridge.telemetry.pulse import Pulse

EVERY_SECONDS = 0.5
STOP_SECONDS = 10  # a disk that hangs must not hang the end of the program


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
