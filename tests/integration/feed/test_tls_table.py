"""What preflight and doctor say of a server's TLS is what gRPC meets: kind of certificates by state of affairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from otelbridge.feed.channel import open_channel, start_nonce_check
from otelbridge.feed.preflight import preflight
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import configuration_fault
from otelbridge.net.address import parse_address
from otelbridge.net.tls_files import read_tls_files
from otelbridge.setting import section_from
from otelbridge.simulator.manners import ServerTls
from otelbridge.simulator.upstream import Relay
from tests.integration.feed.operator_pki import OperatorCa
from tests.unit.cli.invoking import invoke

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
LESS_SECURITY = ("to false", "http://", "insecure", "plaintext")


class ChartPki:
    """As KubeArmor's Helm chart makes them: every CA and every certificate by its own name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.old, self.new = folder, trustme.CA(), trustme.CA()

    def ca(self, authority: trustme.CA) -> bytes:
        return authority.cert_pem.bytes()

    def issue(self, authority: trustme.CA, name: str, *, ends: datetime | None = None) -> tuple[Path, Path]:
        leaf = authority.issue_cert("localhost", "127.0.0.1", not_after=ends)
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key


class OperatorPki:
    """As KubeArmor's operator makes them: everything by one name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.old, self.new = folder, OperatorCa(), OperatorCa()

    def ca(self, authority: OperatorCa) -> bytes:
        return authority.pem

    def issue(self, authority: OperatorCa, name: str, *, ends: datetime | None = None) -> tuple[Path, Path]:
        return authority.issue(self.folder, name, ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affairs:
    """What the two sides have, and what a doctor has to say about it."""

    server: str = "old"
    """The CA that issued the server's certificate; `expired`, or `none` for plaintext."""
    trusted: tuple[str, ...] = ("old",)
    """The CAs in feed.tls.ca_file; empty where TLS is off."""
    client: str = "old"
    """The CA that issued our client certificate; `none`."""
    name: str = ""
    cure: str = ""
    """Part of it; empty where all is well."""


STATES = {
    "good": Affairs(),
    "wrong or remade CA": Affairs(trusted=("new",), cure="feed.tls.ca_file"),
    "no client certificate": Affairs(client="none", cure="Set feed.tls.cert_file and feed.tls.key_file"),
    "foreign client certificate": Affairs(
        client="new", cure="Replace it and its key with a pair that the server's own CA"
    ),
    "expired server certificate": Affairs(server="expired", cure="Renew the server's certificate"),
    "wrong name": Affairs(name="elsewhere.example", cure="set feed.tls.server_name"),
    "TLS to plaintext": Affairs(server="none", cure="feed.tls.enabled to false"),
    "plaintext to TLS": Affairs(trusted=(), cure="Set feed.tls.enabled to true"),
    "old CA before the new": Affairs(trusted=("old", "new")),
}


@contextmanager
def relay_and_settings(kind: type[Any], affairs: Affairs, folder: Path) -> Iterator[tuple[Relay, FeedSettings]]:
    pki = kind(folder)
    authorities = {"old": pki.old, "new": pki.new}
    tls = None
    if affairs.server != "none":
        cert, key = pki.issue(
            authorities.get(affairs.server, pki.old), "server", ends=YESTERDAY if affairs.server == "expired" else None
        )
        (folder / "server-ca.crt").write_bytes(pki.ca(pki.old))
        tls = ServerTls(cert_file=cert, key_file=key, client_ca_file=folder / "server-ca.crt")
    section: dict[str, Any] = {"enabled": bool(affairs.trusted), "server_name": affairs.name}
    if affairs.trusted:
        section["ca_file"] = folder / "ca.crt"
        section["ca_file"].write_bytes(b"".join(pki.ca(authorities[name]) for name in affairs.trusted))
        if affairs.client != "none":
            section["cert_file"], section["key_file"] = pki.issue(authorities[affairs.client], "client")
    with Relay(tls=tls) as relay:
        yield relay, section_from(FeedSettings, {"endpoints": [relay.endpoint], "tls": section})


def answer_of_grpc(relay: Relay, settings: FeedSettings) -> str:
    """Empty where gRPC gets an answer; its words where it gets none."""
    channel = open_channel(
        parse_address(relay.endpoint),
        settings,
        version="test",
        keepalive_seconds=15,
        certificates=read_tls_files(settings.tls, "feed.tls") if settings.tls.enabled else None,
    )
    try:
        start_nonce_check(channel, 7, 5).result()
    except grpc.RpcError as error:
        return str(error.details())
    finally:
        channel.close()
    return ""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [ChartPki, OperatorPki])
def test_preflight_doctor_and_grpc_agree(kind: type[Any], state: str, tmp_path: Path) -> None:
    affairs = STATES[state]
    with relay_and_settings(kind, affairs, tmp_path) as (relay, settings):
        words = answer_of_grpc(relay, settings)
        findings = preflight(parse_address(relay.endpoint), settings.tls, timeout_seconds=5)
        sets = [f"feed.tls.{key}={value}" for key, value in vars(settings.tls).items() if value]
        options = [option for one in sets for option in ("--set", one)]
        doctor = invoke("doctor", "--kubearmor", relay.endpoint, "--wait", "0.2", "--output", "json", *options)

    assert bool(words) is bool(affairs.cure), words
    assert bool(findings.failed_step) is bool(affairs.cure), findings
    cures = [
        found["cure"] for found in doctor.json()["findings"] if found["step"].startswith("KubeArmor") and found["cure"]
    ]
    said = (findings.cure, configuration_fault(words), *cures)
    if affairs.cure:
        assert affairs.cure.lower() in findings.cure.lower()
        assert affairs.cure.lower() in cures[0].lower()
    if state != "TLS to plaintext":
        assert not [text for text in said for less in LESS_SECURITY if less in text.lower()], said


def test_a_server_without_names_is_judged_as_grpc_does(tmp_path: Path) -> None:
    authority = OperatorCa()
    cert, key = authority.issue(tmp_path, "server", names=False)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    with Relay(tls=ServerTls(cert_file=cert, key_file=key)) as relay:
        for name in ("", "kubearmor"):
            settings = section_from(
                FeedSettings, {"tls": {"enabled": True, "ca_file": tmp_path / "ca.crt", "server_name": name}}
            )
            words = answer_of_grpc(relay, settings)
            findings = preflight(parse_address(relay.endpoint), settings.tls, timeout_seconds=5)
            assert bool(words) is bool(findings.failed_step), (name, words, findings)
