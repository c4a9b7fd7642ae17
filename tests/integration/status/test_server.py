from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from otelbridge.status.probes import Check, ProbeResult
from otelbridge.status.server import CLIENT_SECONDS, MAX_CONNECTIONS, StatusServer
from otelbridge.status.settings import StatusSettings
from tests.waiting import eventually

YES = ProbeResult(checks=(Check(name="thread", ok=True, why="turns"),))
PROMISED_SECONDS = 0.1
PROBES = 40
PACE_SECONDS = 0.02
"""Between two probes, so that they meet the attack at many of its moments."""
ALLOWED_LATE = 2
"""Of the probes of a test: a machine of two cores may be using both for the rest of the suite."""
WORST_SECONDS = 1.0
"""For those few: the kubelet's own patience with a probe."""


SLOW_CLIENTS = 4 * MAX_CONNECTIONS


def _server(**settings: object) -> StatusServer:
    return StatusServer(
        StatusSettings.model_validate({"port": 0, **settings}),
        sections={"version": lambda: "1"},
        livez=lambda: YES,
        readyz=lambda: YES,
        startupz=lambda: YES,
        metrics=lambda: b"m 1\n",
    )


@pytest.fixture
def server() -> Iterator[StatusServer]:
    opened = _server()
    opened.start()
    yield opened
    opened.close()


def _connect(server: StatusServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def _probe_seconds(server: StatusServer) -> float:
    began = time.monotonic()
    with _connect(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    return time.monotonic() - began


def _probes_are_quick(server: StatusServer) -> None:
    pace = threading.Event()
    took = []
    for _ in range(PROBES):
        took.append(_probe_seconds(server))
        pace.wait(PACE_SECONDS)
    took.sort()
    assert took[-1 - ALLOWED_LATE] < PROMISED_SECONDS, [f"{seconds:.3f}" for seconds in took[-5:]]
    assert took[-1] < WORST_SECONDS


def _answer_to(server: StatusServer, request: bytes) -> bytes:
    with _connect(server) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_what_is_served_is_served_over_a_real_socket(server: StatusServer) -> None:
    for path, expected in (("livez", b"ok\n"), ("metrics", b"m 1\n")):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{path}", timeout=5) as answer:
            assert answer.read() == expected
            assert "Server" not in answer.headers


def test_a_port_that_is_taken_is_named_with_its_cure(server: StatusServer) -> None:
    other = _server(port=server.port)

    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {server.port}: .*set status\.port"):
        other.start()
    other.close()


def test_an_ipv6_address_is_listened_on() -> None:
    opened = _server(host="::1")
    opened.start()
    with urllib.request.urlopen(f"http://[::1]:{opened.port}/livez", timeout=5) as answer:
        assert answer.status == 200
    opened.close()


def test_closing_frees_the_port_and_ends_every_thread() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    opened = _server()
    opened.start()
    with _connect(opened):
        opened.close()
    eventually(lambda: {thread.ident for thread in threading.enumerate()} <= before, why="threads are left")
    again = _server(port=opened.port)
    again.start()
    again.close()


def test_slow_clients_in_any_number_do_not_delay_a_probe(server: StatusServer) -> None:
    stop = threading.Event()
    besieged = threading.Event()

    def besiege() -> None:
        with ExitStack() as held:
            slow: list[socket.socket] = []
            while not stop.wait(PACE_SECONDS):
                slow += [held.enter_context(_connect(server)) for _ in range(SLOW_CLIENTS - len(slow))]
                besieged.set()
                slow = [client for client in slow if _still_open(client)]

    besieging = threading.Thread(target=besiege)
    besieging.start()
    try:
        assert besieged.wait(10)
        _probes_are_quick(server)
        assert len(server._server.active_channels) <= MAX_CONNECTIONS + 1
    finally:
        stop.set()
        besieging.join()


def _still_open(client: socket.socket) -> bool:
    try:
        client.sendall(b"X")
    except OSError:
        return False
    return True


def test_a_client_that_does_not_finish_its_request_is_hung_up_on(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otelbridge.status.server.CLIENT_SECONDS", CLIENT_SECONDS / 25)
    with _connect(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
        assert client.recv(1) == b""


def test_a_client_that_does_not_fetch_its_answer_is_hung_up_on(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otelbridge.status.server.CLIENT_SECONDS", CLIENT_SECONDS / 25)
    with _connect(server) as client:
        client.sendall(b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        eventually(lambda: server._server.active_channels, why="the connection was not taken")
        eventually(lambda: not server._server.active_channels, why="the connection is still held")


def test_a_header_of_a_mebibyte_is_refused_and_does_not_delay_a_probe(server: StatusServer) -> None:
    stop = threading.Event()
    answers: list[bytes] = []

    def flood() -> None:
        while not stop.is_set():
            with _connect(server) as client:
                try:
                    client.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n")
                    answers.append(client.recv(64))
                except OSError:
                    continue  # refused before all of it was sent

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        _probes_are_quick(server)
    finally:
        stop.set()
        flooding.join()
    assert not any(b"200 OK" in answer for answer in answers)


def test_a_wrong_host_is_refused_and_does_not_delay_a_probe(server: StatusServer) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert _answer_to(server, request).startswith(b"HTTP/1.1 421 ")
    stop = threading.Event()

    def insist() -> None:
        while not stop.is_set():
            _answer_to(server, request)

    insisting = threading.Thread(target=insist)
    insisting.start()
    try:
        _probes_are_quick(server)
    finally:
        stop.set()
        insisting.join()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"GET /%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_nonsense_does_not_harm_the_server(server: StatusServer, request_bytes: bytes) -> None:
    with _connect(server) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))

    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert _probe_seconds(server) < 10
