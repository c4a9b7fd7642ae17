"""The thread that looks round once a second: what is watched, which node fell silent, whether the ledger balances."""

from __future__ import annotations

import threading
import time

from otelbridge.rooms import Rooms
from otelbridge.telemetry.events import LedgerUnbalanced, Tell
from otelbridge.telemetry.supervisor import SupervisedThread

ROUND_SECONDS = 1.0
"""How often the queue is told what is being watched: the gap of a restart is exact to this."""


class Housekeeper:
    """Owns the thread `housekeeper`."""

    def __init__(self, rooms: Rooms, tell: Tell) -> None:
        self._rooms = rooms
        self._tell = tell
        self._stop = threading.Event()
        self._thread = SupervisedThread("housekeeper", self._turn, tell=tell)
        self.pulse = self._thread.pulse

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after a last note of what is being watched; harmless when it has ended, or never started."""
        if self._stop.is_set() or not self._thread.started:
            return
        self._stop.set()
        self._thread.join()
        self._note_what_is_watched()

    def _turn(self) -> bool:
        if self._stop.wait(ROUND_SECONDS):
            return False
        self._note_what_is_watched()
        self._call_the_roll()
        self._check_the_balance()
        return True

    def _note_what_is_watched(self) -> None:
        now = time.time_ns()
        watched = {
            (subscription.upstream, name): now
            for subscription in self._rooms.feed.subscriptions()
            for name, stream in subscription.streams.items()
            if stream.blind_since_unix_nano is None
        }
        if watched:
            self._rooms.queue.checkpoint_watching(watched)

    def _call_the_roll(self) -> None:
        for upstream, nodes in self._rooms.encoder.take_heard():
            self._rooms.feed.heard(upstream, nodes)
        self._rooms.feed.look_at_nodes()

    def _check_the_balance(self) -> None:
        ledger, held = self._rooms.queue.balance()
        residue = {stream.value: records for stream, records in ledger.residue(held).items() if records}
        if residue:
            self._tell(LedgerUnbalanced(residue=residue))
