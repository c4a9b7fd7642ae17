"""Supervises the bridge's threads: an unexpected fault is told, work in hand is given back, and the thread goes on."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable

from otelbridge.net.secrets import without_credentials
from otelbridge.telemetry.events import Tell, ThreadFailed

FAULTS_TO_FAIL = 3
"""So many faults in a row make /livez fail, and end a thread that is being joined."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

Turn = Callable[[], bool]
"""One turn of a thread's loop; False when the thread is done. Turns are short: they wait for a second or so at most."""


def pause_seconds(faults_in_a_row: int) -> float:
    """How long to wait after so many faults in a row."""
    doublings = min(faults_in_a_row - 1, 16)
    return min(FIRST_PAUSE_SECONDS * 2.0**doublings, LONGEST_PAUSE_SECONDS)


class Pulse:
    """What the liveness probe reads of one thread: when it last turned, and how often it failed since.

    Plain attributes with one writer, the thread: beating takes no lock.
    """

    __slots__ = ("_last", "_may_block", "fault", "faults_in_a_row", "name")

    def __init__(self, name: str, *, may_block: bool = False) -> None:
        """Takes the thread's name, and whether it may wait without end: in a read, or in a write to stderr."""
        self.name = name
        self._may_block = may_block
        self._last = time.monotonic()
        self.faults_in_a_row = 0
        self.fault = ""
        """The latest exception, in words."""

    def beat(self, rest_seconds: float = 0.0) -> None:
        """Called by the thread at least every few seconds, or before a wait of so long: until then it is well."""
        self._last = time.monotonic() + rest_seconds

    def progress(self) -> None:
        """The thread has done a piece of its work: earlier faults are over."""
        self.faults_in_a_row = 0

    def failed(self, error: BaseException) -> None:
        """The thread has met a fault."""
        self.faults_in_a_row += 1
        self.fault = _in_words(error)

    @property
    def fails(self) -> bool:
        """Whether the thread fails again and again."""
        return self.faults_in_a_row >= FAULTS_TO_FAIL

    def age_seconds(self) -> float:
        """Seconds since the last beat, or the end of the wait behind it; 0 for one that may wait without end."""
        return 0.0 if self._may_block else max(0.0, time.monotonic() - self._last)


def _in_words(error: BaseException) -> str:
    try:
        return without_credentials(f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001  # no memory is left, or the error is one in itself
        return type(error).__name__


def _traceback_of(error: BaseException) -> str:
    try:
        return without_credentials("".join(traceback.format_exception(error)).rstrip())
    except BaseException:  # noqa: BLE001  # as above
        return _in_words(error)


class SupervisedThread:
    """A thread that takes turns until one of them says that it is done.

    A turn that raises is told, with its traceback where that is new, and repeated after a pause: 0.1 s after the first
    fault, doubled up to 5 s while no turn succeeds.

    Args:
        name: of the thread; what comes behind the first space is left out of the metric.
        turn: one turn of the loop.
        tell: hears of each fault.
        give_back: called after a fault, by the thread itself: puts back what the turn had in hand.
        pulse: where the thread's pulse is shared with what it calls.
        daemon: whether the process may end without it.
    """

    def __init__(
        self,
        name: str,
        turn: Turn,
        *,
        tell: Tell,
        give_back: Callable[[], None] | None = None,
        pulse: Pulse | None = None,
        daemon: bool = True,
    ) -> None:
        self.pulse = pulse or Pulse(name)
        self._turn, self._give_back, self._tell = turn, give_back, tell
        self._joined = threading.Event()
        self._last_traceback = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)

    def start(self) -> None:
        """Starts the thread.

        Raises:
            RuntimeError: the process cannot have another thread.
        """
        self._thread.start()

    @property
    def started(self) -> bool:
        """Whether `start` has succeeded."""
        return self._thread.ident is not None

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def join(self, timeout_seconds: float = math.inf) -> bool:
        """Waits for the thread to be done; True when it is, or was never started.

        From now on the thread ends after three faults in a row: nobody waits for what cannot succeed.
        """
        self._joined.set()
        if self.started:
            self._thread.join(None if math.isinf(timeout_seconds) else max(0.0, timeout_seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not (self._joined.is_set() and self.pulse.fails):
            self.pulse.beat()
            try:
                if not self._turn():
                    return
            # The boundary of every thread: what gets here is a fault of ours, and must not end the thread. Whatever it
            # is: a library's `sys.exit` would end it without a word.
            except BaseException as error:  # noqa: BLE001
                self._note(error)
                self._joined.wait(pause_seconds(self.pulse.faults_in_a_row))
            else:
                self.pulse.progress()

    def _note(self, error: BaseException) -> None:
        self.pulse.failed(error)
        self._tell_of(error)
        if self._give_back is not None:
            try:
                self._give_back()
            except BaseException as another:  # noqa: BLE001 - as above
                self._tell_of(another)

    def _tell_of(self, error: BaseException) -> None:
        text = _traceback_of(error)
        known, self._last_traceback = text == self._last_traceback, text
        try:
            self._tell(
                ThreadFailed(
                    thread=self._thread.name,
                    error=_in_words(error),
                    in_a_row=self.pulse.faults_in_a_row,
                    traceback="" if known else text,
                )
            )
        except BaseException as unheard:  # noqa: BLE001 - as above; /livez shows it, if nobody else
            self.pulse.fault = f"{_in_words(error)}; nobody could be told: {_in_words(unheard)}"
