"""What answers is no OTLP endpoint of the protocol that was asked for: held, with the cure, over real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.records import request_of

Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk) -> Iterator[int]:
    """Accepts connections and talks on each, one after another, until a connection without a byte comes."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(5)
                talk(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        with suppress(OSError), socket.create_connection(listener.getsockname()):
            pass
        thread.join()
        listener.close()


def says(answer: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        if connection.recv(65536):
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)

    return talk


def http2_page(status: str, kind: str = "text/html") -> Talk:
    """A web server of HTTP/2, in the clear."""

    def talk(connection: socket.socket) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        while data := connection.recv(65536):
            for event in http2.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    http2.send_headers(event.stream_id, [(":status", status), ("content-type", kind)])
                    http2.send_data(event.stream_id, b"<html>", end_stream=True)
            connection.sendall(http2.data_to_send())

    return talk


def tls(
    ca: trustme.CA, *alpn: str, clients: trustme.CA | None = None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Talk:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = most
    ca.issue_cert("127.0.0.1").configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as shaken:
            shaken.recv(65536)

    return talk


def sent(port: int, protocol: str, *, scheme: str = "http", **settings: object) -> Outcome:
    path = "" if protocol == "grpc" else "/v1/logs"
    chosen = {"protocol": protocol, "endpoint": f"{scheme}://127.0.0.1:{port}{path}", "timeout_seconds": 5} | settings
    sender = open_sender(section_from(SendSettings, chosen), version="1")
    try:
        return sender.send(request_of("a"), records=1)
    finally:
        sender.close()


@pytest.mark.parametrize(
    "talk",
    [
        says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        says(b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 3\r\n\r\nabc"),
        http2_page("200"),
        http2_page("400", "text/plain"),
        http2_page("404"),
        http2_page("415"),
    ],
)
def test_a_web_server_behind_the_address_of_grpc_is_held_and_the_other_protocol_named(talk: Talk) -> None:
    with server(talk) as port:
        outcome = sent(port, "grpc")
    assert isinstance(outcome, Hold)
    assert "http/protobuf" in outcome.cure


@pytest.mark.parametrize("status", ["408", "429", "500", "502", "503", "504", "520"])
def test_what_may_pass_before_an_endpoint_of_grpc_is_waited_for(status: str) -> None:
    with server(http2_page(status)) as port:
        assert isinstance(sent(port, "grpc"), RetryLater)


@pytest.mark.parametrize(
    ("status", "cure"),
    [("401", "send.token_file"), ("403", "the right to write logs"), ("421", "server_name"), ("431", "send.headers")],
)
def test_what_does_not_pass_before_an_endpoint_of_grpc_has_the_same_cure_as_over_http(status: str, cure: str) -> None:
    with server(http2_page(status)) as port:
        outcome = sent(port, "grpc")
    assert isinstance(outcome, Hold)
    assert cure in outcome.cure


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("alpn", [(), ("h2",)])
def test_plaintext_to_tls_that_says_nothing_is_found_out(protocol: str, alpn: tuple[str, ...]) -> None:
    with server(tls(trustme.CA(), *alpn)) as port:
        outcome = sent(port, protocol)
    assert isinstance(outcome, Hold)
    assert "https://" in outcome.cure


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate_is_held_and_nobody_is_told_to_use_plaintext(
    tmp_path: Path, protocol: str, most: ssl.TLSVersion
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with server(tls(ca, "h2", clients=ca, most=most)) as port:
        outcome = sent(port, protocol, scheme="https", ca_file=tmp_path / "ca.pem")
    assert isinstance(outcome, Hold)
    assert "cert_file" in outcome.cure
    assert "http://" not in outcome.cure


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_server_that_closes_whatever_is_said_is_waited_for(protocol: str) -> None:
    with server(lambda _: None) as port:
        assert isinstance(sent(port, protocol), RetryLater)


def http2_answer(*headers: tuple[str, str], data: bytes = b"", trailers: bool = False) -> Talk:
    """A server of gRPC that answers so; with `trailers` the status comes behind the message."""
    head = [(":status", "200"), ("content-type", "application/grpc"), *headers]

    def talk(connection: socket.socket) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        while received := connection.recv(65536):
            for event in http2.receive_data(received):
                if isinstance(event, h2.events.StreamEnded):
                    http2.send_headers(event.stream_id, head, end_stream=not trailers)
                    if trailers:
                        http2.send_data(event.stream_id, data)
                        http2.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            connection.sendall(http2.data_to_send())

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        http2_answer(("grpc-status", "0")),  # a yes without a message
        http2_answer(("grpc-encoding", "zstd"), data=b"\x01\0\0\0\x01a", trailers=True),
        http2_answer(data=b"\x01\0\0\0\x01a", trailers=True),  # compressed, and it does not say how
        http2_answer(data=b"\0\0\0\0\x06<html>", trailers=True),
        http2_answer(data=b"\0\0\0\0\x08\x08\x03\x12\x04nope", trailers=True),
    ],
)
def test_a_yes_over_grpc_that_cannot_be_read_is_held(talk: Talk) -> None:
    with server(talk) as port:
        outcome = sent(port, "grpc")
    assert isinstance(outcome, Hold)
    assert "not as an OTLP endpoint" in outcome.cure


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_tls_that_does_not_offer_http2_is_held_and_named(tmp_path: Path, alpn: tuple[str, ...]) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with server(tls(ca, *alpn)) as port:
        outcome = sent(port, "grpc", scheme="https", ca_file=tmp_path / "ca.pem")
    assert isinstance(outcome, Hold)
    assert "ALPN" in outcome.cure


def test_the_ports_of_the_two_protocols_swapped_are_held_and_named() -> None:
    with OtlpEndpoint() as endpoint:
        grpc_port, http_port = (int(url.rpartition(":")[2]) for url in (endpoint.grpc_endpoint, endpoint.http_endpoint))
        outcomes = [sent(http_port, "grpc"), sent(grpc_port, "http/protobuf")]
    cures = [outcome.cure for outcome in outcomes if isinstance(outcome, Hold)]
    assert len(cures) == 2
    assert "http/protobuf" in cures[0]
    assert "send.protocol to grpc" in cures[1]


def test_a_kept_connection_that_the_server_closes_as_the_next_request_comes_costs_a_silent_new_one() -> None:
    seen: list[int] = []

    def talk(connection: socket.socket) -> None:
        seen.append(0)
        while connection.recv(65536):
            seen[-1] += 1
            if seen[-1] == 2:  # read, and closed without an answer: what an idle timeout looks like from here
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(talk) as port:
        settings = {"protocol": "http/protobuf", "endpoint": f"http://127.0.0.1:{port}/v1/logs", "timeout_seconds": 5}
        sender = open_sender(section_from(SendSettings, settings), version="1")
        assert [sender.send(request_of("a"), records=1) for _ in range(4)] == [Accepted()] * 4
        sender.close()
    assert seen[:3] == [2, 2, 2]
