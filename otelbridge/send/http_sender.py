"""OTLP over HTTP with protobuf bodies: an encoded request in, an Outcome out.

On the standard library's http.client: nothing to add to the image, no redirects or proxies followed behind our back,
and the deadline, the answer's cap and the cancelling are ours (docs/decisions/http-client.md).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException

from otelbridge.queue.outcome import Hold, Outcome, RetryLater
from otelbridge.queue.packing import gzip_member, unpacked
from otelbridge.send import answers
from otelbridge.send.certificates import Certificates, TlsFiles, ssl_context
from otelbridge.send.credentials import Credentials
from otelbridge.send.hiding import hidden
from otelbridge.send.http_connection import HttpAnswer, HttpConnection
from otelbridge.send.settings import SendSettings
from otelbridge.send.target import send_target

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
            return CLOSING if self._closed.is_set() else answers.of_broken_connection(error)
        return answers.of_http(answer.status, answer.headers, answer.body)

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
