"""TCP connections in, the same bytes to a target out, and every fault that a network has, at any moment."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from otelbridge.simulator.tcp_connection import Address, Connection, Direction
from otelbridge.simulator.tcp_loop import TcpLoop
from otelbridge.simulator.tcp_pipe import Conditions, Flow

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


def _chosen(loop: TcpLoop, connection: int | None) -> list[Connection]:
    return list(loop.connections.values()) if connection is None else [loop.connections[connection]]


def _address(target: str) -> Address:
    host, _, port = target.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, address
