"""Pauses the busiest reader of a connection once it has read everything, so that it wakes for several events at once.

gRPC's own threads sleep as well: during a pause the kernel wakes them for `GULP_BYTES` only, so an event alone waits in
the socket until the pause ends, and a burst is taken from it at once: KubeArmor's slots do not fill.
docs/decisions/pacing.md has the figures.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import sys
import termios
import threading
import time
from collections.abc import Collection, Hashable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from otelbridge.net.address import Address

WAITED_NANOS = 300_000
"""A reader that had to wait so long for an event has read everything that was there before it."""
LEAST_EVENTS_PER_SECOND = 40
"""Below, a pause gathers hardly an event, and ends with one more wake-up."""
MOST_EVENTS_PER_SECOND = 5_000
"""Above, events come several at a time anyway, and a wait may be one for a busy interpreter instead of for an event."""
PROMPT_EVENTS_PER_SECOND = 2_500
"""Up to here what is read during another reader's pause waits for no end of it; a turn costs most for a few events."""
MOST_COUNTED_PER_SECOND = 20_000
"""The same in a flood of which nearly all is only counted: nobody waits for it, and it leaves the interpreter idle."""
WINDOW_NANOS = 1_000_000_000
WAKE_NANOS = 3_000_000
"""After a pause, what gRPC's threads may take to wake and bring the first event: that wait is none for an event."""
GULP_BYTES = 60 * 1024
"""Some 65 events: at 100,000 events/s they are there in two thirds of a millisecond, and KubeArmor's slots hold ten.
Beyond half of the socket's buffer the kernel would bound the socket's window by it."""
RATE_SECONDS = 2.0
"""So long the rate counts that a reader has said last."""
BACKLOG_BYTES = 4 * 1024
"""So much in the socket means that gRPC's threads come late, not that everything was read."""
OPEN_FILES = Path("/proc/self/fd")
INT_BYTES = 4


BRIEF_SECONDS = 0.025
"""A pause that suits who wants events at once: they are at the endpoint within 50 ms."""
LINGER_SHARE = 0.25


def pause_beside(linger_seconds: float, longest_seconds: float) -> float:
    """How long readers pause where requests linger for so long: who does not wait there does not want to wait here."""
    return min(longest_seconds, max(BRIEF_SECONDS, linger_seconds * LINGER_SHARE))


class ReadPause:
    """Whether one reader pauses. Times are Unix nanoseconds, given by the caller; a clock that is set does no harm."""

    def __init__(self, pause_seconds: float) -> None:
        self.rate = 0.0
        """Events per second of late."""
        self._pause_seconds = pause_seconds
        self._since_unix_nano = 0
        self._events_then = 0
        self._last_rate = 0.0

    def seconds(self, now_unix_nano: int, events: int, *, flooded: bool = False) -> float:
        """How long a reader that has read everything pauses, or 0; `flooded`: most events are only counted."""
        elapsed, read = now_unix_nano - self._since_unix_nano, events - self._events_then
        if not 0 <= elapsed < WINDOW_NANOS:
            self._last_rate = max(0.0, read * WINDOW_NANOS / elapsed)
            self._since_unix_nano, self._events_then, read = now_unix_nano, events, 0
        self.rate = max(self._last_rate, read)
        most = MOST_COUNTED_PER_SECOND if flooded else MOST_EVENTS_PER_SECOND
        return self._pause_seconds if LEAST_EVENTS_PER_SECOND <= self.rate <= most else 0.0


class ConnectionPause:
    """One per connection. The reader with the most events pauses, and gRPC's threads with it. Thread-safe.

    The others have their events in the same gulp: pausing too, they would wake for nothing, and begin a pause while
    that one still reads.

    Args:
        peer: whom gRPC dials: the upstream, or the proxy on the way to it.
        others: inodes of sockets that belong to another connection with it.
    """

    def __init__(self, peer: Address, *, others: Collection[int] = ()) -> None:
        self._peer = peer
        self._others = others
        self._paused_until = self._paused_rate = 0.0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] | None = None
        self._rates: dict[Hashable, tuple[float, float]] = {}
        """Of the readers that may pause, and when it was said."""

    def begin(self, reader: Hashable, rate: float, seconds: float) -> bool:
        """A reader has waited for an event, and would pause; False where it should read on.

        Because another one has more events; or something is in the socket, to which gRPC's threads have not come.
        """
        with self._lock:
            now = time.monotonic()
            self._rates[reader] = (rate, now)
            if any(other > rate and now - said < RATE_SECONDS for other, said in self._rates.values()):
                return False
            if any(_unread_bytes(one) >= BACKLOG_BYTES for one in self._found()):
                return False
            self._wake_for(GULP_BYTES)
            self._paused_until, self._paused_rate = now + seconds, rate
            return True

    def left_seconds(self, rate: float) -> float:
        """How long a pause goes on; 0 where there is none, or where events come in turns anyway at these rates."""
        until = self._paused_until
        if not until or rate + self._paused_rate > PROMPT_EVENTS_PER_SECOND:
            return 0.0
        return max(0.0, until - time.monotonic())

    def end(self) -> None:
        """It reads on: from here on whatever comes wakes gRPC."""
        with self._lock:
            self._paused_until = 0.0
            self._wake_for(1)

    def sockets(self) -> list[socket.socket]:
        """Duplicates of the connection's sockets."""
        with self._lock:
            return self._found()

    def _found(self) -> list[socket.socket]:
        if self._sockets is None:
            self._sockets = connected_to(self._peer, others=self._others)
        return self._sockets

    def close(self) -> None:
        """The connection is closed."""
        with self._lock:
            for one in self._sockets or ():
                one.close()
            self._sockets = []

    def _wake_for(self, least_bytes: int) -> None:
        for one in self._sockets or ():
            with suppress(OSError):  # gRPC has closed it
                room = one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 if least_bytes > 1 else 1
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, min(least_bytes, room - BACKLOG_BYTES)))


def _unread_bytes(one: socket.socket) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(one, termios.FIONREAD, bytes(INT_BYTES)), sys.byteorder)
    except OSError:  # gRPC has closed it
        return 0


def inodes_connected_to(peer: Address) -> frozenset[int]:
    """Which of this process's sockets are connected to a peer."""
    found = connected_to(peer)
    inodes = frozenset(os.fstat(one.fileno()).st_ino for one in found)
    for one in found:
        one.close()
    return inodes


def connected_to(peer: Address, *, others: Collection[int] = ()) -> list[socket.socket]:
    """Duplicates of this process's sockets that are connected to a peer; of a name every one with its port.

    gRPC does not say which sockets are its own; those that were there before, `others`, are not. Outside of Linux there
    are none.
    """
    found: dict[int, socket.socket] = {}
    for file in OPEN_FILES.iterdir() if OPEN_FILES.is_dir() else ():
        with suppress(OSError):  # closed by now
            number = int(file.name)
            status = os.fstat(number)
            if (
                stat.S_ISSOCK(status.st_mode) and status.st_ino not in found and status.st_ino not in others
            ):  # a duplicate may have a number of the list
                one = socket.socket(fileno=os.dup(number))  # its `dup` would make gRPC's socket a blocking one
                if _is_connected_to(one, peer):
                    found[status.st_ino] = one
                else:
                    one.close()
    return list(found.values())


def _is_connected_to(one: socket.socket, peer: Address) -> bool:
    if one.family not in {socket.AF_INET, socket.AF_INET6} or one.type != socket.SOCK_STREAM:
        return False
    try:
        host, port = one.getpeername()[:2]
    except OSError:  # it is not connected
        return False
    return bool(port == peer.port and (not peer.is_ip or _number(host) == _number(peer.host)))


def _number(host: str) -> IPv4Address | IPv6Address:
    """An address without its interface; of IPv4, where it is reached over a socket for both versions, as gRPC's are."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
