"""One keep-alive HTTP/1.1 connection: a POST in, status, headers and a capped body out, within one deadline.

The standard library's timeouts count from each byte; here the whole exchange has one deadline, so that an endpoint
that drips its answer cannot hold a courier.
"""

from __future__ import annotations

import io
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import TYPE_CHECKING, NamedTuple

from otelbridge.send.settings import MIB
from otelbridge.send.target import Target

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only

MAX_ANSWER_BYTES = 4 * MIB
"""What the OTLP specification lets a client demand of answers."""


class HttpAnswer(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Reader(io.RawIOBase):
    """Reads a socket until a moment on the monotonic clock."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


class _Socket:
    """As much of a socket as http.client uses, with a deadline instead of timeouts."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        self.connection.settimeout(_left(self.deadline))
        self.connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self.connection, self.deadline))

    def close(self) -> None:
        self.connection.close()


class HttpConnection:
    """Connects when it is made, by the deadline given.

    Args:
        target: where to.
        tls: the context, for a target with TLS.
        server_name: expected in the certificate; the target's host where empty.
        deadline: a moment on the monotonic clock.

    Raises:
        OSError: no connection, or no TLS; also when the deadline passed.
    """

    def __init__(self, target: Target, tls: ssl.SSLContext | None, *, server_name: str, deadline: float) -> None:
        self.tls = tls
        self._path = target.path
        raw = _connected(target, deadline)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                raw.settimeout(_left(deadline))
                raw = tls.wrap_socket(raw, server_hostname=server_name or target.host)
        except BaseException:
            raw.close()
            raise
        self._socket = _Socket(raw)
        self._http = HTTPConnection(target.host, target.port)
        self._http.sock = self._socket  # as much of a socket as it uses

    def post(self, body: bytes, headers: Mapping[str, str], *, deadline: float) -> HttpAnswer:
        """One exchange.

        Raises:
            OSError, http.client.HTTPException: it failed, or the deadline passed; the connection is of no use any more.
        """
        self._socket.deadline = deadline
        self._http.request("POST", self._path, body, dict(headers))
        response = self._http.getresponse()
        try:
            content = response.read(MAX_ANSWER_BYTES)
            names = {name.lower(): value for name, value in response.getheaders()}
            return HttpAnswer(response.status, names, content)
        finally:
            if not response.isclosed():  # there is more than we read: a next answer would begin in the middle of it
                response.close()
                self.close()

    @property
    def usable(self) -> bool:
        """Whether it is open and silent: an idle connection that has something to say says goodbye."""
        if self._http.sock is None:
            return False
        readable, _, _ = select.select([self._socket.connection], [], [], 0)
        return not readable

    def cancel(self) -> None:
        """Wakes an exchange under way in another thread: it fails at once."""
        try:
            self._socket.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already, and nobody waits for it

    def close(self) -> None:
        """Closes the socket."""
        self._http.close()
        self._socket.close()


def _connected(target: Target, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; an address that is silent leaves the others their time."""
    addresses = _resolved(target, deadline)
    failure = OSError(f"the name {target.host} has no address")
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return socket.create_connection((address, target.port), timeout=_left(deadline) / left)
        except OSError as error:
            failure = error
    raise failure


def _resolved(target: Target, deadline: float) -> list[str]:
    """The addresses of a host, by the deadline: the system's own look-up takes as long as it likes.

    A look-up that is late ends on a thread of its own; the couriers' ladder keeps them few.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(error)
        else:
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))

    threading.Thread(target=look_up, name=f"resolve {target.host}", daemon=True).start()
    try:
        answer = answers.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError(f"the name {target.host} was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the request passed")
    return left
