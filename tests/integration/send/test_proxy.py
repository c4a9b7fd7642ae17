"""Both protocols, and the subscription, go through a real proxy; who fails by it is told its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.queue.model import Accepted, Hold, RetryLater
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.integration.feed.running import running, settings_for
from tests.peers.connect_proxy import ConnectProxy, connect_proxy
from tests.unit.cli.invoking import invoke

FAR = "far.example"
"""A name that only the proxy can look up."""
PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with connect_proxy() as running_proxy:
        running_proxy.stand_ins[FAR] = "127.0.0.1"
        yield running_proxy


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint() as started:
        yield started


def near(endpoint: OtlpEndpoint, protocol: str) -> str:
    return endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"


def far(endpoint: OtlpEndpoint, protocol: str) -> str:
    return near(endpoint, protocol).replace("127.0.0.1", FAR)


def sent(endpoint: OtlpEndpoint, protocol: str, proxy: str, **others: Any) -> Any:
    settings = section_from(
        SendSettings,
        {"protocol": protocol, "endpoint": far(endpoint, protocol), "proxy": {"http": proxy}, "timeout_seconds": 5}
        | others,
    )
    sender = open_sender(settings, version="test")
    try:
        return sender.send(b"", records=0)
    finally:
        sender.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_goes_through_the_proxy_with_its_password(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str
) -> None:
    outcome = sent(endpoint, protocol, proxy.url.replace("//", "//me:secret@"))
    assert outcome == Accepted()
    ((asked, authorization),) = proxy.asked
    assert FAR in asked
    assert authorization == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_is_refused_by_a_proxy_is_told_its_name(proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str) -> None:
    proxy.refuse = 403
    outcome = sent(endpoint, protocol, proxy.url.replace("//", "//me:secret@"))
    assert isinstance(outcome, RetryLater | Hold)
    assert f"through the proxy {proxy.url}" in outcome.why
    assert "secret" not in outcome.why


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_needs_no_proxy_goes_straight(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):  # what C-core would read by itself
        monkeypatch.setenv(name, proxy.url)
    settings = {"protocol": protocol, "endpoint": near(endpoint, protocol), "proxy": {"http": proxy.url}}
    sender = open_sender(section_from(SendSettings, settings), version="test")
    try:
        assert sender.send(b"", records=0) == Accepted()
    finally:
        sender.close()
    assert proxy.asked == []


def test_the_subscription_goes_through_the_proxy_too(proxy: ConnectProxy) -> None:
    with Relay() as relay:
        upstream = relay.endpoint.replace("127.0.0.1", FAR)
        with running(settings_for(upstream, proxy={"http": proxy.url})) as run:
            run.until_watching()
            relay.publish(Stream.ALERTS, b"seen")
            assert run.events(1)[0].body == b"seen"
    assert proxy.asked


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_doctor_names_the_proxy_in_the_way(proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str) -> None:
    proxy.refuse = 403
    with Relay() as relay:
        ended = invoke(
            "doctor", "--kubearmor", relay.endpoint.replace("127.0.0.1", FAR), "--wait", "0.2",
            "--protocol", protocol, "--endpoint", far(endpoint, protocol), HTTP_PROXY=proxy.url,
        )  # fmt: skip
    assert ended.data.count(f"No connection through the proxy {proxy.url}") == 2
    assert ended.data.count("NO_PROXY") == 2
