"""Sends encoded requests by OTLP/HTTP, on urllib3's connections.

urllib3 speaks HTTP (codings, chunks, bodies that end with the connection); the deadline of a whole exchange, the cap on
answers and the cancelling are added here (docs/decisions/http-client.md).
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.util.connection import is_connection_dropped

from otelbridge.event import Signal
from otelbridge.net.address import resolve_by_system
from otelbridge.net.deadline import DeadlineExceededError, run_with_deadline
from otelbridge.net.proxy import Proxy, connect_through
from otelbridge.net.tls_files import TlsFiles, client_context
from otelbridge.queue.model import Outcome, RetryLater
from otelbridge.queue.packing import gzip_member, unpacked
from otelbridge.send import classify
from otelbridge.send.access import Access
from otelbridge.send.settings import MIB, SendSettings, Target

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only

MAX_ANSWER_BYTES = 4 * MIB
"""What the OTLP specification lets a client demand of answers; after decompression."""
ACCEPTING = 2
"""Statuses of two hundred and more."""
CLOSING = RetryLater(code="CANCELLED", why="the bridge is closing")
CLOSED_WHILE_IDLE = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError, BadStatusLine)
"""How a kept connection shows that it was of no use any more: the server gave it up while it was idle
(RemoteDisconnected is a reset, too), or what comes first is the rest of an earlier answer."""
CODINGS: Mapping[str, tuple[int, ...]] = {
    "": (),
    "identity": (),
    "gzip": (16 + zlib.MAX_WBITS,),
    "x-gzip": (16 + zlib.MAX_WBITS,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}
"""The forms that each may have, as zlib numbers them: some servers send deflate without its header."""


class HttpAnswer(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    """`content-encoding` names the codings that are left on the body: those that we do not know."""
    body: bytes | None
    """None when its coding could not be undone, or it is longer than the cap."""


class _Reader(io.RawIOBase):
    """Reads a socket until the deadline of its wire."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._raw = wire.socket.makefile("rb", buffering=0)  # counted by the socket: it stays open until this is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._wire.socket.settimeout(_left(self._wire.deadline))
        count = self._raw.readinto(buffer)
        self._wire.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Wire:
    """As much of a socket as http.client and urllib3 use, with one deadline instead of timeouts for each step."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.deadline = 0.0
        self.ended = False
        """Whether the other end has said that nothing more will come."""

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(_left(self.deadline))
        self.socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def settimeout(self, _seconds: float | None) -> None:
        """Nothing: the deadline holds."""

    def fileno(self) -> int:
        return self.socket.fileno()

    def shutdown(self, how: int) -> None:
        self.socket.shutdown(how)

    def close(self) -> None:
        self.socket.close()


class _WholeHead:
    """The head of an answer, line by line: one that breaks off is an error, where http.client takes what there is.

    Spaces at the end of a line mean nothing (RFC 9110, section 5.5), which http.client does not know.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self._is_http = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self.file.readline(limit)
        self._is_http = self._is_http or line.startswith(b"HTTP/")
        whole = line.endswith(b"\n") or 0 <= limit <= len(line)
        if not whole and (self._is_http or not line):  # what is no HTTP at all is for http.client to say
            raise RemoteDisconnected("the answer breaks off in its head")
        return line.rstrip() + b"\r\n" if line.strip() and len(line) != limit else line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _FinalResponse(HTTPResponse):
    """Reads over every interim answer (1xx), where http.client knows 100 only; wants the head whole."""

    def begin(self) -> None:
        head = _WholeHead(self.fp)
        self.fp: Any = head  # as much of a file as is used
        super().begin()
        if self.fp is head:  # else http.client has closed it: there is no body
            self.fp = head.file

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in the stubs
        interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if interim else status, reason


class HttpConnection(HTTPConnection):
    """One kept connection to the endpoint. Connects when it first sends."""

    response_class = _FinalResponse

    def __init__(
        self, target: Target, tls: ssl.SSLContext | None, *, server_name: str, proxy: Proxy | None = None
    ) -> None:
        super().__init__(target.host, target.port)
        self._proxy = proxy
        # A proxy takes plaintext requests as they are, with the whole URL; TLS it only passes on.
        self._path = f"http://{target.authority}{target.path}" if proxy and tls is None else target.path
        self._proxy_headers = (
            {"proxy-authorization": proxy.authorization} if proxy and tls is None and proxy.authorization else {}
        )
        self.tls = tls
        self._target = target
        self._server_name = server_name or target.host
        self._deadline = 0.0
        self._wire: _Wire | None = None
        """Kept beside `sock`, which http.client gives up as soon as an answer says that it is the last."""
        self.answered = False
        """Whether it has carried an exchange to its end, so that the server may meanwhile have given it up."""

    def _new_conn(self) -> _Wire:  # type: ignore[override]  # as much of a socket as is used
        connected = _connected(self._target, self._deadline, self._proxy, tunnel=self.tls is not None)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                connected.settimeout(_left(self._deadline))
                connected = self.tls.wrap_socket(connected, server_hostname=self._server_name)
        except BaseException:
            connected.close()
            raise
        self._wire = _Wire(connected)
        return self._wire

    @property
    def reusable(self) -> bool:
        """Whether the last answer was read to its end, and the server has not closed it since."""
        return self.answered and self.sock is not None and not is_connection_dropped(self)

    def post(self, body: bytes, headers: Mapping[str, str], *, deadline: float) -> HttpAnswer:
        """One exchange.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: it failed, or the deadline passed; the
                connection is of no use any more.
        """
        self._deadline = deadline
        self.answered = False
        if self.sock is None:
            self.connect()
        assert self._wire is not None
        self._wire.deadline = deadline
        whole = False
        with contextlib.suppress(ConnectionError):  # who answers before it has read all may have closed already
            self.request("POST", self._path, body, {**headers, **self._proxy_headers}, preload_content=False)
            whole = True
        response = self.getresponse()
        if not whole and response.status // 100 == ACCEPTING:
            raise ConnectionResetError(f"it answers {response.status} and closes before it has read the request")
        try:
            names = {name.lower(): response.headers[name] for name in response.headers}
            content = _content(response)
            self.answered = whole and response.closed and not _more_may_come(response.status, names)
        except HTTPError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise TimeoutError("the answer was not whole in time") from error
            if isinstance(error.__cause__, IncompleteRead) and not self._wire.ended:
                raise HTTPException("the chunks of its answer cannot be read") from error
            raise
        finally:
            response.close()
        return HttpAnswer(response.status, *_decoded(names, content))

    def cancel(self) -> None:
        """Wakes an exchange under way in another thread: it fails at once."""
        if self._wire is not None:
            with contextlib.suppress(OSError):  # it is closed already, and nobody waits for it
                self._wire.shutdown(socket.SHUT_RDWR)


def _more_may_come(status: int, names: Mapping[str, str]) -> bool:
    """Some servers send a body where there can be none: what comes of it would be taken for the next answer."""
    return status == HTTPStatus.NO_CONTENT and (names.get("content-length", "0") != "0" or "transfer-encoding" in names)


def _content(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body as it came, to its end or beyond the cap."""
    content = b""
    while len(content) <= MAX_ANSWER_BYTES:
        more = response.read(MAX_ANSWER_BYTES + 1 - len(content), decode_content=False)
        if not more:
            break
        content += more
    return content


def _decoded(names: dict[str, str], content: bytes) -> tuple[dict[str, str], bytes | None]:
    """Headers and body without the codings that can be undone, the last one first."""
    codings = [coding.strip().lower() for coding in names.pop("content-encoding", "").split(",")]
    body = content if len(content) <= MAX_ANSWER_BYTES else None
    while body and codings and codings[-1] in CODINGS:
        forms = CODINGS[codings.pop()]
        body = next((plain for form in forms if (plain := _inflated(body, form)) is not None), None) if forms else body
    left = ", ".join(codings) if body else ""
    return {**names, "content-encoding": left} if left else names, body


def _inflated(coded: bytes, form: int) -> bytes | None:
    """All members of a coded body; None where it is not what it should be, breaks off, or grows beyond the cap."""
    plain = b""
    while coded:
        decoder = zlib.decompressobj(form)
        try:
            plain += decoder.decompress(coded, MAX_ANSWER_BYTES + 1 - len(plain))
        except zlib.error:
            return None
        if not decoder.eof or len(plain) > MAX_ANSWER_BYTES:
            return None
        coded = decoder.unused_data.lstrip(b"\0")  # some pad it
    return plain


def _connected(target: Target, deadline: float, proxy: Proxy | None, *, tunnel: bool) -> socket.socket:
    """A connection to the target, or to the proxy in the way; with a tunnel through it for TLS."""

    def dial(host: str, port: int) -> socket.socket:
        return _dialled(host, port, deadline)

    if proxy is None:
        return dial(target.host, target.port)
    return connect_through(proxy, target.host, target.port, dial) if tunnel else dial(proxy.host, proxy.port)


def _dialled(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; an address that is silent leaves the others their time."""
    addresses = _resolved(host, port, deadline)
    failure = OSError(f"the name {host} has no address")
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return socket.create_connection((address, port), timeout=_left(deadline) / left)
        except OSError as error:
            failure = error
    raise failure


def _resolved(host: str, port: int, deadline: float) -> tuple[str, ...]:
    """The addresses of a host, by the deadline; a look-up that is late ends on its own thread."""
    try:
        return run_with_deadline(
            lambda: resolve_by_system(host, port), name=f"resolve {host}", timeout_seconds=_left(deadline)
        )
    except DeadlineExceededError:
        raise TimeoutError(f"the name {host} was not resolved in time") from None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the request passed")
    return left


class HttpSender:
    """Keeps idle connections, as many as requests were in flight at once.

    Raises:
        SendSettingsError: a setting cannot work.
    """

    def __init__(
        self,
        settings: SendSettings,
        *,
        version: str,
        signal: Signal = Signal.LOGS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = Access(settings, clock, signal)
        self._target = self._access.target
        self.endpoint = self._target.url
        """The URL without its query."""
        self.renewed = self._access.renewed
        self._tls: tuple[TlsFiles, ssl.SSLContext] | None = None
        self._server_name = settings.server_name
        self._timeout_seconds = settings.timeout_seconds
        self._gzip = settings.compression == "gzip"
        self._headers = {
            "host": settings.server_name or self._target.authority,
            "content-type": "application/x-protobuf",
            "accept-encoding": "gzip, deflate",
            "user-agent": f"otelbridge/{version}",
        }
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._closed = threading.Event()

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Of the files in use; None where there are none."""
        return self._access.certificate_expires_unix_seconds

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract
        """One POST; a second one at once when the credentials turn out to have been renewed."""
        return self._access.outcome(partial(self._attempt, gzip_member(request) if self._gzip else unpacked(request)))

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
        deadline = time.monotonic() + self._timeout_seconds
        all_headers = {**self._headers, **headers}
        try:
            answer = self._exchange(self._taken(), body, all_headers, deadline)
            if answer is None:  # the server had closed the kept connection: that is no failure, and nothing to tell
                answer = self._exchange(self._taken(new=True), body, all_headers, deadline)
        except (OSError, HTTPException, HTTPError) as error:
            return CLOSING if self._closed.is_set() else classify.of_broken_connection(error, self._target)
        if answer is None:
            return CLOSING
        return classify.of_http(answer.status, answer.headers, answer.body)

    def _exchange(
        self, connection: HttpConnection | None, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> HttpAnswer | None:
        """One exchange; None when a kept connection turns out to have ended before it, or the sender is closed."""
        if connection is None:
            return None
        kept = connection.answered
        try:
            return connection.post(body, headers, deadline=deadline)
        except CLOSED_WHILE_IDLE:
            if not kept or self._closed.is_set():
                raise
            return None
        finally:
            self._given_back(connection)

    def _taken(self, *, new: bool = False) -> HttpConnection | None:
        """An idle connection that is still good, or a new one; None once closed."""
        tls = self._context()
        with self._lock:
            if self._closed.is_set():
                return None
            while self._idle and not new:
                connection = self._idle.pop()
                if connection.reusable and connection.tls is tls:
                    break
                connection.close()
            else:
                connection = HttpConnection(self._target, tls, server_name=self._server_name, proxy=self._access.proxy)
            self._busy.add(connection)
            return connection

    def _given_back(self, connection: HttpConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if connection.answered and connection.sock is not None and not self._closed.is_set():
                self._idle.append(connection)
                return
        connection.close()

    def _context(self) -> ssl.SSLContext | None:
        """The TLS context of the files in force; the same object as long as they do not change."""
        if self._access.certificates is None:
            return None
        files = self._access.certificates.current()
        with self._lock:
            if self._tls is None or self._tls[0] != files:
                self._tls = (files, client_context(files))
            return self._tls[1]
