"""A TCP proxy that can delay, limit, hold, swallow, reset or refuse, at any moment.

A `Pipe` is one direction of a connection, without socket and clock. `ProxiedConnection` moves bytes through two of
them. `TcpProxy` is what a test or a fault calls; its thread waits for all sockets.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

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
    """One proxied connection, from an accepted socket to `target`; bytes wait until it has connected there."""

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


BACKLOG = 512
WAKE = b"\0"
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
    """A network between a client and the server at `target` (`host:port`).

    What a method does has taken effect when it returns, from any thread. Port 0 takes a free one at the first start;
    later starts take the same.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._target = _address(target)
        self._host, self._port = host, port
        self._lock = threading.RLock()
        """Held by whoever moves bytes or changes anything, but not while the thread waits for sockets."""
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None

    def start(self) -> Self:
        """Listens.

        Raises:
            OSError: The port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("this proxy is running already")
        self._conditions = dict.fromkeys(Direction, Conditions())
        self._connections: dict[int, ProxiedConnection] = {}
        self._accepted = 0
        self._passed_bytes = dict.fromkeys(Direction, 0)
        """By connections that have gone; so is `_swallowed_bytes`."""
        self._swallowed_bytes = dict.fromkeys(Direction, 0)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, int] = {}
        try:
            self._listen()
        except OSError:
            self._selector.close()
            raise
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.settimeout(0)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="simulator-tcp-proxy")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Closes every connection and the listener."""
        thread = self._thread
        if thread is None:
            return
        with self._changing():
            self._thread = None
            self._unlisten()
            for connection in self._connections.values():
                connection.close()
        thread.join()
        for each in (self._wake_in, self._wake_out, self._selector):
            each.close()

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
        with self._changing():
            for direction in directions:
                self._conditions[direction] = conditions
                for each in self._connections.values():
                    each.pipes[direction].conditions = conditions

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
        with self._changing():
            for each in self._connections.values():
                each.reset()
            return len(self._connections)

    def half_close(self, direction: Direction) -> None:
        """Ends one direction of open connections as if its sender had finished; the other direction goes on."""
        with self._changing():
            for each in self._connections.values():
                each.pipes[direction].end()

    def refuse(self) -> None:
        """Refuses new connections, as a machine does on which nobody listens; open ones go on."""
        with self._changing():
            self._unlisten()

    def accept(self) -> None:
        """Ends `refuse`, on the same port.

        Raises:
            OSError: Somebody else has taken the port meanwhile.
        """
        with self._changing():
            self._listen()

    def counts(self) -> ProxyCounts:
        """Counts since the start."""
        with self._changing():
            pipes = [connection.pipes for connection in self._connections.values()]
            return ProxyCounts(
                accepted=self._accepted,
                open=len(pipes),
                passed_bytes={to: self._passed_bytes[to] + sum(each[to].passed_bytes for each in pipes) for to in BOTH},
                swallowed_bytes={
                    to: self._swallowed_bytes[to] + sum(each[to].swallowed_bytes for each in pipes) for to in BOTH
                },
                held_up=any(
                    pipe.waiting_bytes or pipe.conditions.flow is Flow.HOLD for each in pipes for pipe in each.values()
                ),
            )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """A time in which nothing moves; what was changed in it has taken effect at its end."""
        with self._lock:
            if self._thread is None:
                raise RuntimeError("this proxy is not running")
            yield
            self._serve(self._connections)
            self._wake_in.send(WAKE)

    def _listen(self) -> None:
        """Takes new connections from now on."""
        if self._listener is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._listener = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
            self._listener.settimeout(0)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._port = int(self._listener.getsockname()[1])

    def _unlisten(self) -> None:
        """Has the kernel refuse new connections from now on."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _run(self) -> None:
        while True:
            touched = {key.data for key, _ in self._selector.select(self._timeout())}
            with self._lock:
                if self._thread is None:
                    return
                with contextlib.suppress(BlockingIOError):
                    self._wake_out.recv(READ_BYTES)
                self._accept()
                now = time.monotonic()
                due = (n for n, each in self._connections.items() if (at := each.wake_at()) is not None and at <= now)
                self._serve(touched.union(due))

    def _timeout(self) -> float | None:
        with self._lock:
            times = [at for each in self._connections.values() if (at := each.wake_at()) is not None]
        # A due byte whose receiver is not ready is waited for by the selector, not by the clock.
        now = time.monotonic()
        return min((at - now for at in times if at > now), default=None)

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except OSError:  # nobody waits any more, or the one who did has gone
                return
            connection = self._connections[self._accepted] = ProxiedConnection(client, self._target, self._conditions)
            self._watch(self._accepted, connection, time.monotonic())
            self._accepted += 1

    def _serve(self, numbers: Iterable[int]) -> None:
        """Moves what can be moved on these connections; those that have ended are counted, and forgotten."""
        now = time.monotonic()
        for number in self._connections.keys() & numbers:
            connection = self._connections[number]
            if not connection.closed:
                connection.move(now)
            self._watch(number, connection, now)
            if connection.closed:
                del self._connections[number]
                for direction, pipe in connection.pipes.items():
                    self._passed_bytes[direction] += pipe.passed_bytes
                    self._swallowed_bytes[direction] += pipe.swallowed_bytes

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


def _address(target: str) -> Address:
    host, _, port = target.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, address
