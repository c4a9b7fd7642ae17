from __future__ import annotations

import threading

from otelbridge.queue.queue import SYNC_SECONDS, Upkeep
from tests.waiting import eventually


class Queue:
    """What upkeep looks after: counts its rounds."""

    def __init__(self) -> None:
        self.revision, self.tends, self.glances = 0, 0, 0
        self.tended = threading.Event()
        self.upkeep = Upkeep(self.tend, self.glance, lambda _: None, revision=lambda: self.revision)

    def tend(self) -> bool:
        self.tends += 1
        self.tended.set()
        return False

    def glance(self) -> bool:
        self.glances += 1
        return False

    def write(self) -> None:
        self.revision += 1
        self.upkeep.note_write()


def test_where_nothing_is_written_upkeep_wakes_once_a_second() -> None:
    queue = Queue()
    eventually(lambda: queue.tends >= 4, why="it looks at the folder, and for commands, all the same")
    assert queue.glances <= 1, "the first round may come after writes of the start"
    queue.upkeep.stop()


def test_what_is_written_while_it_rests_is_synced_half_a_second_later() -> None:
    queue = Queue()
    eventually(lambda: queue.tends >= 3)
    queue.tended.clear()
    glances = queue.glances
    queue.write()
    assert not queue.tended.wait(0.8 * SYNC_SECONDS)
    eventually(lambda: queue.glances > glances, why="a glance syncs")
    queue.upkeep.stop()


def test_a_rest_does_not_hold_up_the_end() -> None:
    queue = Queue()
    eventually(lambda: queue.tends >= 3)
    queue.upkeep.stop()
    assert not queue.upkeep.pulse.fails
