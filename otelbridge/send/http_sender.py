"""OTLP over HTTP with protobuf bodies: an encoded request in, an Outcome out.

On the standard library's http.client: nothing to add to the image, no redirects or proxies followed behind our back,
and the deadline, the answer's cap and the cancelling are ours (docs/decisions/http-client.md).
"""

from __future__ import annotations

import io
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, NamedTuple

from otelbridge.queue.model import Hold, Outcome, RetryLater
from otelbridge.queue.packing import gzip_member, unpacked
from otelbridge.send import classify
from otelbridge.send.certificates import Certificates, TlsFiles, ssl_context
from otelbridge.send.classify import hidden
from otelbridge.send.credentials import Credentials
from otelbridge.send.settings import MIB, SendSettings
from otelbridge.send.target import Target, send_target

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


UNAUTHORIZED = "401"
CLOSING = RetryLater(code="CANCELLED", why="the bridge is closing")


class HttpSender:
    """Keeps idle connections, one per courier at most.

    Raises:
        SendSettingsError: a setting cannot work.
    """

    def __init__(self, settings: SendSettings, *, version: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = send_target(settings)
        self._credentials = Credentials(settings, self._target, clock=clock)
        self._certificates = Certificates(settings, clock=clock) if self._target.tls else None
        self._tls: tuple[TlsFiles, ssl.SSLContext] | None = None
        self._server_name = settings.server_name
        self._timeout_seconds = settings.timeout_seconds
        self._gzip = settings.compression == "gzip"
        self._headers = {"content-type": "application/x-protobuf", "user-agent": f"otelbridge/{version}"}
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        if settings.server_name:
            self._headers["host"] = settings.server_name
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._closed = threading.Event()

    @property
    def endpoint(self) -> str:
        """The URL without its query."""
        return self._target.url

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Of the files in use; None where there are none."""
        return self._certificates.expires_unix_seconds if self._certificates is not None else None

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract
        """One POST; a second one at once when the credentials turn out to have been renewed."""
        headers = self._credentials.headers()
        if isinstance(headers, Hold):
            return headers
        body = gzip_member(request) if self._gzip else unpacked(request)
        outcome = self._attempt(body, headers)
        if isinstance(outcome, Hold) and outcome.code == UNAUTHORIZED:
            renewed = self._credentials.headers(doubted=True)
            if not isinstance(renewed, Hold) and renewed != headers:
                outcome = self._attempt(body, renewed)
        return hidden(outcome, self._credentials, self._certificates)

    def renewed(self) -> bool:
        """Whether a file holds something else than the last request went with."""
        return self._credentials.renewed() or (self._certificates is not None and self._certificates.renewed())

    def close(self) -> None:
        """Closes idle connections and breaks those under way."""
        with self._lock:
            self._closed.set()
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.cancel()

    def _attempt(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        if self._closed.is_set():
            return CLOSING
        deadline = time.monotonic() + self._timeout_seconds
        try:
            answer = self._exchange(body, {**self._headers, **headers}, deadline)
        except (OSError, HTTPException) as error:
            return CLOSING if self._closed.is_set() else classify.of_broken_connection(error)
        return classify.of_http(answer.status, answer.headers, answer.body)

    def _exchange(self, body: bytes, headers: Mapping[str, str], deadline: float) -> HttpAnswer:
        connection = self._taken(deadline)
        healthy = False
        try:
            answer = connection.post(body, headers, deadline=deadline)
            healthy = connection.usable and answer.headers.get("connection", "").lower() != "close"
        finally:
            self._given_back(connection, healthy=healthy)
        return answer

    def _taken(self, deadline: float) -> HttpConnection:
        """An idle connection that is still good, or a new one."""
        tls = self._context()
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.usable and connection.tls is tls:
                    self._busy.add(connection)
                    return connection
                connection.close()
        connection = HttpConnection(self._target, tls, server_name=self._server_name, deadline=deadline)
        with self._lock:
            self._busy.add(connection)
            closed = self._closed.is_set()
        if closed:
            connection.cancel()
        return connection

    def _given_back(self, connection: HttpConnection, *, healthy: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if healthy and not self._closed.is_set():
                self._idle.append(connection)
                return
        connection.close()

    def _context(self) -> ssl.SSLContext | None:
        """The TLS context of the files in force; the same object as long as they do not change."""
        if self._certificates is None:
            return None
        files = self._certificates.current()
        with self._lock:
            if self._tls is None or self._tls[0] != files:
                self._tls = (files, ssl_context(files))
            return self._tls[1]
