from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from otelbridge.setting import section_from
from otelbridge.status.answers import Check, ProbeResult
from otelbridge.status.app import HEADERS
from otelbridge.status.server import (
    CLIENT_SECONDS,
    CROWD,
    MAX_HEADER_BYTES,
    StatusServer,
)
from otelbridge.status.settings import StatusSettings
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import FAULTS_TO_FAIL
from tests.waiting import eventually

YES = ProbeResult(checks=(Check(name="thread", ok=True, why="turns"),))
PROMISED_SECONDS = 0.1
PROBES = 40
PACE_SECONDS = 0.02
"""Between two probes, so that they meet the attack at many of its moments."""
ALLOWED_LATE = 2
"""Of the probes of a test: a machine of two cores may be using both for the rest of the suite."""
WORST_SECONDS = 1.0
"""For those few: the kubelet's own time-out for a probe."""


SLOW_CLIENTS = 200
GREEDY_CLIENTS = 64
CONNECTS = 10_000
SILENT_CLIENTS = 600
FEW_TURNS = 8
"""Taking the connections, reading the request, sending the answer: each is a turn, with what others do in between."""
LARGE_DOCUMENT_BYTES = 8 * 1024 * 1024
"""More than the buffers of a socket hold."""


def _server(version: str = "1", tell: Tell = lambda _: None, **settings: object) -> StatusServer:
    return StatusServer(
        section_from(StatusSettings, {"port": 0, **settings}),
        sections={"version": lambda: version},
        livez=lambda: YES,
        readyz=lambda: YES,
        startupz=lambda: YES,
        metrics=lambda: b"m 1\n",
        tell=tell,
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


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200 OK"),
        (b"DELETE /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"405 Method Not Allowed"),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", b"405 Method Not Allowed"),
        (
            b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            b"405 Method Not Allowed",
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", b"413 Request Entity Too Large"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".ljust(MAX_HEADER_BYTES - 4, b"y") + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
        ),
        (b"no request at all\r\n\r\n", b"400 Bad Request"),
        (b"GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"421 Misdirected Request"),
        (b"GET http://localhost/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", b"501 Not Implemented"),
        (b"GET http://[::1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400 Bad Request"),
        (b"GET //[x HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404 Not Found"),
        (b"GET http://[v1.x]]/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"421 Misdirected Request"),
    ],
    ids=lambda value: value.decode()[:40].split("\r")[0],
)
def test_every_answer_carries_the_security_headers_and_no_name_of_the_server(
    server: StatusServer, request_text: bytes, status: bytes
) -> None:
    head, _, body = _answer_to(server, request_text).partition(b"\r\n\r\n")

    assert head.splitlines()[0].endswith(status)
    for name, value in HEADERS:
        assert f"{name}: {value}".encode() in head.splitlines()
    assert (b"Allow: GET, HEAD" in head) == status.startswith(b"405")
    assert b"generated by" not in body
    assert b"Server:" not in head


def test_a_port_that_is_taken_is_named_with_its_cure(server: StatusServer) -> None:
    other = _server(port=server.port)

    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {server.port}: .*set status\.port"):
        other.start()
    other.close()


def test_an_address_that_is_not_ours_is_told_with_its_cure() -> None:
    opened = _server(host="8.8.8.8")
    told = r"on 8\.8\.8\.8 port \d+: Cannot assign requested address; set status\.host to an address of this machine$"
    with pytest.raises(OSError, match=told):
        opened.start()
    opened.close()


def test_an_ipv6_address_is_listened_on() -> None:
    opened = _server(host="::1")
    opened.start()
    with urllib.request.urlopen(f"http://[::1]:{opened.port}/livez", timeout=5) as answer:
        assert answer.status == 200
    opened.close()


@pytest.mark.parametrize(("kernel_has_ipv6", "answering"), [(True, ["127.0.0.1", "[::1]"]), (False, ["127.0.0.1"])])
def test_every_address_is_listened_on_as_far_as_the_kernel_has_them(
    kernel_has_ipv6: bool, answering: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: kernel_has_ipv6)
    opened = _server(host="::")
    opened.start()
    for address in answering:
        with urllib.request.urlopen(f"http://{address}:{opened.port}/livez", timeout=5) as answer:
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
        eventually(lambda: len(server._server.active_channels) < SLOW_CLIENTS / 2, why="the crowd is thinned")
    finally:
        stop.set()
        besieging.join()


def test_clients_that_ask_for_much_and_read_nothing_do_not_delay_a_probe(server: StatusServer) -> None:
    stop = threading.Event()
    besieged = threading.Event()
    request = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"GET /page.css HTTP/1.1\r\nHost: a\r\n\r\n" * 500

    def besiege() -> None:
        with ExitStack() as held:
            greedy: list[socket.socket] = []
            while not stop.wait(PACE_SECONDS):
                for _ in range(GREEDY_CLIENTS - len(greedy)):
                    client = held.enter_context(_connect(server))
                    client.settimeout(0)
                    greedy.append(client)
                besieged.set()
                greedy = [client for client in greedy if _still_takes(client, request)]

    besieging = threading.Thread(target=besiege)
    besieging.start()
    try:
        assert besieged.wait(10)
        _probes_are_quick(server)
    finally:
        stop.set()
        besieging.join()


def _still_takes(client: socket.socket, request: bytes) -> bool:
    try:
        client.send(request)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


CONNECTING = """
import collections, socket, sys
held = collections.deque(maxlen=256)
for _ in range(int(sys.argv[2])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10))
"""
"""For a process of its own, as a thread would take the interpreter's lock from the server."""


def test_ten_thousand_connects_do_not_delay_a_probe(server: StatusServer) -> None:
    with subprocess.Popen([sys.executable, "-c", CONNECTING, str(server.port), str(CONNECTS)]) as connecting:
        _probes_are_quick(server)
        while connecting.poll() is None:
            assert _probe_seconds(server) < WORST_SECONDS
    assert connecting.returncode == 0


def test_a_probe_behind_a_crowd_that_says_nothing_is_answered_in_the_next_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, go_on, turns = StatusServer._turn, threading.Event(), 0

    def counted(server: StatusServer) -> bool:
        nonlocal turns
        assert go_on.wait(10)
        turns += 1
        return whole(server)

    monkeypatch.setattr(StatusServer, "_turn", counted)
    monkeypatch.setattr("otelbridge.status.server.DEFER_SECONDS", 0)
    server = _server()
    server.start()
    try:
        with ExitStack() as held:
            for _ in range(SILENT_CLIENTS):
                held.enter_context(_connect(server))
            probe = held.enter_context(_connect(server))
            probe.sendall(b"GET /livez HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")
            go_on.set()
            assert probe.recv(64).startswith(b"HTTP/1.1 200 OK")
            assert turns <= FEW_TURNS
            eventually(lambda: len(server._silent) <= CROWD < SILENT_CLIENTS, why="the crowd is thinned")
    finally:
        go_on.set()
        server.close()


def test_connections_that_say_nothing_cost_no_descriptor(server: StatusServer) -> None:
    with ExitStack() as held:
        for _ in range(SLOW_CLIENTS):
            held.enter_context(_connect(server))
        _probe_seconds(server)  # it came behind them, so they were taken before it if they were taken
        assert not server._silent
        eventually(lambda: not server._server.active_channels, why="the probe's is closed, and there is no other")


def test_a_crowd_from_one_address_closes_no_connection_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.status.server.DEFER_SECONDS", 0)
    server = _server()
    server.start()
    try:
        with ExitStack() as held:
            slow_probe = held.enter_context(_connect(server))
            for _ in range(SILENT_CLIENTS):
                source = ("127.0.0.2", 0)
                held.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=source)
                )
            eventually(lambda: server._sources["127.0.0.2"] == CROWD - 1, why="the crowd is thinned")
            slow_probe.sendall(b"GET /livez HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")
            assert slow_probe.recv(64).startswith(b"HTTP/1.1 200 OK")
    finally:
        server.close()


def test_a_fault_over_one_request_closes_its_connection_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    told: list[object] = []
    server = _server(tell=told.append)
    server.start()
    try:
        with monkeypatch.context() as broken:
            broken.setattr("waitress.parser.HTTPRequestParser.received", fails)
            for _ in range(FAULTS_TO_FAIL):
                assert _answer_to(server, b"GET /livez HTTP/1.1\r\n\r\n") == b""
        _probes_are_quick(server)
        assert not told, "the loop goes on without a pause"
    finally:
        server.close()


def test_a_fault_while_a_connection_is_taken_does_not_end_the_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = iter([MemoryError()])
    whole, told = StatusServer.make_channel, threading.Event()

    def fails_once(server: StatusServer, *given: Any) -> Any:
        for fault in faults:
            raise fault
        return whole(server, *given)

    monkeypatch.setattr(StatusServer, "make_channel", fails_once)
    server = _server(tell=lambda _: told.set())
    server.start()
    try:
        with _connect(server) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
            assert told.wait(10)
        _probes_are_quick(server)
    finally:
        server.close()


FEW_DESCRIPTORS = """
import os, resource, sys
from tests.integration.status.test_server import _server
server = _server()
server.start()
used = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(server.port, flush=True)
sys.stdin.read()
server.close()
"""


def test_clients_that_take_every_descriptor_take_none_from_a_probe() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FEW_DESCRIPTORS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with ExitStack() as held:
            for _ in range(SLOW_CLIENTS):
                held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(PROBES):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
                    assert answer.status == 200
        child.communicate("")
    assert child.returncode == 0


def test_a_large_answer_needs_no_place_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    server = _server(version="1" * LARGE_DOCUMENT_BYTES)
    server.start()
    try:
        began = time.monotonic()
        answer = _answer_to(server, b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert len(answer) > LARGE_DOCUMENT_BYTES
        assert time.monotonic() - began < CLIENT_SECONDS, "it was hung up on, as waitress was in trouble"
    finally:
        server.close()


def test_a_client_that_has_closed_its_half_is_answered(server: StatusServer) -> None:
    with _connect(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(64).startswith(b"HTTP/1.1 200 OK")


def test_urgent_data_closes_one_connection_and_no_more(server: StatusServer) -> None:
    with _connect(server) as client:
        client.send(b"!", socket.MSG_OOB)
        with suppress(ConnectionResetError):  # what it sent was not read
            assert client.recv(64) == b""
    _probes_are_quick(server)


def test_one_connection_has_one_answer(server: StatusServer) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = _answer_to(server, request * 3)
    assert answers.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in answers


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


def test_a_client_that_does_not_fetch_its_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.status.server.CLIENT_SECONDS", CLIENT_SECONDS / 25)
    server = _server(version="1" * LARGE_DOCUMENT_BYTES)
    server.start()
    with _connect(server) as client:
        client.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: server._server.active_channels, why="the connection was not taken")
        eventually(lambda: not server._server.active_channels, why="the connection is still held")
    server.close()


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
