"""A program of the benchmark: started, talked to in lines, its CPU time and memory asked of the kernel, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks import machine

Facts = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
KIB = 1024
STOP_SECONDS = 20.0
CPUCLOCK_SCHED = 2
OTHERS_SETTINGS = ("OTEL_", "OTELBRIDGE_", "KUBEARMOR_")
"""Variables that would change what is measured."""


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OTHERS_SETTINGS)}


class Child:
    """One process. It ends with the context, at the latest when its stdin is closed.

    Args:
        argv: its command line.
        log: where its stderr goes, and its stdout when nobody listens to it.
        talks: whether its stdout is JSON lines for us.
        env: added to the environment.
    """

    def __init__(
        self, argv: Sequence[str], *, log: Path, talks: bool = False, env: Mapping[str, str] | None = None
    ) -> None:
        self.argv = tuple(argv)
        self._log = log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                text=True,
                cwd=ROOT,
                env={**clean_environment(), **(env or {})},
            )
        self.pid = self._process.pid
        self._listener: threading.Thread | None = None
        if talks:
            self._listener = threading.Thread(target=self._hear_all, name=f"listener of {self.pid}", daemon=True)
            self._listener.start()

    def _hear_all(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def listen(self, seconds: float) -> Facts | None:
        """Its next line, or None when it says nothing so long."""
        try:
            facts: Facts = json.loads(self._lines.get(timeout=seconds))
        except queue.Empty:
            return None
        return facts

    def hear(self, within_seconds: float = 30) -> Facts:
        """Its next line.

        Raises:
            RuntimeError: it said nothing in time, with what it left in its log.
        """
        facts = self.listen(within_seconds)
        if facts is None:
            raise RuntimeError(f"{self.argv!r} said nothing in {within_seconds} s:\n{self.log()}")
        return facts

    def ask(self, line: str, within_seconds: float = 30) -> Facts:
        self.tell(line)
        return self.hear(within_seconds)

    def log(self) -> str:
        """The end of its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def check(self) -> None:
        """Raises RuntimeError when it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.argv!r} ended with {self._process.returncode}:\n{self.log()}")

    def cpu_seconds(self) -> float:
        """User and system time of all its threads since its start, ended ones too, to the nanosecond.

        /proc says the same in steps of 10 ms. What is read is the process's own CPU-time clock, whose number
        is made of the process's as clock_getcpuclockid(3) does it on Linux.
        """
        return time.clock_gettime((~self.pid << 3) | CPUCLOCK_SCHED)

    def switches(self) -> dict[int, int]:
        """How often each of its threads that live now has gone to sleep since its start; it was woken as often."""
        counted = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                counted[int(task.name)] = int(machine.field(task / "status", "voluntary_ctxt_switches") or 0)
        return counted

    def resident_bytes(self) -> int:
        return self._status("VmRSS") * KIB

    def peak_bytes(self) -> int:
        return self._status("VmHWM") * KIB

    def _status(self, key: str) -> int:
        if said := machine.field(Path(f"/proc/{self.pid}/status"), key):
            return int(said.split()[0])
        raise RuntimeError(f"/proc says nothing of {key}: {self.argv!r} has ended:\n{self.log()}")

    def stop(self) -> None:
        """Ends it kindly, then not; harmless when it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"killed, since it did not end in {STOP_SECONDS} s: {self.argv!r}\n{self.log()}")
            self._process.kill()
            self._process.wait()
        if self._listener is not None:
            self._listener.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
