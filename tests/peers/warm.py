"""Starts `otelbridge` by forking a process that has imported it: a tenth of a second of CPU instead of half a one.

What a fresh process does at its start (to import, to keep OpenSSL out) is the subject of other tests; the guides, the
wheel, the image, systemd and everything with a command of its own start one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MAX_ORDER_BYTES = 1 << 17
READ_AT_START = ("PYTHON", "GRPC_", "LD_", "MALLOC_", "GLIBC_")
"""Beginnings of variables that only a fresh process obeys."""
ALWAYS = {"PYTHONFAULTHANDLER": "1"}
"""What the forked process was started with."""
HOME_NETWORK = Path("/proc/self/ns/net").readlink()
"""A test's thread may be on another."""


class WarmProcess:
    """As `subprocess.Popen`, as far as `PeerProcess` uses it, for one `otelbridge` command.

    Args:
        arguments: what follows `otelbridge`.
        env: the whole environment.
        output: the file for its stdout and stderr.
    """

    def __init__(self, arguments: Sequence[str], *, env: Mapping[str, str], output: int) -> None:
        self.args = ["otelbridge", *arguments]
        self.returncode: int | None = None
        self._ended, theirs = os.pipe()
        order = json.dumps({"argv": self.args, "env": dict(env), "cwd": str(Path.cwd())}).encode()
        try:
            self.pid = _parent().start(order, [output, theirs])
        finally:
            os.close(theirs)

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, and returns the exit code.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._ended, 20)))
            os.close(self._ended)
        return self.returncode


class _Parent:
    """The process that is forked; one for each process that runs tests, which ends with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **ALWAYS},
                start_new_session=True,
            )

    def start(self, order: bytes, files: list[int]) -> int:
        """Returns the pid."""
        with self._lock:
            socket.send_fds(self._line, [order], files)
            return int(self._line.recv(20))


_parents: list[_Parent] = []
_only_one = threading.Lock()


def _parent() -> _Parent:
    with _only_one:
        if not _parents:
            _parents.append(_Parent())
        return _parents[0]


def can_be_warm(env: Mapping[str, str]) -> bool:
    """Whether we are on the tests' own network, in an environment that adds nothing that only a fresh process obeys."""
    differing = {name for name, _ in env.items() ^ os.environ.items()} - set(ALWAYS)
    at_home = Path("/proc/thread-self/ns/net").readlink() == HOME_NETWORK
    return at_home and not any(name.startswith(READ_AT_START) for name in differing)


def _forked(line: socket.socket) -> dict[str, Any]:
    """Forks for each order, and returns it in the new process; ends when nobody is left to give one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        order, files, *_ = socket.recv_fds(line, MAX_ORDER_BYTES, 2)
        if not order:
            sys.exit()
        if os.fork() == 0:
            return _kept(line, json.loads(order), *files)
        for file in files:
            os.close(file)


def _kept(line: socket.socket, order: dict[str, Any], output: int, ended: int) -> dict[str, Any]:
    """Forks once more: this process tells how the new one has ended, which returns its order."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        line.send(b"%d" % pid)
        line.close()
        os.close(output)
        os.write(ended, b"%d" % os.waitpid(pid, 0)[1])
        os._exit(0)
    line.close()
    os.close(ended)
    os.setsid()
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.close(output)
    return order


def _serve() -> None:
    """In the process that is forked: imports what `otelbridge run` does, in the same way."""
    sys.path[0] = str(ROOT)
    from otelbridge.__main__ import main  # noqa: PLC0415 - only in this process
    from otelbridge.cli.process import import_without_openssl  # noqa: PLC0415
    from otelbridge.settings.environment import set_up_libraries  # noqa: PLC0415

    set_up_libraries()
    import_without_openssl("hashlib", "grpc")
    import otelbridge.cli.main  # noqa: PLC0415
    import otelbridge.cli.service  # noqa: F401, PLC0415

    order = _forked(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = order["argv"]
    main()


if __name__ == "__main__":
    _serve()
