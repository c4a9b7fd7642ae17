"""What is dialled with TLS and is no KubeArmor: what is said of it; no cure takes security away for nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from otelbridge.feed.channel import open_channel, route_to, start_nonce_check
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import configuration_fault
from otelbridge.net.address import Address
from otelbridge.net.preflight import preflight
from otelbridge.net.tls_files import read_tls_files
from otelbridge.setting import section_from

SETTINGS_FRAME = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
LESS_SECURITY = "feed.tls.enabled to false"
Serve = Callable[[socket.socket, ssl.SSLContext], object]


def answering(said: bytes) -> Serve:
    """Waits for whatever comes, answers this, and waits for the end."""

    def serve(connection: socket.socket, _: ssl.SSLContext) -> None:
        connection.recv(4096)
        connection.sendall(said)
        connection.recv(4096)

    return serve


def shaking(adjust: Callable[[ssl.SSLContext], object] = lambda _: None, *, alpn: bool = True) -> Serve:
    """Speaks TLS; closes after the handshake."""

    def serve(connection: socket.socket, context: ssl.SSLContext) -> None:
        if alpn:
            context.set_alpn_protocols(["h2"])
        adjust(context)
        with context.wrap_socket(connection, server_side=True) as shaken:
            shaken.recv(4096)

    return serve


def old(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1


def refusing_names(context: ssl.SSLContext) -> None:
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


ZOO: dict[str, tuple[Serve, str]] = {
    "TLS 1.0 only": (shaking(old), "speak TLS 1.2 or 1.3"),
    "no ALPN": (shaking(alpn=False), "offer h2 by ALPN"),
    "another name asked for": (shaking(refusing_names), "feed.tls.server_name"),
    "closes after the handshake": (shaking(), "feed.tls.cert_file"),
    "closes at once": (lambda *_: None, "look at its log"),
    "closes in the handshake": (lambda connection, _: connection.recv(4096), "look at its log"),
    "a refusing alert": (answering(b"\x15\x03\x03\x00\x02\x02\x28"), "feed.tls.ca_file"),
    "HTTP/1": (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "the port that speaks gRPC"),
    "SSH": (answering(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "the port on which it speaks TLS"),
    "SSLv2": (answering(b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"), "the port on which it speaks TLS"),
    "MySQL": (answering(b"\x4a\x00\x00\x00\x0a8.0.31\x00" + bytes(60)), "the port on which it speaks TLS"),
    "zero bytes": (answering(bytes(64)), "the port on which it speaks TLS"),
    "gRPC in plaintext": (answering(SETTINGS_FRAME), LESS_SECURITY),
}


@contextlib.contextmanager
def served(serve: Serve, leaf: trustme.LeafCert) -> Iterator[Address]:
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            serve(connection, context)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],)).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield Address(host="127.0.0.1", port=listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("animal", ZOO)
def test_what_is_no_kubearmor_is_named_and_no_cure_takes_security_away_for_nothing(animal: str, tmp_path: Path) -> None:
    serve, cure = ZOO[animal]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    settings = section_from(FeedSettings, {"tls": {"enabled": True, "ca_file": tmp_path / "ca.crt"}})
    with served(serve, authority.issue_cert("127.0.0.1", "localhost")) as address:
        findings = preflight(route_to(address, settings), timeout_seconds=5)
        channel = open_channel(
            address,
            settings,
            version="test",
            keepalive_seconds=15,
            certificates=read_tls_files(settings.tls, "feed.tls"),
        )
        with pytest.raises(grpc.RpcError) as refused:
            start_nonce_check(channel, 7, 10).result()
        channel.close()
    assert findings.failed_step
    assert cure in findings.cure
    assert "_ssl.c" not in findings.advice
    said = configuration_fault(str(refused.value.details()))
    assert LESS_SECURITY not in said, "gRPC's words do not tell plaintext from anything else"
    assert (LESS_SECURITY in findings.cure) is (animal == "gRPC in plaintext")


def test_a_server_that_never_shakes_hands_looks_frozen(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    settings = section_from(FeedSettings, {"tls": {"enabled": True, "ca_file": tmp_path / "ca.crt"}})
    done = threading.Event()
    with served(lambda *_: done.wait(10), authority.issue_cert("127.0.0.1")) as address:
        findings = preflight(route_to(address, settings), timeout_seconds=0.3)
        done.set()
    assert findings.advice.startswith("the server is connected but does not shake hands within 0.3 s: it looks frozen")
    assert not findings.configuration
