"""Starts the simulator's servers: their certificates, and a port that was just given up or that somebody else has."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

AGAIN_SECONDS = 5.0
"""How long a server tries to get its port back: an earlier one, or somebody's outgoing connection, may have it."""
PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """A server's certificate and key (PEM), and the CA of its clients where they must show one; read at each start."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def for_grpc(self) -> grpc.ServerCredentials:
        """For a server of gRPC; raises OSError where a file cannot be read."""
        ca = self.client_ca_file.read_bytes() if self.client_ca_file else None
        pair = (self.key_file.read_bytes(), self.cert_file.read_bytes())
        return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)

    def for_http(self) -> ssl.SSLContext:
        """For a server of the standard library's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        if self.client_ca_file:
            context.load_verify_locations(self.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def listen(
    make: Callable[[], grpc.Server], address: str, tls: ServerTls | None, *, again: bool
) -> tuple[grpc.Server, int]:
    """Starts a server on `host:port` (port 0 takes a free one) and returns it with the port.

    The server that `make` gives must have `grpc.so_reuseport` 0: a second one on the port has to fail, not take half of
    the clients. With `again` the port was ours before, and is waited for.

    Raises:
        OSError: the port is taken, or a certificate file cannot be read; in words, which gRPC does not have.
    """
    credentials = tls.for_grpc() if tls else None
    deadline = time.monotonic() + (AGAIN_SECONDS if again else 0)
    while True:
        server = make()
        try:
            port = server.add_secure_port(address, credentials) if tls else server.add_insecure_port(address)
        except RuntimeError as error:
            server.stop(None)
            if time.monotonic() >= deadline:
                cause = _why_not(address) or ("certificate and key do not fit" if tls else str(error))
                raise OSError(f"cannot listen on {address}: {cause}") from None
            time.sleep(PAUSE_SECONDS)
        else:
            server.start()
            return server, int(port)


def _why_not(address: str) -> str:
    """What the system says to a socket on `host:port` or `[host]:port`; empty where it has nothing against it."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return ""
