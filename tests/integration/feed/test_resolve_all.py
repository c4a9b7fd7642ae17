from __future__ import annotations

import pytest

from otelbridge.event import Stream
from otelbridge.feed import feed
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.events import UpstreamsChanged, UpstreamsUnknown
from tests.integration.feed.running import running, settings_for
from tests.waiting import eventually


class Names:
    """A DNS that says what it is told to say."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] = addresses

    def __call__(self, _host: str, _port: int) -> tuple[str, ...]:
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


@pytest.fixture(autouse=True)
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RESOLVE_PAUSE_SECONDS", 0.05)


def test_one_subscription_per_address_behind_a_name_is_added_and_removed_as_the_name_changes() -> None:
    names = Names("127.0.0.1")
    with Relay(host="127.0.0.1") as one:
        port = int(one.endpoint.rpartition(":")[2])
        with Relay(host="127.0.0.2", port=port) as two:
            settings = settings_for(f"nodes.kubearmor.svc:{port}", resolve="all")
            with running(settings, resolve=names) as run:
                one.wait_for_subscribers()
                assert two.subscribers(Stream.ALERTS) == 0
                names.addresses = ("127.0.0.1", "127.0.0.2")
                two.wait_for_subscribers()
                one.publish(Stream.ALERTS, b"one")
                two.publish(Stream.ALERTS, b"two")
                assert {(event.upstream, event.body) for event in run.events(2)} == {
                    (one.endpoint, b"one"),
                    (two.endpoint, b"two"),
                }
                names.addresses = ("127.0.0.2",)
                one.wait_for_subscribers(0)
                eventually(lambda: [status.upstream for status in run.feed.subscriptions()] == [two.endpoint])
                changes = run.of(UpstreamsChanged)
                assert [(told.added, told.removed) for told in changes[:2]] == [
                    ((one.endpoint,), ()),
                    ((two.endpoint,), ()),
                ]
                threads = [pulse.name for pulse in run.feed.pulses()]
                assert [name for name in threads if not name.startswith("read ")] == [
                    f"feed {two.endpoint}",
                    f"follow nodes.kubearmor.svc:{port}",
                ]
                assert two.subscribers(Stream.ALERTS) == 1


def test_a_name_that_no_longer_resolves_changes_nothing() -> None:
    names = Names("127.0.0.1")
    with Relay(host="127.0.0.1") as relay:
        port = int(relay.endpoint.rpartition(":")[2])
        with running(settings_for(f"nodes.kubearmor.svc:{port}", resolve="all"), resolve=names) as run:
            relay.wait_for_subscribers()
            names.addresses = ()
            eventually(lambda: len(run.of(UpstreamsUnknown)) >= 5)
            assert len(run.feed.subscriptions()) == 1
            assert relay.subscribers(Stream.ALERTS) == 1


def test_the_first_address_alone_is_used_unless_all_are_asked_for() -> None:
    with Relay(host="127.0.0.1") as relay:
        port = int(relay.endpoint.rpartition(":")[2])
        with running(settings_for(f"localhost:{port}")) as run:
            relay.wait_for_subscribers()
            assert [status.upstream for status in run.feed.subscriptions()] == [f"localhost:{port}"]


def test_a_name_that_does_not_exist_is_named_as_such() -> None:
    with running(settings_for("nowhere.invalid"), resolve=Names()) as run:
        eventually(lambda: "the name nowhere.invalid does not resolve" in run.status.last_error)
        assert run.status.error_class == "transient", "names appear"
