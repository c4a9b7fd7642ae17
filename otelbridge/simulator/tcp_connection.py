"""Two sockets and the pipes between them: moves what may move, and says what it waits for. Never blocks."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Mapping
from enum import StrEnum

from otelbridge.simulator.tcp_pipe import Conditions, Flow, Pipe

READ_BYTES = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: close sends RST and throws away what is unsent."""

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""As `socket.getaddrinfo` gives it."""


class Direction(StrEnum):
    """One of the two ways of a connection."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


class Connection:
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
        """What each socket is to be waited for; a socket that is not waited for is left out."""
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
        """Lets go of both sockets."""
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
