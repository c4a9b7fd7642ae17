"""Faults and their acts in; each happens at its time, and is undone at its time, on one thread."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from otelbridge.simulator.fault_acts import Act
from otelbridge.simulator.faults import Fault


class Planned(NamedTuple):
    """An entry of the schedule; the numbers come first because they order it."""

    at_seconds: float
    order: int
    name: str
    do: Callable[[], object]
    fault: Fault | None
    """None for the end of a fault."""


class FaultSchedule:
    """Runs from its construction to `stop`.

    Args:
        acts: What is to happen; times count from now.
        tell: Is given the name of each fault when it happens, and when it ends.
    """

    def __init__(self, acts: Iterable[tuple[Fault, Act]], tell: Callable[[str], None]) -> None:
        self.failure: OSError | None = None
        """Why the schedule ended early: the server did not get its port back."""
        self._tell = tell
        self._order = itertools.count()
        self._waiting: list[Planned] = []
        self._stopped = threading.Event()
        started = time.monotonic()
        for fault, act in acts:
            self._plan(started + fault.at_seconds, fault.kind, act, fault)
        self._thread = threading.Thread(target=self._run, name="simulator-faults")
        self._thread.start()

    def stop(self) -> None:
        """No fault happens any more, and none is undone."""
        self._stopped.set()
        self._thread.join()

    def _plan(self, at: float, name: str, do: Callable[[], object], fault: Fault | None) -> None:
        heapq.heappush(self._waiting, Planned(at, next(self._order), name, do, fault))

    def _run(self) -> None:
        while self._waiting:
            planned = heapq.heappop(self._waiting)
            if self._stopped.wait(max(0.0, planned.at_seconds - time.monotonic())):
                return
            self._tell(planned.name)
            try:
                undo = planned.do()
            except OSError as failure:
                self.failure = failure
                return
            if planned.fault is not None:
                self._follow_up(planned, planned.fault, undo)

    def _follow_up(self, planned: Planned, fault: Fault, undo: object) -> None:
        if callable(undo) and fault.ends_after_seconds is not None:
            self._plan(planned.at_seconds + fault.ends_after_seconds, f"{fault.kind} ended", undo, None)
        if fault.every_seconds is not None:
            self._plan(planned.at_seconds + fault.every_seconds, planned.name, planned.do, fault)
