"""A TCP proxy that can delay, limit, hold, swallow, reset or refuse, at any moment.

A `Pipe` is one direction of a connection, without socket and clock. `ProxiedConnection` moves bytes through two of
them, `TcpLoop` is the thread that waits for all sockets, `TcpProxy` what a test or a fault calls.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

BUFFER_BYTES = 256 * 1024
"""What a line holds at most; beyond it the sender's kernel has to wait."""
SLICE_SECONDS = 0.05
"""A limited line sends what fits into this time at once, then pauses."""


class Flow(StrEnum):
    """Whether bytes get through."""

    OPEN = "open"
    HOLD = "hold"
    """They wait, and go on when the line is open again: a peer that is stopped and continued."""
    SWALLOW = "swallow"
    """They vanish, endings too, though the kernel acknowledges them: nothing that follows makes sense to the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The state of one direction of a line."""

    flow: Flow = Flow.OPEN
    bytes_per_second: float | None = None
    latency_seconds: float = 0

    def __post_init__(self) -> None:
        if self.bytes_per_second is not None and not self.bytes_per_second > 0:
            raise ValueError(f"bytes_per_second must be greater than 0, not {self.bytes_per_second}")
        if self.latency_seconds < 0:
            raise ValueError(f"latency_seconds must be at least 0, not {self.latency_seconds}")


class Pipe:
    """One direction of one connection. Times are seconds of any one monotonic clock."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.passed_bytes = 0
        self.swallowed_bytes = 0
        self.ended = False
        """Nothing more comes in."""
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._buffered_bytes = 0
        self._may_send_at = 0.0

    def room(self) -> int:
        """How many bytes may be read from the sender now."""
        if self.ended or self.conditions.flow is Flow.HOLD:
            return 0
        return BUFFER_BYTES if self.conditions.flow is Flow.SWALLOW else BUFFER_BYTES - self._buffered_bytes

    def push(self, data: bytes, now: float) -> None:
        """Takes what was read from the sender."""
        if self.conditions.flow is Flow.SWALLOW:
            self.swallowed_bytes += len(data)
            return
        self._chunks.append((now + self.conditions.latency_seconds, memoryview(data)))
        self._buffered_bytes += len(data)

    def end(self) -> None:
        """Marks the end of the sender's stream; what is buffered still goes out."""
        self.ended = True

    def sendable(self, now: float) -> memoryview | None:
        """What may be written to the receiver now, if anything."""
        wake = self.wake_at()
        if wake is None or wake > now:
            return None
        chunk = self._chunks[0][1]
        if self.conditions.bytes_per_second is None:
            return chunk
        return chunk[: max(1, int(self.conditions.bytes_per_second * SLICE_SECONDS))]

    def sent(self, count: int, now: float) -> None:
        """Removes so many bytes of `sendable`: they were written."""
        due, chunk = self._chunks.popleft()
        if count < len(chunk):
            self._chunks.appendleft((due, chunk[count:]))
        self._buffered_bytes -= count
        self.passed_bytes += count
        if self.conditions.bytes_per_second is not None:
            self._may_send_at = max(now, self._may_send_at) + count / self.conditions.bytes_per_second

    def wake_at(self) -> float | None:
        """When the next byte may go out; None while none waits or none may."""
        if not self._chunks or self.conditions.flow is not Flow.OPEN:
            return None
        limited = self.conditions.bytes_per_second is not None
        return max(self._chunks[0][0], self._may_send_at) if limited else self._chunks[0][0]

    @property
    def waiting_bytes(self) -> int:
        """Read from the sender and not written to the receiver yet."""
        return self._buffered_bytes

    @property
    def finished(self) -> bool:
        """Whether all has been sent, and the receiver may be told of the end."""
        return self.ended and not self._chunks and self.conditions.flow is Flow.OPEN


READ_BYTES = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: close sends RST and throws away what is unsent."""

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""As `socket.getaddrinfo` gives it."""


class Direction(StrEnum):
    """One of the two ways of a connection."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


class ProxiedConnection:
    """One proxied connection; used by the proxy's own thread only.

    Args:
        client: The accepted socket.
        target: Where to connect to; bytes wait until that is done.
        conditions: The line's state at its start.
    """

    def __init__(self, client: socket.socket, target: Address, conditions: Mapping[Direction, Conditions]) -> None:
        family, address = target
        self.client = client
        self.server = socket.socket(family, socket.SOCK_STREAM)
        self.pipes = {direction: Pipe(conditions[direction]) for direction in Direction}
        self.closed = False
        self._ends = {
            Direction.TO_SERVER: (self.client, self.server),
            Direction.TO_CLIENT: (self.server, self.client),
        }
        self._broken: set[socket.socket] = set()
        """Reset by their peer while the line would not carry that on."""
        self._told_end: set[Direction] = set()
        self._connected = False
        for each in (self.client, self.server):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connect_ex(address)

    def move(self, now: float) -> None:
        """Reads and writes whatever the sockets and the line allow at this instant."""
        if not (self._connected or self._has_connected()):
            return
        for direction, (source, sink) in self._ends.items():
            pipe = self.pipes[direction]
            if (room := pipe.room()) and source not in self._broken:
                self._read(source, pipe, room, now)
            if sink not in self._broken:
                self._write(sink, direction, now)
        if self._broken and all(pipe.conditions.flow is Flow.OPEN for pipe in self.pipes.values()):
            self.reset()
        elif len(self._told_end) == len(self.pipes):
            self.close()

    def interests(self, now: float) -> dict[socket.socket, int]:
        """The selector events to wait for, per socket; sockets without any are left out."""
        if self.closed:
            return {}
        if not self._connected:
            return {self.server: selectors.EVENT_WRITE}
        wanted: dict[socket.socket, int] = {}
        for direction, (source, sink) in self._ends.items():
            pipe = self.pipes[direction]
            if pipe.room() and source not in self._broken:
                wanted[source] = wanted.get(source, 0) | selectors.EVENT_READ
            if pipe.sendable(now) is not None and sink not in self._broken:
                wanted[sink] = wanted.get(sink, 0) | selectors.EVENT_WRITE
        return wanted

    def wake_at(self) -> float | None:
        """When bytes that wait for their time may move on."""
        return min((at for pipe in self.pipes.values() if (at := pipe.wake_at()) is not None), default=None)

    def reset(self) -> None:
        """Ends both sides with RST."""
        for each in (self.client, self.server):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """Closes both sockets."""
        self.closed = True
        self.client.close()
        self.server.close()

    def _has_connected(self) -> bool:
        if self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset()
            return False
        try:
            self.server.getpeername()
        except OSError:
            return False
        self._connected = True
        return True

    def _read(self, source: socket.socket, pipe: Pipe, room: int, now: float) -> None:
        try:
            data = source.recv(min(room, READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._broken.add(source)
            return
        if data:
            pipe.push(data, now)
        else:
            pipe.end()

    def _write(self, sink: socket.socket, direction: Direction, now: float) -> None:
        pipe = self.pipes[direction]
        try:
            while (chunk := pipe.sendable(now)) is not None:
                pipe.sent(sink.send(chunk), now)
        except BlockingIOError:
            return
        except OSError:
            self._broken.add(sink)
            return
        if pipe.finished and direction not in self._told_end:
            self._told_end.add(direction)
            with contextlib.suppress(OSError):  # the receiver has gone already: it needs no telling
                sink.shutdown(socket.SHUT_WR)


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
        """Runs a function on the loop's thread, and returns its result."""
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
        except OSError as error:
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
    """Counts of connections and bytes."""

    accepted: int
    """Connections, over all time."""
    open: int
    passed_bytes: Mapping[Direction, int]
    swallowed_bytes: Mapping[Direction, int]
    held_up: bool
    """Whether bytes wait, or would: in the proxy, or behind a line that holds."""


class TcpProxy:
    """A network between a client and a server; what a method does has taken effect when it returns, from any thread.

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

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """`host:port` to give to the client, known from the first start on."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def shape(self, conditions: Conditions, *, directions: Iterable[Direction] = BOTH) -> None:
        """Sets what the line is like, for open connections and those to come."""
        loop, chosen = self._loop, tuple(directions)

        def apply() -> None:
            for direction in chosen:
                loop.conditions[direction] = conditions
                for each in loop.connections.values():
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

    def cut(self) -> int:
        """Ends open connections with RST on both sides; returns how many."""
        loop = self._loop

        def apply() -> int:
            for each in loop.connections.values():
                each.reset()
            return len(loop.connections)

        return loop.order(apply)

    def half_close(self, direction: Direction) -> None:
        """Ends one direction of open connections as if its sender had finished; the other direction goes on."""
        loop = self._loop

        def apply() -> None:
            for each in loop.connections.values():
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

    def counts(self) -> ProxyCounts:
        """Counts since the start."""
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


def _address(target: str) -> Address:
    host, _, port = target.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, address
