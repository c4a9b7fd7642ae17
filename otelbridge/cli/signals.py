"""SIGTERM and SIGINT set an event, a later one of them ends the process as `kill -9` would; SIGHUP calls a function."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from otelbridge.cli.output import Exit

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_REQUEST_SECONDS = 0.2
"""Signals so close together are one request: `timeout` and many wrappers signal the process, then its whole group."""
READ_BYTES = 64


def stop_on_signals(stop: threading.Event, last_words: str, *, hang_up: Callable[[], None] | None = None) -> None:
    """Installs the handlers.

    Python runs a handler in the main thread, between two of its instructions. That thread waits for the very event: it
    may hold the event's lock just then, and it is not woken at all where the kernel gave the signal to another thread
    (seen once in some 200 lives). So the handler does nothing. Whichever thread gets the signal, Python's part in C
    writes its number to a pipe, and a thread of ours reads it.

    Args:
        stop: is set by the first signal.
        last_words: written to stderr when a second request ends the process without further ado.
        hang_up: called for each SIGHUP; must return at once. Without it SIGHUP ends the process.
    """
    receiving, waking = os.pipe()
    os.set_blocking(waking, False)  # as `set_wakeup_fd` wants it

    def act() -> None:
        asked_at: float | None = None
        while True:
            came = set(os.read(receiving, READ_BYTES))
            if signal.SIGHUP in came and hang_up is not None:
                hang_up()
            if not came.intersection(STOP_SIGNALS):
                continue
            now = time.monotonic()
            asked_at = now if asked_at is None else asked_at
            if now - asked_at > SAME_REQUEST_SECONDS:
                os.write(2, f"{last_words}\n".encode())
                os._exit(Exit.FAILED)
            stop.set()

    # A daemon: it listens until the process ends.
    threading.Thread(target=act, name="signals", daemon=True).start()
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, *((signal.SIGHUP,) if hang_up is not None else ())):
        signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """There has to be a handler for the number to be written."""
