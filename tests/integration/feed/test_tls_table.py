"""What preflight and doctor say of a server's TLS is what `run` meets: kind of certificates by state of affairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from otelbridge.feed.channel import open_channel, route_to, start_nonce_check
from otelbridge.feed.model import SubscriptionState
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import configuration_fault
from otelbridge.net.address import parse_address
from otelbridge.net.preflight import preflight
from otelbridge.net.tls_files import read_tls_files
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.upstream import Relay
from tests.integration.feed.operator_pki import OperatorCa
from tests.integration.feed.running import running, settings_for
from tests.unit.cli.invoking import invoke

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
LESS_SECURITY = ("enabled to false", "http://", "insecure", "plaintext")


class ChartPki:
    """As KubeArmor's Helm chart makes them: the leaves have names of their own, and a remade CA has that of the old."""

    name = ""
    """What feed.tls.server_name has to be for all to be well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authorities = {
            "old": trustme.CA(organization_name="kubearmor", organization_unit_name="kubearmor-ca"),
            "remade": trustme.CA(organization_name="kubearmor", organization_unit_name="kubearmor-ca"),
            "foreign": trustme.CA(organization_name="somebody", organization_unit_name="else"),
        }

    def ca(self, authority: str) -> bytes:
        return self.authorities[authority].cert_pem.bytes()

    def issue(self, authority: str, name: str, *, ends: datetime | None = None) -> tuple[Path, Path]:
        leaf = self.authorities[authority].issue_cert("localhost", "127.0.0.1", not_after=ends)
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key


@cache
def operators() -> dict[str, OperatorCa]:
    """Their keys take long to make."""
    return {"old": OperatorCa(), "remade": OperatorCa()}


class OperatorPki:
    """As KubeArmor's operator makes them: everything by one name."""

    name = ""

    def __init__(self, folder: Path, *, names: bool = True) -> None:
        self.folder = folder
        self._names = names
        self._own = operators()
        self._foreign = trustme.CA(organization_name="somebody", organization_unit_name="else")

    def ca(self, authority: str) -> bytes:
        return self._own[authority].pem if authority in self._own else self._foreign.cert_pem.bytes()

    def issue(self, authority: str, name: str, *, ends: datetime | None = None) -> tuple[Path, Path]:
        if authority in self._own:
            return self._own[authority].issue(self.folder, name, ends=ends, names=self._names)
        leaf = self._foreign.issue_cert("localhost", "127.0.0.1", not_after=ends)
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key


class SelfPki:
    """As a relay makes its own (`self`): like the operator's, and for no name but the common one."""

    name = "kubearmor"

    def __init__(self, folder: Path) -> None:
        pki = OperatorPki(folder, names=False)
        self.ca, self.issue = pki.ca, pki.issue


@dataclass(frozen=True, slots=True, kw_only=True)
class Affairs:
    """What the two sides have, and what a doctor has to say about it."""

    server: str = "old"
    """The CA that issued the server's certificate; `expired`, or `none` for plaintext."""
    trusted: tuple[str, ...] = ("old",)
    """The CAs in feed.tls.ca_file; empty where TLS is off."""
    client: str = "old"
    """The CA that issued our client certificate; `expired`, or `none`."""
    name: str | None = None
    """feed.tls.server_name, where it is not the right one."""
    cure: str = ""
    """Part of it; empty where all is well."""


STATES = {
    "good": Affairs(),
    "wrong CA": Affairs(trusted=("foreign",), cure="feed.tls.ca_file"),
    "remade CA": Affairs(trusted=("remade",), cure="feed.tls.ca_file"),
    "no client certificate": Affairs(client="none", cure="set feed.tls.cert_file and feed.tls.key_file"),
    "foreign client certificate": Affairs(
        client="foreign", cure="replace it and its key with a pair that the server's own CA"
    ),
    "client certificate of a remade CA": Affairs(
        client="remade", cure="replace it and its key with a pair that the server's own CA"
    ),
    "expired server certificate": Affairs(server="expired", cure="renew the server's certificate"),
    "expired client certificate": Affairs(client="expired", cure="renew the file"),
    "wrong name": Affairs(name="elsewhere.example", cure="set feed.tls.server_name"),
    "TLS to plaintext": Affairs(server="none", cure="feed.tls.enabled to false"),
    "plaintext to TLS": Affairs(trusted=(), cure="set feed.tls.enabled to true"),
    "old CA before the new": Affairs(trusted=("remade", "old")),
}


@contextmanager
def relay_and_settings(kind: type[Any], affairs: Affairs, folder: Path) -> Iterator[tuple[Relay, FeedSettings]]:
    pki = kind(folder)

    def issue(authority: str, name: str) -> tuple[Path, Path]:
        expired: tuple[Path, Path] = pki.issue("old", name, ends=YESTERDAY)
        return expired if authority == "expired" else pki.issue(authority, name)

    tls = None
    if affairs.server != "none":
        cert, key = issue(affairs.server, "server")
        (folder / "server-ca.crt").write_bytes(pki.ca("old"))
        tls = ServerTls(cert_file=cert, key_file=key, client_ca_file=folder / "server-ca.crt")
    name = pki.name if affairs.name is None else affairs.name
    section: dict[str, Any] = {}
    if affairs.trusted:
        section = {"enabled": True, "server_name": name}
        section["ca_file"] = folder / "ca.crt"
        section["ca_file"].write_bytes(b"".join(pki.ca(name) for name in affairs.trusted))
        if affairs.client != "none":
            section["cert_file"], section["key_file"] = issue(affairs.client, "client")
    with Relay(tls=tls) as relay:
        yield relay, settings_for(relay.endpoint, tls=section)


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
@pytest.mark.parametrize("kind", [ChartPki, OperatorPki, SelfPki])
def test_preflight_doctor_and_run_agree(kind: type[Any], state: str, tmp_path: Path) -> None:
    affairs = STATES[state]
    with relay_and_settings(kind, affairs, tmp_path) as (relay, settings):
        words = answer_of_grpc(relay, settings)
        findings = preflight(route_to(parse_address(relay.endpoint), settings), timeout_seconds=5)
        sets = [f"feed.tls.{key}={value}" for key, value in vars(settings.tls).items() if value]
        options = [option for one in sets for option in ("--set", one)]
        doctor = invoke("doctor", "--kubearmor", relay.endpoint, "--wait", "0.2", "--output", "json", *options)
        with running(settings) as run:
            status = run.until(SubscriptionState.WATCHING, SubscriptionState.HOLDING)

    cures = [
        found["cure"] for found in doctor.json()["findings"] if found["step"].startswith("KubeArmor") and found["cure"]
    ]
    said = {
        "preflight": findings.advice,
        "doctor": " ".join(cures),
        "run": status.last_error,
    }
    if len(affairs.trusted) < 2:  # gRPC takes the first CA of a name, so run tries the orders of a bundle
        assert bool(words) is bool(affairs.cure), words
    assert bool(findings.failed_step) is bool(affairs.cure), findings
    assert (status.state is SubscriptionState.HOLDING) is bool(affairs.cure), status
    for who, text in said.items():
        assert affairs.cure.lower() in text.lower(), f"{who}: {text}"
    if state != "TLS to plaintext":
        everything = [*said.values(), configuration_fault(words)]
        assert not [text for text in everything for less in LESS_SECURITY if less in text.lower()], said


def test_a_server_without_names_is_judged_as_grpc_does(tmp_path: Path) -> None:
    for name in ("", "kubearmor", "KubeArmor", "kubearmor.kubearmor.svc"):
        with relay_and_settings(SelfPki, Affairs(name=name), tmp_path) as (relay, settings):
            words = answer_of_grpc(relay, settings)
            findings = preflight(route_to(parse_address(relay.endpoint), settings), timeout_seconds=5)
            assert bool(words) is bool(findings.failed_step), (name, words, findings)
