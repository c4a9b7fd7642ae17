from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelbridge.feed.channel import route_to
from otelbridge.feed.model import SubscriptionState
from otelbridge.feed.settings import FeedSettings, FeedTlsSettings
from otelbridge.net.address import parse_address
from otelbridge.net.preflight import PreflightResult, preflight
from otelbridge.setting import section_from
from otelbridge.simulator.upstream import Relay
from tests.integration.feed.authority import Files
from tests.integration.feed.running import running, settings_for

PLAIN = FeedTlsSettings()


def walk(endpoint: str, tls: FeedTlsSettings = PLAIN, *, timeout_seconds: float = 2) -> PreflightResult:
    return preflight(route_to(parse_address(endpoint), FeedSettings(tls=tls)), timeout_seconds=timeout_seconds)


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serves each connection with `answer`, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_good_way_is_walked_to_its_end(tmp_path: Path) -> None:
    with Relay() as relay:
        findings = walk(relay.endpoint)
        assert [step.name for step in findings.steps] == ["resolve", "connect", "http2"]
        assert (findings.failed_step, findings.error) == ("", "")
    files = Files(tmp_path)
    with Relay(tls=files.server()) as relay:
        findings = walk(relay.endpoint, section_from(FeedTlsSettings, files.settings()))
        assert [step.name for step in findings.steps] == ["resolve", "connect", "tls", "http2"]
        assert findings.failed_step == ""


def test_a_name_without_an_address_fails_at_the_first_step() -> None:
    def no_name(_host: str, _port: int) -> tuple[str, ...]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    findings = preflight(route_to(parse_address("nowhere.invalid"), FeedSettings()), timeout_seconds=2, resolve=no_name)
    assert findings.failed_step == "resolve"
    assert findings.error == "the name nowhere.invalid does not resolve: Name or service not known"
    assert not findings.configuration, "names appear"


def test_a_closed_port_fails_at_connecting() -> None:
    findings = walk("127.0.0.1:1")
    assert (findings.failed_step, findings.configuration) == ("connect", False)
    assert findings.error == "127.0.0.1 port 1: Connection refused"


WITHOUT_DESCRIPTORS = """
import resource, sys
from tests.integration.feed.test_preflight import walk
walk("127.0.0.1:1")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for host in ("127.0.0.1", "localhost"):
    print(walk(f"{host}:1"))
"""


def test_a_process_without_a_descriptor_left_is_told_to_raise_its_limit() -> None:
    child = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, check=True)
    for line in child.stdout.splitlines():
        assert "Too many open files" in line
        assert "cure='raise the limit of open files" in line


def test_an_http1_server_is_recognised() -> None:
    with server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as endpoint:
        findings = walk(endpoint)
    assert (findings.failed_step, findings.configuration) == ("http2", True)
    assert "HTTP/1" in findings.error


def end(connection: socket.socket) -> None:
    connection.recv(4096)


def reset(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("way", [end, reset])
@pytest.mark.parametrize(
    ("tls", "step", "error"),
    [
        (PLAIN, "http2", "the server closed the connection"),
        (
            section_from(FeedTlsSettings, {"enabled": True}),
            "tls",
            "the handshake was broken off: the server closed the connection in the handshake",
        ),
    ],
    ids=["plaintext", "tls"],
)
def test_a_reset_and_an_end_of_file_are_told_in_the_same_words(
    way: Callable[[socket.socket], object], tls: FeedTlsSettings, step: str, error: str
) -> None:
    with server(way) as endpoint:
        findings = walk(endpoint, tls)
    assert (findings.failed_step, findings.error, findings.configuration) == (step, error, False)


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_asked() -> None:
    said_enough = threading.Event()
    with server(lambda _: said_enough.wait(10)) as endpoint:
        started = time.monotonic()
        findings = walk(endpoint, timeout_seconds=0.2)
        said_enough.set()
    assert time.monotonic() - started < 5
    assert (findings.failed_step, findings.configuration) == ("http2", False)
    assert "no HTTP/2 settings within 0.2 s" in findings.error


@pytest.mark.parametrize(
    ("tls", "error"),
    [
        ({"enabled": True}, "no CA in feed.tls.ca_file issued the server's certificate"),
        ({"server_name": "kubearmor"}, "the server's certificate is for another name"),
        ({"cert_file": None, "key_file": None}, "the server asks for a client certificate"),
        ({"ca_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_each_tls_fault_is_named_at_its_step(tmp_path: Path, tls: dict[str, object], error: str) -> None:
    files = Files(tmp_path)
    with Relay(tls=files.server()) as relay:
        given = {**files.settings(), **tls} if tls != {"enabled": True} else tls
        findings = walk(relay.endpoint, section_from(FeedTlsSettings, given))
    assert findings.configuration
    assert error in findings.error


def test_a_dns_that_hangs_delays_neither_the_attempts_for_ever_nor_the_end() -> None:
    answered = threading.Event()

    def hang(_host: str, _port: int) -> tuple[str, ...]:
        answered.wait(60)
        return ()

    with running(settings_for("slow.invalid"), resolve=hang) as run:
        run.until(SubscriptionState.CONNECTING)
        started = time.monotonic()
        run.feed.stop_reading()
        assert time.monotonic() - started < 2
        assert run.states()[-1] == "closed"
    answered.set()
