"""Models one direction of a connection with limited speed; no socket, no clock."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
        """The sender has finished; what is buffered still goes out."""
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
        """So many bytes of `sendable` were written."""
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
        """All that will ever come has gone out, and the receiver may be told so."""
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
