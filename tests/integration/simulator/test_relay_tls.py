"""The simulated relay with TLS and mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme

from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.upstream import Relay
from tests.integration.simulator.watching import NO_PROXY, health_check


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(folder: Path, authority: trustme.CA, client_ca: trustme.CA | None = None) -> ServerTls:
    certificate = authority.issue_cert("127.0.0.1")
    cert, key, ca = folder / "server.crt", folder / "server.key", folder / "ca.crt"
    certificate.cert_chain_pems[0].write_to_path(str(cert))
    certificate.private_key_pem.write_to_path(str(key))
    if client_ca is not None:
        client_ca.cert_pem.write_to_path(str(ca))
    return ServerTls(cert_file=cert, key_file=key, client_ca_file=ca if client_ca else None)


@contextmanager
def secure_channel(
    endpoint: str, authority: trustme.CA, client: trustme.LeafCert | None = None
) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        client.private_key_pem.bytes() if client else None,
        client.cert_chain_pems[0].bytes() if client else None,
    )
    with grpc.secure_channel(endpoint, credentials, options=NO_PROXY) as channel:
        yield channel


def test_a_client_that_knows_the_authority_is_served(tmp_path: Path, authority: trustme.CA) -> None:
    with Relay(tls=server_tls(tmp_path, authority)) as relay, secure_channel(relay.endpoint, authority) as channel:
        assert health_check(channel, 3) == 3


def test_with_mutual_tls_a_client_needs_a_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    clients = trustme.CA()
    with Relay(tls=server_tls(tmp_path, authority, clients)) as relay:
        with secure_channel(relay.endpoint, authority, clients.issue_cert("client")) as channel:
            assert health_check(channel, 3) == 3
        with secure_channel(relay.endpoint, authority) as channel, pytest.raises(grpc.RpcError) as caught:
            health_check(channel, 3)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_restart_reads_new_certificates(tmp_path: Path, authority: trustme.CA) -> None:
    successor = trustme.CA()
    with Relay(tls=server_tls(tmp_path, authority)) as relay:
        relay.stop()
        server_tls(tmp_path, successor)
        relay.start()

        with secure_channel(relay.endpoint, successor) as channel:
            assert health_check(channel, 3) == 3


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing = ServerTls(cert_file=tmp_path / "no.crt", key_file=tmp_path / "no.key")

    with pytest.raises(FileNotFoundError, match=r"no\.key"):
        Relay(tls=missing).start()
