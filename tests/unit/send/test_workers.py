"""How the sender's threads are waited for."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from otelbridge.send.workers import Workers


def test_a_thread_that_does_not_end_is_waited_for_until_its_moment_and_woken_meanwhile() -> None:
    ends, woken = threading.Event(), []
    thread = threading.Thread(target=ends.wait, args=(20,))
    thread.start()
    workers: Any = SimpleNamespace(_threads=[thread], _queue=SimpleNamespace(wake=lambda: woken.append(1)))
    Workers._join(workers, time.monotonic() + 0.02)
    assert thread.is_alive()
    assert woken
    workers._queue.wake = ends.set
    Workers._join(workers, time.monotonic() + 20)
    assert not thread.is_alive()
