"""A LogService on bare HTTP/2 that polices pings as grpc-go does: what no Python server of grpc's own can be."""

from __future__ import annotations

import socket
import threading
import time
from functools import partial
from types import TracebackType
from typing import Self

from h2.errors import ErrorCodes

from tests.peers.policing_connection import Deed, Policing, PolicingConnection, Seen

JOIN_SECONDS = 10.0


class PolicingRelay:
    """Listens from entering the context to leaving it, or from `start` to `stop`."""

    def __init__(self, policing: Policing | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.policing = policing or Policing()
        """Holds for connections to come."""
        self._listener = socket.create_server((host, port))
        self.endpoint = f"{host}:{self._listener.getsockname()[1]}"
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._connections: list[PolicingConnection] = []
        self._threads: list[threading.Thread] = []
        self._frozen = False
        self._http_status = b""
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, name="policing-relay")

    def start(self) -> Self:
        self._acceptor.start()
        return self

    def stop(self) -> None:
        self._stopping = True
        # Closing a listening socket does not wake who waits in accept; shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(JOIN_SECONDS)
        self._listener.close()
        for connection in self._connections:
            connection.close()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def seen(self, what: str) -> list[Seen]:
        """Everything of that name that happened up to now; see `Seen.what`."""
        with self._lock:
            return [each for each in self._seen if each.what == what]

    def freeze(self) -> None:
        """Present and future connections hang, their kernel's side living on."""
        self._frozen = True
        for connection in self._open():
            connection.freeze()

    def thaw(self) -> None:
        self._frozen = False
        for connection in self._open():
            connection.thaw()

    def go_away(self, code: ErrorCodes = ErrorCodes.NO_ERROR, *, grace_seconds: float = 0) -> None:
        """Every connection is told GOAWAY, and closed: a server that restarts, or a connection's maximum age."""
        for connection in self._open():
            connection.go_away(code, grace_seconds)

    def answer_with_a_web_page(self, http_status: bytes = b"502") -> None:
        """Present and future connections answer calls like a proxy without its server; empty: no longer."""
        self._http_status = http_status
        for connection in self._open():
            connection.answer_with_a_web_page(http_status)

    def do(self, deed: Deed) -> None:
        """Every open connection does it."""
        for connection in self._open():
            connection.do(deed)

    def drop(self) -> None:
        """Every connection is closed without a word."""
        for connection in self._open():
            connection.close()

    def _open(self) -> list[PolicingConnection]:
        # A copy: what is done to a connection may wait for its thread, which may be waiting to tell something here.
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number = len(self._connections)
            connection = PolicingConnection(sock, self.policing, partial(self._tell, number))
            thread = threading.Thread(target=connection.serve, name=f"policing-relay-{number}")
            with self._lock:
                self._connections.append(connection)
                self._threads.append(thread)
                connection.answer_with_a_web_page(self._http_status)
                if self._frozen:
                    connection.freeze()
            thread.start()

    def _tell(self, connection: int, what: str, detail: str) -> None:
        with self._lock:
            self._seen.append(Seen(what, connection, time.monotonic() - self._started_at, detail))
