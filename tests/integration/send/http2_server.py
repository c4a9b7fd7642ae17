"""A server of HTTP/2 in the clear that answers the calls of gRPC with whatever it is told to, frame by frame."""

from __future__ import annotations

import gzip
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

MAX_FRAME_BYTES = 16_384
Headers = list[tuple[str, str]]


class Call(NamedTuple):
    """A request that has been read, and is to be answered."""

    http2: h2.connection.H2Connection
    connection: socket.socket
    stream: int

    def flush(self) -> None:
        """Sends what was said so far."""
        self.connection.sendall(self.http2.data_to_send())

    def hang_up(self, last: bytes = b"") -> None:
        """Sends what was said so far, and bytes as they are; then the connection ends."""
        self.flush()
        self.connection.sendall(last)
        self.connection.shutdown(socket.SHUT_WR)


Answer = Callable[[Call], None]


class Http2Server:
    """Counts the bodies of records in each request, and answers it; the records need not have been taken.

    Args:
        answer: called with each request; may be replaced at any time.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.grpc_endpoint = self.http_endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(OSError), socket.create_connection(self._listener.getsockname()):
            pass
        self._threads[0].join()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._over.is_set():
                connection.close()
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._talk, args=(connection,)))
            self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        config = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        http2 = h2.connection.H2Connection(config)
        http2.initiate_connection()
        bodies: dict[int, bytes] = {}
        with connection, suppress(OSError, h2.exceptions.ProtocolError):
            connection.sendall(http2.data_to_send())
            while received := connection.recv(65536):
                for event in http2.receive_data(received):
                    if isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                        http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        self._count(bodies.pop(event.stream_id))
                        self.answer(Call(http2, connection, event.stream_id))
                connection.sendall(http2.data_to_send())

    def _count(self, body: bytes) -> None:
        message = gzip.decompress(body[5:]) if body[0] else body[5:]
        for per_resource in ExportLogsServiceRequest.FromString(message).resource_logs:
            for per_scope in per_resource.scope_logs:
                self.seen.update(record.body.string_value for record in per_scope.log_records)


HEAD: Headers = [(":status", "200"), ("content-type", "application/grpc")]


def framed(message: bytes, *, flag: int = 0) -> bytes:
    """A message as gRPC frames it."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def says(head: Headers, data: bytes = b"", trailers: Headers | None = None) -> Answer:
    """A head, data, and trailers, as far as they are there."""

    def answer(call: Call) -> None:
        call.http2.send_headers(call.stream, head, end_stream=not data and trailers is None)
        for start in range(0, len(data), MAX_FRAME_BYTES):
            last = trailers is None and start + MAX_FRAME_BYTES >= len(data)
            call.http2.send_data(call.stream, data[start : start + MAX_FRAME_BYTES], end_stream=last)
        if trailers is not None:
            call.http2.send_headers(call.stream, trailers, end_stream=True)

    return answer


def status_only(*headers: tuple[str, str]) -> Answer:
    """Trailers in place of an answer."""
    return says([*HEAD, *headers])


YES = says(HEAD, framed(b""), [("grpc-status", "0")])
