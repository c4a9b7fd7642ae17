"""Runs a call that may hang (DNS, a handshake) within a deadline. A stop never waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.2


class DeadlineExceededError(TimeoutError):
    """The call did not return in time; its thread ends whenever the call does."""


def run_with_deadline(
    function: Callable[[], T], *, name: str, timeout_seconds: float, stopping: threading.Event | None = None
) -> T:
    """Runs a function on a thread of its own, because nothing in Python can interrupt getaddrinfo.

    Raises:
        DeadlineExceededError: no result within the deadline, or before the stop.
        BaseException: whatever the function raised.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((function(), None))
        except BaseException as error:  # noqa: BLE001 it is raised again by the one who waits
            results.put((None, error))

    threading.Thread(target=run, name=name, daemon=True).start()
    deadline = time.monotonic() + timeout_seconds
    while stopping is None or not stopping.is_set():
        try:
            result, error = results.get(timeout=max(0.0, min(SLICE_SECONDS, deadline - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise DeadlineExceededError(f"{name}: no answer within {timeout_seconds:g} s") from None
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error there is a result
    raise DeadlineExceededError(f"{name}: the bridge is stopping")
