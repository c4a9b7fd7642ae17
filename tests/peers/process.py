"""A real program under test's control: started, waited for, frozen, ended kindly or not, started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.peers.warm import WarmProcess, can_be_warm
from tests.waiting import eventually

START_SECONDS = 30
STOP_SECONDS = 20
KIB = 1024
LOWEST_PORT = 16_000
END_OF_PORTS = 32_000
"""Linux gives connections ports from 32,768 on."""


class PeerProcess:
    """One program with its output in a file.

    Args:
        argv: the command line; the same at each start.
        output: where its stdout and stderr go, appended to at each start.
        is_up: asked until it says yes after each start.
        env: the whole environment; None passes the test's own on.
        start_seconds: how long it may take until it is up.
        warm: the command is `otelbridge`, and need not be a fresh process: see tests/peers/warm.py.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        output: Path,
        is_up: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
        warm: bool = False,
    ) -> None:
        self._argv, self._output, self._is_up, self._env = list(argv), output, is_up, env
        self._warm = warm
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    @property
    def pid(self) -> int:
        """Of the program that runs."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def output(self) -> str:
        """All that it printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    def launch(self) -> None:
        """Starts it and returns at once: a fault may come before it is up."""
        assert self._process is None, "it runs already"
        env = os.environ if self._env is None else self._env
        with self._output.open("ab") as output:
            if self._warm and can_be_warm(env):
                self._process = WarmProcess(self._argv[1:], env=env, output=output.fileno())
                return
            self._process = subprocess.Popen(
                self._argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> None:
        """Starts it and returns once it is up.

        Raises:
            AssertionError: it ended by itself or was not up in time; with what it printed.
        """
        self.launch()
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Returns once it is up; otherwise it is ended, whatever stopped the waiting (a test's own time limit, too).

        Raises:
            AssertionError: it ended by itself or was not up in time; with what it printed.
        """
        try:
            eventually(self._up_or_ended, within_seconds=self._start_seconds, why=f"{self._argv[0]} is up")
        except BaseException as error:
            self.kill()
            error.add_note(self.output())
            raise

    def stop(self) -> int | None:
        """Asks it to end (SIGTERM) and returns its exit code; None, and harmless, when it does not run."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once (SIGKILL); harmless when it does not run."""
        self._end(signal.SIGKILL)

    def wait(self, within_seconds: float) -> int:
        """Waits until it ends by itself, or by what it was told; returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        assert self._process is not None, "it does not run"
        return self._process.wait(within_seconds)

    def insist(self, within_seconds: float) -> int:
        """Sends SIGTERM again and again until it has ended; returns its exit code.

        Raises:
            AssertionError: it runs on.
        """

        def ended_by_another() -> bool:
            assert self._process is not None, "it does not run"
            self._process.send_signal(signal.SIGTERM)
            return self._process.poll() is not None

        eventually(ended_by_another, within_seconds=within_seconds, why=f"{self._argv[0]} ends when told again")
        return self.wait(0)

    def peak_memory_bytes(self) -> int:
        """The most resident memory that it ever had (VmHWM)."""
        return self._of_proc("VmHWM") * KIB

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal and returns at once; harmless when it has ended by itself."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def catches(self, signal_number: signal.Signals) -> bool:
        """Whether it has a handler for a signal by now."""
        return bool(self._of_proc("SigCgt", base=16) >> (signal_number - 1) & 1)

    def freeze(self) -> None:
        """Its sockets stay open and nothing answers, until `thaw`."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on after `freeze`."""
        self.send(signal.SIGCONT)

    def _of_proc(self, key: str, base: int = 10) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0], base)
        raise AssertionError(f"/proc says nothing of {key}: the process has ended")

    def _up_or_ended(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self._process = None
            raise AssertionError(f"{self._argv[0]} ended by itself with {code}:\n{self.output()}")
        return self._is_up()

    def _end(self, how: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # one that is frozen would never notice the SIGTERM
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self._argv[0]} did not end within {STOP_SECONDS} s:\n{self.output()}") from None


def free_ports(number: int) -> tuple[int, ...]:
    """So many different TCP ports of the loopback address that nobody listens on now.

    They lie below those that the kernel gives to connections: otherwise one of these could get a port while the program
    that shall listen on it is started again.
    """
    chance = random.SystemRandom()  # the plain one is seeded alike in every worker
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < number:
            with contextlib.suppress(OSError):
                sockets.append(socket.create_server(("127.0.0.1", chance.randrange(LOWEST_PORT, END_OF_PORTS))))
        return tuple(listening.getsockname()[1] for listening in sockets)
    finally:
        for listening in sockets:
            listening.close()


def accepts(port: int) -> bool:
    """Whether someone takes TCP connections on a port of the loopback address."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers_ok(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
