"""Forwards TCP connections to a target, with every fault that a network has, at any moment."""

from __future__ import annotations

import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from otelbridge.simulator.tcp_pipe import Address, Conditions, Direction, Flow, ProxiedConnection

T = TypeVar("T")

BACKLOG = 512
WAKE = b"\0"
ORDER_SECONDS = 10.0
"""An order that takes longer went to a loop that has ended."""


class TcpLoop:
    """Runs from its construction to `stop`. All but `order` and `stop` belongs to its thread: go through `order`.

    Args:
        target: Where the connections go.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """

    def __init__(self, target: Address, host: str, port: int) -> None:
        self.target = target
        self.conditions = dict.fromkeys(Direction, Conditions())
        self.connections: dict[int, ProxiedConnection] = {}
        self.accepted = 0
        self.passed_bytes = dict.fromkeys(Direction, 0)
        """By connections that have gone; so is `swallowed_bytes`."""
        self.swallowed_bytes = dict.fromkeys(Direction, 0)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, int] = {}
        self._listener: socket.socket | None = None
        try:
            self.port = self.listen(host, port)
        except OSError:
            self._selector.close()
            raise
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.settimeout(0)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="simulator-tcp-proxy")
        self._thread.start()

    def order(self, do: Callable[[], T]) -> T:
        """Has something done by the loop's thread, and returns its result."""
        done: Future[T] = Future()
        self._orders.put((do, done))
        self._wake_in.send(WAKE)
        return done.result(ORDER_SECONDS)

    def stop(self) -> None:
        """Closes every connection and the listener, and ends the thread."""
        self.order(self._stop)
        self._thread.join()
        for each in (self._wake_in, self._wake_out, self._selector):
            each.close()

    def listen(self, host: str, port: int) -> int:
        """Takes new connections from now on; returns the port."""
        if self._listener is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
            self._listener.settimeout(0)
            self._selector.register(self._listener, selectors.EVENT_READ)
        return int(self._listener.getsockname()[1])

    def unlisten(self) -> None:
        """Has the kernel refuse new connections from now on."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _stop(self) -> None:
        self._running = False
        self.unlisten()
        for connection in self.connections.values():
            connection.close()

    def _run(self) -> None:
        while self._running:
            touched = {key.data for key, _ in self._selector.select(self._timeout())}
            self._accept()
            now = time.monotonic()
            ordered = self._obey()
            for number, connection in list(self.connections.items()):
                due = connection.wake_at()
                if ordered or number in touched or (due is not None and due <= now):
                    self._serve(number, connection, now)

    def _timeout(self) -> float | None:
        times = [at for connection in self.connections.values() if (at := connection.wake_at()) is not None]
        # A due byte whose receiver is not ready is waited for by the selector, not by the clock.
        now = time.monotonic()
        return min((at - now for at in times if at > now), default=None)

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except OSError:  # nobody waits any more, or the one who did has gone
                return
            number = self.accepted
            self.accepted += 1
            connection = self.connections[number] = ProxiedConnection(client, self.target, self.conditions)
            self._watch(number, connection, time.monotonic())

    def _obey(self) -> bool:
        """One order a round: what it closes is let go by the selector before another can open."""
        try:
            self._wake_out.recv(len(WAKE))
        except BlockingIOError:
            return False
        do, done = self._orders.get()
        try:
            done.set_result(do())
        except (OSError, KeyError) as error:
            done.set_exception(error)
        return True

    def _serve(self, number: int, connection: ProxiedConnection, now: float) -> None:
        if not connection.closed:
            connection.move(now)
        self._watch(number, connection, now)
        if connection.closed:
            del self.connections[number]
            for direction, pipe in connection.pipes.items():
                self.passed_bytes[direction] += pipe.passed_bytes
                self.swallowed_bytes[direction] += pipe.swallowed_bytes

    def _watch(self, number: int, connection: ProxiedConnection, now: float) -> None:
        wanted = connection.interests(now)
        for each in (connection.client, connection.server):
            events, before = wanted.get(each, 0), self._watched.pop(each, 0)
            if events:
                self._watched[each] = events
            if events and not before:
                self._selector.register(each, events, number)
            elif before and not events:
                self._selector.unregister(each)
            elif events != before:
                self._selector.modify(each, events, number)


BOTH = tuple(Direction)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyCounts:
    """What has gone through."""

    accepted: int
    """Connections, over all time."""
    open: int
    passed_bytes: Mapping[Direction, int]
    swallowed_bytes: Mapping[Direction, int]
    held_up: bool
    """Whether bytes wait, or would: in the proxy, or behind a line that holds."""


class TcpProxy:
    """A network between a client and a server; what a method does has taken effect when it returns, from any thread.

    Connections are numbered from 0 as they come; a method without `connection` means all of them.

    Args:
        target: `host:port` of the server.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one at the first start, and later starts take the same.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._target = _address(target)
        self._host = host
        self._port = port
        self._running: TcpLoop | None = None

    def start(self) -> Self:
        """Listens.

        Raises:
            OSError: The port is taken.
        """
        if self._running is not None:
            raise RuntimeError("this proxy is running already")
        self._running = TcpLoop(self._target, self._host, self._port)
        self._port = self._running.port
        return self

    def stop(self) -> None:
        """Closes every connection and the listener."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """`host:port` to give to the client, known from the first start on."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def shape(
        self, conditions: Conditions, *, directions: Iterable[Direction] = BOTH, connection: int | None = None
    ) -> None:
        """Sets what the line is like, for open connections and those to come, or for one connection only."""
        loop, chosen = self._loop, tuple(directions)

        def apply() -> None:
            for direction in chosen:
                if connection is None:
                    loop.conditions[direction] = conditions
                for each in _chosen(loop, connection):
                    each.pipes[direction].conditions = conditions

        loop.order(apply)

    def hold(self) -> None:
        """Freezes both directions: to each side the other looks stopped. `open` goes on without a loss."""
        self.shape(Conditions(flow=Flow.HOLD))

    def swallow(self) -> None:
        """Makes a black hole of both directions; what has been swallowed is gone for good."""
        self.shape(Conditions(flow=Flow.SWALLOW))

    def open(self) -> None:
        """Makes a perfect line again."""
        self.shape(Conditions())

    def cut(self, connection: int | None = None) -> int:
        """Ends open connections with RST on both sides; returns how many."""
        loop = self._loop

        def apply() -> int:
            chosen = _chosen(loop, connection)
            for each in chosen:
                each.reset()
            return len(chosen)

        return loop.order(apply)

    def half_close(self, direction: Direction, connection: int | None = None) -> None:
        """Ends one direction of open connections as if its sender had finished; the other direction goes on."""
        loop = self._loop

        def apply() -> None:
            for each in _chosen(loop, connection):
                each.pipes[direction].end()

        loop.order(apply)

    def refuse(self) -> None:
        """Refuses new connections, as a machine does on which nobody listens; open ones go on."""
        loop = self._loop
        loop.order(loop.unlisten)

    def accept(self) -> None:
        """Ends `refuse`, on the same port.

        Raises:
            OSError: Somebody else has taken the port meanwhile.
        """
        loop, host, port = self._loop, self._host, self._port
        loop.order(lambda: loop.listen(host, port))

    def retarget(self, target: str) -> None:
        """New connections go to another server; open ones stay where they are."""
        loop, self._target = self._loop, _address(target)
        loop.order(lambda: setattr(loop, "target", self._target))

    def connections(self) -> tuple[int, ...]:
        """The numbers of the open connections."""
        loop = self._loop
        return loop.order(lambda: tuple(loop.connections))

    def counts(self) -> ProxyCounts:
        """What has gone through since the start."""
        loop = self._loop

        def count() -> ProxyCounts:
            pipes = [connection.pipes for connection in loop.connections.values()]
            return ProxyCounts(
                accepted=loop.accepted,
                open=len(pipes),
                passed_bytes={to: loop.passed_bytes[to] + sum(each[to].passed_bytes for each in pipes) for to in BOTH},
                swallowed_bytes={
                    to: loop.swallowed_bytes[to] + sum(each[to].swallowed_bytes for each in pipes) for to in BOTH
                },
                held_up=any(
                    pipe.waiting_bytes or pipe.conditions.flow is Flow.HOLD for each in pipes for pipe in each.values()
                ),
            )

        return loop.order(count)

    @property
    def _loop(self) -> TcpLoop:
        if self._running is None:
            raise RuntimeError("this proxy is not running")
        return self._running


def _chosen(loop: TcpLoop, connection: int | None) -> list[ProxiedConnection]:
    return list(loop.connections.values()) if connection is None else [loop.connections[connection]]


def _address(target: str) -> Address:
    host, _, port = target.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, address
