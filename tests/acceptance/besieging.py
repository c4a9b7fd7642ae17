"""Besieges a status server in the ways of hostile clients, each in a process of its own, while its probes are asked."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.peers.bridge import running_bridge
from tests.simulated import SimulatorProcess

PATHS = ("/livez", "/readyz")
ASKED_EACH_SECONDS = 0.1
PROMISED_SECONDS = 0.1
PACE_SECONDS = 0.05
"""Between two turns of an attacker, unless its kind is to take none."""
POLITENESS = 10
"""Nice level of the attackers: on two cores they would else take the prober's processor, not the bridge's time."""
REQUEST = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIPELINED = REQUEST + b"GET /page.css HTTP/1.1\r\nHost: a\r\n\r\n" * 500
LARGE_HEADER = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1024 * 1024
CONNECTS = 10_000
HELD = 256
"""Of the connections of a wave, before the oldest is closed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe."""

    path: str
    seconds: float
    """From before the connect to the last byte of the answer."""
    connect_seconds: float
    """Of these, until the kernel had connected it."""
    own_wait_seconds: float
    """Of these, what the prober itself waited for a processor."""
    server_wait_seconds: float
    """What the threads of the server waited for one meanwhile, together."""
    wrong: str
    """What came in place of 200 or 503; empty where nothing did."""

    @property
    def served_seconds(self) -> float:
        """What the server and the machine around it took."""
        return self.seconds - self.own_wait_seconds

    @property
    def computed_seconds(self) -> float:
        """What the server alone took: a machine that does other work too gives nobody a processor at once."""
        return self.served_seconds - self.server_wait_seconds


@contextmanager
def siege(port: int, kinds: Sequence[str] | None = None) -> Iterator[None]:
    """Attacks a port of the loopback address, in all kinds of ATTACKS or some, until the context ends."""
    spawn = multiprocessing.get_context("spawn")
    attackers = [spawn.Process(target=_attack, args=(kind, port), daemon=True) for kind in kinds or ATTACKS]
    for attacker in attackers:
        attacker.start()
    try:
        yield
        assert all(attacker.is_alive() for attacker in attackers), "an attacker has given up"
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.join()


def ask_for(port: int, pid: int, seconds: float) -> list[Asked]:
    """Asks each probe every 100 ms for so long; one that is late delays the next ones of its path."""
    asked: list[Asked] = []
    until = time.monotonic() + seconds

    def ask(path: str) -> None:
        pace, due = threading.Event(), time.monotonic()
        while due < until:
            asked.append(_ask(port, pid, path))
            due = max(due + ASKED_EACH_SECONDS, time.monotonic())
            pace.wait(due - time.monotonic())

    askers = [threading.Thread(target=ask, args=(path,)) for path in PATHS]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    return asked


def besieged(folder: Path, *, seconds: float) -> dict[str, Any]:
    """Besieges a bridge that receives and delivers for so long; what its probes took."""
    with (
        SimulatorProcess(["--rate", "100", "--loop", "--stay"]) as upstream,
        running_bridge(folder, feed={"endpoints": [upstream.endpoint]}, send={"protocol": "console"}) as bridge,
    ):
        bridge.wait_until_watching()
        with siege(bridge.status_port):
            found = figures(ask_for(bridge.status_port, bridge.process.pid, seconds))
        assert bridge.balances()
        assert bridge.stop() == 0
        return found


def figures(asked: Sequence[Asked]) -> dict[str, Any]:
    """What the probes took, in milliseconds, and the load of the machine (mean of the last minute)."""
    return {
        "asked": len(asked),
        "wrong": sorted({one.wrong for one in asked if one.wrong}),
        "worst_ms": _milliseconds(asked, 1.0, lambda one: one.served_seconds),
        "p99_ms": _milliseconds(asked, 0.99, lambda one: one.served_seconds),
        "median_ms": _milliseconds(asked, 0.5, lambda one: one.served_seconds),
        "late": sum(one.served_seconds > PROMISED_SECONDS for one in asked),
        "worst_ms_with_the_probers_own_wait": _milliseconds(asked, 1.0, lambda one: one.seconds),
        "worst_ms_of_itself": _milliseconds(asked, 1.0, lambda one: one.computed_seconds),
        "late_of_itself": sum(one.computed_seconds > PROMISED_SECONDS for one in asked),
        "load": round(os.getloadavg()[0], 1),
    }


def _milliseconds(asked: Sequence[Asked], share: float, of: Callable[[Asked], float]) -> float:
    return round(sorted(map(of, asked))[min(len(asked) - 1, int(len(asked) * share))] * 1000, 1)


def _ask(port: int, pid: int, path: str) -> Asked:
    served = _wait_seconds(f"/proc/{pid}/task")
    waited, began, connected, answer, wrong = _own_wait_seconds(), time.monotonic(), 0.0, b"", ""
    try:
        with _connect(port) as client:
            connected = time.monotonic() - began
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(4096), b""))
    except OSError as error:
        wrong = repr(error)
    seconds = time.monotonic() - began
    if not wrong and not answer.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Service Unavailable\r\n")):
        wrong = repr(answer[:64])
    own = _own_wait_seconds() - waited
    return Asked(path, seconds, connected, own, max(0.0, _wait_seconds(f"/proc/{pid}/task") - served), wrong)


def _own_wait_seconds() -> float:
    """So long this thread has been able to run without a processor; 0 where the kernel does not count it."""
    return _waited_in(Path("/proc/thread-self"))


def _wait_seconds(tasks: str) -> float:
    """The same of all threads of a process."""
    return sum(map(_waited_in, Path(tasks).iterdir()))


def _waited_in(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:  # a thread that has ended, or the kernel does not count it
        return 0.0


def _connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def _connect_from_afar(port: int) -> socket.socket:
    """From any other address: it takes no port of the prober's, as no other machine's client would."""
    client = _connect(port, f"127.{random.randrange(1, 255)}.{random.randrange(255)}.1")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no port is left in TIME_WAIT
    return client


def _attack(kind: str, port: int) -> None:
    os.nice(POLITENESS)
    pace = threading.Event()
    turn = ATTACKS[kind](port)
    while True:
        with suppress(OSError):  # the server has closed it, or the machine has no port left: go on
            next(turn)
        pace.wait(PACE_SECONDS)


def _crowd(port: int, *, clients: int, send: bytes, end: bool = False) -> Iterator[None]:
    """Keeps so many connections that send this each turn, as far as they can, and read nothing; `end`: their half."""
    crowd: list[socket.socket] = []
    while True:
        while len(crowd) < clients:
            client = _connect_from_afar(port)
            client.settimeout(0)
            crowd.append(client)
        yield
        crowd = [client for client in crowd if _goes_on(client, send, end=end)]


def _goes_on(client: socket.socket, send: bytes, *, end: bool) -> bool:
    """Sends; False, and closed, where the other side has closed it."""
    try:
        if send:
            with suppress(BlockingIOError):
                client.send(send)
        elif not client.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError
        if end:
            client.shutdown(socket.SHUT_WR)
    except BlockingIOError:
        return True
    except OSError:
        client.close()
        return False
    return True


def _waves(port: int) -> Iterator[None]:
    held: deque[socket.socket] = deque()
    while True:
        for _ in range(CONNECTS):
            with suppress(OSError):
                held.append(_connect_from_afar(port))
            if len(held) > HELD:
                held.popleft().close()
        yield


def client_hello() -> bytes:
    """The first bytes that a TLS client sends."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


ATTACKS: dict[str, Callable[[int], Iterator[None]]] = {
    "reads nothing": partial(_crowd, clients=64, send=PIPELINED),
    "slowloris": partial(_crowd, clients=200, send=b"x"),
    "connects": _waves,
    "idle": partial(_crowd, clients=500, send=b""),
    "half closed": partial(_crowd, clients=50, send=REQUEST, end=True),
    "half a request, half closed": partial(_crowd, clients=50, send=REQUEST[:20], end=True),
    "TLS": partial(_crowd, clients=50, send=client_hello()),
    "large headers": partial(_crowd, clients=20, send=LARGE_HEADER),
}
"""By name: what takes one turn of its attack at each `next`."""
