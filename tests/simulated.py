"""Runs a simulated KubeArmor as a child process that can be stopped, continued and killed as a whole.

The child is this file, run as a script. Its first line on stdout is `{"endpoint": "host:port"}`, its last the summary;
SIGTERM ends it politely.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Self

from otelbridge.event import Stream
from otelbridge.simulator.serve import PublishPace, SimulateOptions, serve

END_SECONDS = 10.0


class SimulatorProcess:
    """The child as a context: started on entering, ended on leaving.

    Args:
        arguments: See `main`.
        prefix: A command to run it under that becomes it, such as `ip netns exec NAME`.
    """

    def __init__(self, arguments: Sequence[str] = (), *, prefix: Sequence[str] = ()) -> None:
        self._command = (*prefix, sys.executable, __file__, *arguments)
        self._child: subprocess.Popen[str] | None = None
        self.endpoint = ""
        """`host:port`, once started."""

    def start(self) -> Self:
        """Returns when clients may come.

        Raises:
            RuntimeError: It ended before; its own words are on stderr.
        """
        self._child = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        first = self._stdout.readline()
        if not first:
            code = self._child.wait()
            self._stdout.close()
            raise RuntimeError(f"the simulator ended with exit code {code} before it listened")
        self.endpoint = json.loads(first)["endpoint"]
        return self

    def freeze(self) -> None:
        """SIGSTOP, and it has stopped: the kernel still acknowledges what comes, nothing answers."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: the kernel closes its connections."""
        self._process.kill()
        self._process.wait()
        self._stdout.close()

    def stop(self) -> dict[str, Any]:
        """SIGTERM, also to a frozen one; returns its summary."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        return self.wait()

    def wait(self, within_seconds: float = END_SECONDS) -> dict[str, Any]:
        """Waits for its end; returns its summary.

        Raises:
            RuntimeError: It failed; its own words are on stderr.
            subprocess.TimeoutExpired: It runs on.
        """
        text, _ = self._process.communicate(timeout=within_seconds)
        if self._process.returncode:
            raise RuntimeError(f"the simulator ended with exit code {self._process.returncode}")
        summary: dict[str, Any] = json.loads(text)
        return summary

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._stdout.close()

    @property
    def _process(self) -> subprocess.Popen[str]:
        if self._child is None:
            raise RuntimeError("this simulator has not been started")
        return self._child

    @property
    def _stdout(self) -> IO[str]:
        stdout = self._process.stdout
        assert stdout is not None, "started with a pipe"
        return stdout


def main() -> None:
    """Serves until everything is published, or SIGTERM comes."""
    parser = argparse.ArgumentParser(description="A simulated KubeArmor.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--source", default="samples")
    parser.add_argument("--streams", default="alerts,logs,messages")
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--count", type=int)
    for flag in ("--loop", "--stay", "--sequence"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    until = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: until.set())
    options = SimulateOptions(
        host=given.host,
        source=given.source,
        streams=tuple(map(Stream, given.streams.split(","))),
        pace=PublishPace(per_second=given.rate or None, count=given.count),
        loop=given.loop,
        stay=given.stay,
        sequence=given.sequence,
    )
    summary = serve(options, until=until, ready=lambda endpoint: _say({"endpoint": endpoint}))
    _say(asdict(summary))


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
