from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from otelbridge.event import Stream
from otelbridge.feed import connector
from otelbridge.feed.model import SubscriptionState
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.events import CertificatesRefused, ConnectionEnded
from tests.integration.feed.authority import Files
from tests.integration.feed.operator_pki import OperatorCa
from tests.integration.feed.running import running, settings_for
from tests.waiting import eventually


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "tls")


@pytest.fixture(autouse=True)
def checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(connector, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(connector, "RECHECK_SECONDS", 1.0)


def test_mutual_tls_is_spoken_and_the_expiry_is_known(files: Files) -> None:
    files.issue(files.authority, not_after=datetime.now(UTC) + timedelta(days=3))
    with (
        Relay(tls=files.server()) as relay,
        running(settings_for(relay.endpoint, tls=files.settings())) as run,
    ):
        run.until_watching()
        relay.publish(Stream.ALERTS, b"secret")
        assert run.events(1)[0].body == b"secret"
        assert run.status.certificate_expires_unix_seconds is not None
        assert abs(run.status.certificate_expires_unix_seconds - time.time() - 3 * 86400) < 3600


def test_a_server_of_an_unknown_authority_is_named_and_trusted_once_the_bundle_has_it(files: Files) -> None:
    other = trustme.CA()
    files.issue(other)
    with (
        Relay(tls=files.server(authority=other)) as relay,
        running(settings_for(relay.endpoint, tls=files.settings())) as run,
    ):
        status = run.until(SubscriptionState.HOLDING)
        assert status.error_class == "configuration"
        assert "feed.tls.ca_file" in status.last_error
        files.trust(files.authority, other)
        run.until_watching()


def test_a_server_with_another_name_is_named_and_accepted_under_the_name_to_expect(files: Files) -> None:
    with Relay(tls=files.server("kubearmor.kubearmor.svc")) as relay:
        with running(settings_for(relay.endpoint, tls=files.settings())) as run:
            status = run.until(SubscriptionState.HOLDING)
            assert "feed.tls.server_name" in status.last_error
        named = files.settings(server_name="kubearmor.kubearmor.svc")
        with running(settings_for(relay.endpoint, tls=named)) as run:
            run.until_watching()


def test_a_missing_client_certificate_is_found_out_by_walking_the_way(files: Files) -> None:
    tls = {"enabled": True, "ca_file": files.ca}
    with Relay(tls=files.server()) as relay, running(settings_for(relay.endpoint, tls=tls)) as run:
        status = run.until(SubscriptionState.HOLDING)
        assert status.error_class == "configuration"
        assert "client certificate" in status.last_error
        assert status.attempts == 3


def test_plaintext_to_a_server_that_speaks_tls_is_found_out(files: Files) -> None:
    with Relay(tls=files.server()) as relay, running(settings_for(relay.endpoint)) as run:
        status = run.until(SubscriptionState.HOLDING)
        assert "set feed.tls.enabled to true" in status.last_error


def test_tls_to_a_server_that_does_not_speak_it_is_found_out_and_the_hold_ends_when_it_does(files: Files) -> None:
    plain = Relay().start()
    with running(settings_for(plain.endpoint, tls=files.settings())) as run:
        status = run.until(SubscriptionState.HOLDING)
        assert "set feed.tls.enabled to false" in status.last_error
        plain.stop()
        with Relay(port=int(plain.endpoint.rpartition(":")[2]), tls=files.server()):
            run.until_watching()


def test_an_expired_certificate_is_not_even_tried_and_its_renewal_is_noticed(files: Files) -> None:
    files.issue(files.authority, not_after=datetime.now(UTC) - timedelta(hours=1))
    with (
        Relay(tls=files.server()) as relay,
        running(settings_for(relay.endpoint, tls=files.settings())) as run,
    ):
        status = run.until(SubscriptionState.HOLDING)
        assert status.error_class == "configuration"
        assert f"({files.cert}): the certificate expired on" in status.last_error
        assert relay.calls == ()
        files.issue(files.authority)
        run.until_watching()


def test_a_rotation_makes_before_it_breaks_and_loses_no_event(files: Files) -> None:
    with (
        Relay(tls=files.server()) as relay,
        running(settings_for(relay.endpoint, tls=files.settings())) as run,
    ):
        run.until_watching()
        first, sent = run.status.connection_id, 0
        files.issue(files.authority)
        deadline = time.monotonic() + 15
        while not run.of(ConnectionEnded) and time.monotonic() < deadline:
            relay.publish(Stream.ALERTS, b"%d" % sent)
            sent += 1
            time.sleep(0.002)  # the pace of the traffic, not a wait for anything
        relay.publish(Stream.ALERTS, b"%d" % sent)
        eventually(lambda: {event.body for event in run.events(sent)} == {b"%d" % n for n in range(sent + 1)})
        (ended,) = run.of(ConnectionEnded)
        assert (ended.connection_id, ended.planned) == (first, True)
        assert run.status.connection_id != first
        assert run.states() == ["connecting", "watching"], "it was never not watching"
        assert run.gaps() == []
        relay.wait_for_subscribers(1)
        eventually(lambda: relay.subscribers(Stream.ALERTS) == 1)


def test_a_half_written_pair_is_refused_and_the_connection_goes_on_until_it_is_whole(files: Files) -> None:
    with (
        Relay(tls=files.server()) as relay,
        running(settings_for(relay.endpoint, tls=files.settings())) as run,
    ):
        run.until_watching()
        first = run.status.connection_id
        new = Files(files.folder / "new")
        new.issue(files.authority)
        shutil.copy(new.cert, files.cert)
        eventually(lambda: run.of(CertificatesRefused))
        assert "half written" in run.of(CertificatesRefused)[0].why
        relay.publish(Stream.ALERTS, b"still")
        run.events(1)
        assert run.status.connection_id == first
        shutil.copy(new.key, files.key)
        eventually(lambda: run.of(ConnectionEnded))
        assert run.status.connection_id != first
        assert len(run.of(CertificatesRefused)) == 1


def test_a_swap_of_the_authority_is_survived_with_a_bundle_of_both(files: Files) -> None:
    new = trustme.CA()
    relay = Relay(tls=files.server()).start()
    with running(settings_for(relay.endpoint, tls=files.settings())) as run:
        run.until_watching()
        files.server(authority=new)
        relay.kill()
        relay.start()
        run.until(SubscriptionState.HOLDING)
        files.trust(files.authority, new)
        files.issue(new)
        run.until_watching()
    relay.stop()


def test_the_operators_ca_is_made_anew_and_the_bridge_follows_without_a_restart(tmp_path: Path) -> None:
    """Old and new CA bear one name: gRPC tries the first of a bundle only, so the bridge tries them in turn."""
    old, new = OperatorCa(), OperatorCa()
    bundle = tmp_path / "ca.crt"
    bundle.write_bytes(old.pem)
    cert, key = old.issue(tmp_path, "server")
    tls = {"enabled": True, "ca_file": bundle}
    relay = Relay(tls=ServerTls(cert_file=cert, key_file=key))
    relay.start()
    with running(settings_for(relay.endpoint, tls=tls)) as run:
        run.until_watching()
        bundle.write_bytes(old.pem + new.pem)  # what an operator puts there while both are in use
        relay.stop()
        cert, key = new.issue(tmp_path, "server")
        with Relay(port=int(relay.endpoint.rpartition(":")[2]), tls=ServerTls(cert_file=cert, key_file=key)) as second:
            second.wait_for_subscribers(streams=[Stream.ALERTS], within_seconds=20)
            run.until_watching()
            second.publish(Stream.ALERTS, b"seen")
            assert run.events(1)[0].body == b"seen"
