"""Sockets and orders in, moved bytes out: the one thread that owns a proxy's listener and connections."""

from __future__ import annotations

import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from otelbridge.simulator.tcp_connection import Address, Connection, Direction
from otelbridge.simulator.tcp_pipe import Conditions

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
        self.connections: dict[int, Connection] = {}
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
            connection = self.connections[number] = Connection(client, self.target, self.conditions)
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

    def _serve(self, number: int, connection: Connection, now: float) -> None:
        if not connection.closed:
            connection.move(now)
        self._watch(number, connection, now)
        if connection.closed:
            del self.connections[number]
            for direction, pipe in connection.pipes.items():
                self.passed_bytes[direction] += pipe.passed_bytes
                self.swallowed_bytes[direction] += pipe.swallowed_bytes

    def _watch(self, number: int, connection: Connection, now: float) -> None:
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
