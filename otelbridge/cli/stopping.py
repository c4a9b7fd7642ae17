"""SIGTERM and SIGINT set an event; a later one of them ends the process there and then, as `kill -9` would."""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import SimpleQueue
from types import FrameType

from otelbridge.cli.exits import Exit

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_REQUEST_SECONDS = 0.2
"""Signals so close together are one request: `timeout` and many wrappers signal the process, then its whole group."""


def stop_on_signals(stop: threading.Event, last_words: str) -> None:
    """Installs the handlers.

    A handler runs in the main thread between any two of its instructions, perhaps while that thread holds the event's
    lock in `stop.wait()`; to set the event there would wait for that lock for good. So the handler only writes to a
    `SimpleQueue`, whose `put` may interrupt anything, and a thread sets the event.

    Args:
        stop: is set by the first signal.
        last_words: written to stderr when a second request ends the process without further ado.
    """
    asked_at: float | None = None
    asked: SimpleQueue[None] = SimpleQueue()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        now = time.monotonic()
        asked_at = now if asked_at is None else asked_at
        if now - asked_at > SAME_REQUEST_SECONDS:
            # Neither print nor sys.exit: the handler may stand in the midst of either.
            os.write(2, f"{last_words}\n".encode())
            os._exit(Exit.FAILED)
        asked.put(None)

    def set_when_asked() -> None:
        asked.get()
        stop.set()

    threading.Thread(target=set_when_asked, name="signals", daemon=True).start()
    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
