"""SIGTERM and SIGINT set an event; the second of them ends the process there and then, as `kill -9` would."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from otelbridge.cli.exits import Exit

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals(stop: threading.Event, last_words: str) -> None:
    """Installs the handlers.

    Args:
        stop: is set by the first signal.
        last_words: written to stderr when a second signal ends the process without further ado.
    """

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            # Neither print nor sys.exit: the handler may stand in the midst of either.
            os.write(2, f"{last_words}\n".encode())
            os._exit(Exit.FAILED)
        stop.set()

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
