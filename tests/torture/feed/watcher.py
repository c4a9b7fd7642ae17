"""A feed as a process of its own, so that it can live in a network namespace; prints what it tells as JSON lines."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from otelbridge.feed.feed import Feed
from otelbridge.feed.settings import FeedSettings
from otelbridge.telemetry.events import Event
from tests.buffers import OpenBuffer
from tests.records import gaps_told_by


class Watcher:
    """The process, from outside.

    Args:
        endpoint: what it subscribes to, with the default settings.
        prefix: a command to run it under, such as `ip netns exec NAME`.
    """

    def __init__(self, endpoint: str, *, prefix: Sequence[str] = ()) -> None:
        self._command = (*prefix, sys.executable, "-m", "tests.torture.feed.watcher", endpoint)
        self.told: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._listener = threading.Thread(target=self._listen, name="listen to the watcher")
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(20)
        self._listener.join(20)
        assert self._child.stdout is not None
        self._child.stdout.close()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["kind"] == kind]

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.told.append(json.loads(line))


def main(endpoint: str) -> None:
    """Runs until stdin is closed."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        facts = {"kind": type(event).__name__, "at": time.time_ns(), **dataclasses.asdict(event)}
        with lock:
            sys.stdout.write(json.dumps(facts, default=str) + "\n")
            sys.stdout.flush()

    buffer = OpenBuffer(100_000, 64 * 1024 * 1024)
    feed = Feed(
        FeedSettings(endpoints=(endpoint,)),
        buffer=buffer,
        tell=tell,
        record_gap=gaps_told_by(tell),
        version="torture",
    )
    feed.start()
    ended = threading.Event()
    drain = threading.Thread(target=lambda: _take_until(buffer, ended), name="take")
    drain.start()
    sys.stdin.read()
    feed.close()
    ended.set()
    drain.join()


def _take_until(buffer: OpenBuffer, ended: threading.Event) -> None:
    while not ended.is_set():
        buffer.take(1_000, 0.5)


if __name__ == "__main__":
    main(sys.argv[1])
