"""TLS and mutual TLS over both protocols: what works, what is named when not, and rotation without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from otelbridge.net import files as watched_files
from otelbridge.net.files import TlsFileError
from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.listening import ServerTls
from tests.records import request_of
from tests.waiting import eventually

PROTOCOLS = ["grpc", "http/protobuf"]


class Pki:
    """A CA and its files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *identities: str, not_after: datetime | None = None) -> tuple[Path, Path]:
        leaf = self.ca.issue_cert(*identities, not_after=not_after)
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@contextmanager
def tls_endpoint(pki: Pki, *identities: str, client_ca: Path | None = None) -> Iterator[OtlpEndpoint]:
    cert, key = pki.issue("server", *(identities or ("127.0.0.1",)))
    with OtlpEndpoint(tls=ServerTls(cert_file=cert, key_file=key, client_ca_file=client_ca)) as endpoint:
        yield endpoint


@contextmanager
def sender_to(to: OtlpEndpoint, protocol: str, **settings: object) -> Iterator[Sender]:
    address = to.grpc_endpoint if protocol == "grpc" else f"{to.http_endpoint}/v1/logs"
    chosen = {"protocol": protocol, "endpoint": address, "timeout_seconds": 5} | settings
    sender = open_sender(section_from(SendSettings, chosen), version="1")
    try:
        yield sender
    finally:
        sender.close()


def once(sender: Sender) -> Outcome:
    return sender.send(request_of("a"), records=1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_with_a_private_ca(pki: Pki, protocol: str) -> None:
    with tls_endpoint(pki) as endpoint, sender_to(endpoint, protocol, ca_file=pki.ca_file) as sender:
        assert sender.endpoint.startswith("https://")
        assert once(sender) == Accepted()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mutual_tls(pki: Pki, protocol: str) -> None:
    cert, key = pki.issue("client", "otelbridge")
    with tls_endpoint(pki, client_ca=pki.ca_file) as endpoint:
        files = {"ca_file": pki.ca_file, "cert_file": cert, "key_file": key}
        with sender_to(endpoint, protocol, **files) as sender:
            assert once(sender) == Accepted()
        with sender_to(endpoint, protocol, ca_file=pki.ca_file) as sender:
            assert isinstance(once(sender), RetryLater | Hold)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_ca_is_held_and_named(pki: Pki, tmp_path: Path, protocol: str) -> None:
    other = Pki(tmp_path / "other")
    with tls_endpoint(pki) as endpoint, sender_to(endpoint, protocol, ca_file=other.ca_file) as sender:
        outcome = once(sender)
        assert isinstance(outcome, Hold)
        assert "send.ca_file" in outcome.cure


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_name_is_held_and_server_name_cures_it(pki: Pki, protocol: str) -> None:
    with tls_endpoint(pki, "collector.example") as endpoint:
        with sender_to(endpoint, protocol, ca_file=pki.ca_file) as sender:
            outcome = once(sender)
            assert isinstance(outcome, Hold)
            assert "send.server_name" in outcome.cure
        with sender_to(endpoint, protocol, ca_file=pki.ca_file, server_name="collector.example") as sender:
            assert once(sender) == Accepted()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_towards_a_plaintext_port_is_held_and_named(endpoint: OtlpEndpoint, protocol: str) -> None:
    address = (endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint).replace("http:", "https:")
    with sender_to(endpoint, protocol, endpoint=address) as sender:
        outcome = once(sender)
        assert isinstance(outcome, Hold)
        assert "http://" in outcome.cure


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rotated_ca_is_read_without_a_restart(
    pki: Pki, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "RECHECK_SECONDS", 0)
    other = Pki(tmp_path / "other")
    with tls_endpoint(pki) as endpoint, sender_to(endpoint, protocol, ca_file=other.ca_file) as sender:
        assert isinstance(once(sender), Hold)
        other.ca_file.write_bytes(b"half a certifi")
        assert isinstance(once(sender), Hold)
        other.ca_file.write_bytes(pki.ca_file.read_bytes())
        eventually(lambda: once(sender) == Accepted())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_pair_in_the_middle_of_rotation_leaves_the_old_one_in_force(
    pki: Pki, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "RECHECK_SECONDS", 0)
    cert, key = pki.issue("client", "otelbridge")
    files = {"ca_file": pki.ca_file, "cert_file": cert, "key_file": key}
    with tls_endpoint(pki, client_ca=pki.ca_file) as endpoint, sender_to(endpoint, protocol, **files) as sender:
        assert once(sender) == Accepted()
        new_cert, new_key = pki.issue("next", "otelbridge")
        cert.write_bytes(new_cert.read_bytes())
        assert once(sender) == Accepted()
        key.write_bytes(new_key.read_bytes())
        assert once(sender) == Accepted()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_expired_client_certificate_is_held_with_its_date_and_its_renewal_is_used(
    pki: Pki, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "RECHECK_SECONDS", 0)
    past = datetime.now(UTC) - timedelta(days=1)
    cert, key = pki.issue("client", "otelbridge", not_after=past)
    files = {"ca_file": pki.ca_file, "cert_file": cert, "key_file": key}
    with tls_endpoint(pki, client_ca=pki.ca_file) as endpoint, sender_to(endpoint, protocol, **files) as sender:
        outcome = once(sender)
        assert isinstance(outcome, Hold)
        assert f"send.cert_file ({cert}): the certificate expired on {past:%Y-%m-%d}" in outcome.why
        assert "renew" in outcome.cure
        pki.issue("client", "otelbridge")
        eventually(lambda: once(sender) == Accepted())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_endpoint_that_does_not_look_at_dates_is_delivered_to(pki: Pki, protocol: str) -> None:
    cert, key = pki.issue("client", "otelbridge", not_after=datetime.now(UTC) - timedelta(days=1))
    files = {"ca_file": pki.ca_file, "cert_file": cert, "key_file": key}
    with tls_endpoint(pki) as endpoint, sender_to(endpoint, protocol, **files) as sender:
        assert once(sender) == Accepted()


def test_files_that_are_not_what_they_should_be_are_named_at_the_start(pki: Pki, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    cert, key = pki.issue("a", "a")
    _, other_key = pki.issue("b", "b")
    broken = [
        ({"ca_file": junk}, "send.ca_file"),
        ({"cert_file": junk, "key_file": key}, "send.cert_file"),
        ({"cert_file": cert, "key_file": junk}, "send.key_file"),
        ({"cert_file": cert, "key_file": other_key}, "is not the key of the certificate in send.cert_file"),
    ]
    for files, said in broken:
        with pytest.raises(TlsFileError, match=said):
            open_sender(section_from(SendSettings, {"endpoint": "https://localhost:4317"} | files), version="1")
