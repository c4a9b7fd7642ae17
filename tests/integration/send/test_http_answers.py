"""Every legal shape of an HTTP answer is read: nothing is sent twice, and nothing that was taken is held."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater, TooLarge
from otelbridge.send.http_sender import MAX_ANSWER_BYTES
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from tests.records import request_of

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
PARTIAL = ExportLogsServiceResponse()
PARTIAL.partial_success.rejected_log_records = 1
JSON_PARTIAL = b'{"partialSuccess":{"rejectedLogRecords":"1"}}'


def sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def raw_deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def chunked(head: bytes, *pieces: bytes) -> bytes:
    return (
        head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    )


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
BODY = PARTIAL.SerializeToString()
YES: dict[str, tuple[bytes, int]] = {
    "body ended by close": (OK + b"Connection: close\r\n\r\n", 0),
    "partial, ended by close": (OK + b"Connection: close\r\n\r\n" + BODY, 1),
    "close with a length": (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", 0),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n", 0),
    "HTTP/1.0 kept": (sized(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", BODY), 1),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0),
    "chunked partial with trailers": (chunked(OK, BODY[:1], BODY[1:])[:-2] + b"X-Trailer: 1\r\n\r\n", 1),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 0),
    "202": (sized(b"HTTP/1.1 202 Accepted\r\n", b""), 0),
    "length": (sized(OK, BODY), 1),
    "gzip": (sized(OK + b"Content-Encoding: gzip\r\n", gzip.compress(BODY)), 1),
    "gzip in chunks": (chunked(OK + b"Content-Encoding: gzip\r\n", *[bytes([b]) for b in gzip.compress(BODY)]), 1),
    "deflate": (sized(OK + b"Content-Encoding: deflate\r\n", zlib.compress(BODY)), 1),
    "raw deflate": (sized(OK + b"Content-Encoding: deflate\r\n", raw_deflated(BODY)), 1),
    "identity": (sized(OK + b"Content-Encoding: identity\r\n", BODY), 1),
    "JSON": (sized(JSON, JSON_PARTIAL), 1),
    "JSON, gzip": (sized(JSON + b"Content-Encoding: gzip\r\n", gzip.compress(JSON_PARTIAL)), 1),
    "JSON in chunks": (chunked(JSON, JSON_PARTIAL[:9], JSON_PARTIAL[9:]), 1),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + sized(OK, BODY), 1),
    "102 and 103 first": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(OK, BODY),
        1,
    ),
    "bare newlines": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0),
    "spaces behind each header": (chunked(OK, BODY).replace(b"chunked\r", b"chunked \t\r"), 1),
    "identity and gzip": (sized(OK + b"Content-Encoding: identity, gzip\r\n", gzip.compress(BODY)), 1),
    "gzip in gzip, two headers": (
        sized(OK + b"Content-Encoding: gzip\r\nContent-Encoding: x-gzip\r\n", gzip.compress(gzip.compress(BODY))),
        1,
    ),
    "gzip of two members": (
        sized(OK + b"Content-Encoding: gzip\r\n", gzip.compress(BODY[:1]) + gzip.compress(BODY[1:])),
        1,
    ),
    "gzip of nothing": (sized(OK + b"Content-Encoding: gzip\r\n", b""), 0),
    "a coding that is none": (sized(JSON + b"Content-Encoding: utf-8\r\n", JSON_PARTIAL), 1),
}
NO: dict[str, bytes] = {
    "a page": sized(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", b"<html><body>Welcome</body></html>\r\n"),
    "a page, gzip": sized(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", gzip.compress(b"<html>" * 99)),
    "a JSON error": sized(JSON, b'{"error":"no such index"}'),
    "not gzip, whatever it says": sized(OK + b"Content-Encoding: gzip\r\n", b"<html>"),
    "a gzip bomb": sized(OK + b"Content-Encoding: gzip\r\n", gzip.compress(bytes(4 * MAX_ANSWER_BYTES))),
    "gzip that breaks off": sized(OK + b"Content-Encoding: gzip\r\n", gzip.compress(BODY)[:-4]),
    "gzip that holds nothing yet": sized(OK + b"Content-Encoding: gzip\r\n", gzip.compress(BODY)[:11]),
    "zstd, that nobody asked for": sized(OK + b"Content-Encoding: zstd\r\n", b"\x28\xb5\x2f\xfd\x20\0\1\0\0"),
    "more codings than anybody has": sized(OK + b"Content-Encoding: " + b", ".join([b"gzip"] * 10) + b"\r\n", b"x"),
    "chunks that are none": OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n" + bytes(99),
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n\n\n",
    "another protocol's greeting": b"SSH-2.0-OpenSSH_9.9\r\n",
    "the port of gRPC": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\n",
    "the port of TLS": b"\x15\x03\x01\x00\x02\x02\x46\n",
}


class Server:
    """One request per connection, unless the answer keeps it; answered with given bytes, whole or split."""

    def __init__(self, answer: bytes, split: int) -> None:
        self.bodies: Counter[str] = Counter()
        self._answer, self._split = answer, split
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/logs"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = read_request(connection)
                if request is None:
                    return
                body = ExportLogsServiceRequest.FromString(gzip.decompress(request))
                self.bodies[body.resource_logs[0].scope_logs[0].log_records[0].body.string_value] += 1
                step = self._split or len(self._answer) or 1
                with contextlib.suppress(ConnectionError):  # who sees early that it is no answer hangs up
                    for start in range(0, len(self._answer), step):
                        connection.sendall(self._answer[start : start + step])

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            pass  # a connection without a request ends it
        self._thread.join()
        self._listener.close()


def read_request(connection: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return body


@contextmanager
def talking(answer: bytes, split: int = 0) -> Iterator[tuple[Server, Sender]]:
    server = Server(answer, split)
    settings = {"protocol": "http/protobuf", "endpoint": server.url, "timeout_seconds": 5}
    sender = open_sender(section_from(SendSettings, settings), version="1")
    try:
        yield server, sender
    finally:
        sender.close()
        server.close()


@pytest.mark.parametrize("split", [0, 7])
@pytest.mark.parametrize("name", YES)
def test_a_yes_is_understood_each_time_whole_and_in_pieces(name: str, split: int) -> None:
    answer, rejected = YES[name]
    with talking(answer, split) as (server, sender):
        outcomes = [sender.send(request_of(f"r{n}"), records=1) for n in range(100)]
    assert outcomes == [Accepted(rejected=rejected)] * 100
    assert server.bodies == {f"r{n}": 1 for n in range(100)}


@pytest.mark.parametrize(("beyond", "outcome"), [(0, Accepted), (1, Hold)])
def test_an_answer_of_four_mebibytes_is_read_whole_and_a_longer_one_is_none(beyond: int, outcome: type) -> None:
    with talking(sized(JSON, JSON_PARTIAL.ljust(MAX_ANSWER_BYTES + beyond))) as (_, sender):
        assert isinstance(sender.send(request_of("a"), records=1), outcome)


@pytest.mark.parametrize("split", [0, 7])
@pytest.mark.parametrize("name", NO)
def test_what_is_no_otlp_answer_is_held_and_the_cure_named(name: str, split: int) -> None:
    with talking(NO[name], split if len(NO[name]) < 1000 else 1000) as (_, sender):
        outcome = sender.send(request_of("a"), records=1)
    assert isinstance(outcome, Hold)
    cure = {"the port of gRPC": "send.protocol to grpc", "the port of TLS": "https://"}
    assert cure.get(name, "answers, but not as an OTLP endpoint") in outcome.cure


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n",
        OK + b"Content-Length: 10\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(answer: bytes) -> None:
    with talking(answer) as (server, sender):
        assert isinstance(sender.send(request_of("a"), records=1), RetryLater)
    assert server.bodies == {"a": 1}


def read_by(connection: socket.socket) -> Iterator[bytes]:
    while (request := read_request(connection)) is not None:
        yield request


@pytest.mark.parametrize(
    ("answer", "late", "connections"),
    [
        (sized(OK, b""), b"", 1),
        (sized(OK, b"") + b"\r\n", b"", 1),  # as old servers end a body
        (sized(OK, b"") + b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", b"", 1),
        (sized(OK, b"") + b"x" * 100_000, b"", 5),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b"", 1),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n", b"<html>", 5),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n", 5),
    ],
)
def test_what_comes_beyond_an_answer_is_not_taken_for_the_next_one(
    answer: bytes, late: bytes, connections: int
) -> None:
    seen: Counter[int] = Counter()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            for _ in read_by(connection):
                seen[number] += 1
                connection.sendall(answer)
                if late:
                    connection.sendall(late)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                for number in range(100):
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=(connection, number)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs"
        sender = open_sender(section_from(SendSettings, {"protocol": "http/protobuf", "endpoint": url}), version="1")
        outcomes = [sender.send(request_of(f"r{n}"), records=1) for n in range(5)]
        sender.close()
        listener.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join()
    assert outcomes == [Accepted()] * 5
    assert sum(seen.values()) == 5, "no copies"
    assert len(seen) == connections


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (sized(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n", b""), TooLarge),
        (sized(b"HTTP/1.1 401 Unauthorized\r\n", b""), Hold),
        (sized(OK, b""), RetryLater),  # it cannot have taken what it has not read
    ],
)
def test_an_answer_that_comes_before_a_large_request_is_through_is_read(answer: bytes, kind: type[Outcome]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs"
        settings = {"protocol": "http/protobuf", "endpoint": url, "compression": "none", "timeout_seconds": 5}
        sender = open_sender(section_from(SendSettings, settings), version="1")
        outcome = sender.send(request_of("a", padding=20_000_000), records=1)
        sender.close()
        thread.join()
    assert isinstance(outcome, kind)
