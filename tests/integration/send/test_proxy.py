"""Both protocols, and the subscription, go through a real proxy; who fails by it is told its name."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otelbridge.cli.examination import Mark, examine_endpoint
from otelbridge.event import Stream
from otelbridge.net.proxy import ProxySettings
from otelbridge.queue.model import Accepted, Hold, Refused, RetryLater, TooLarge
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.exporters import open_exporters
from otelbridge.telemetry.settings import TelemetrySettings
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


def sent(endpoint: OtlpEndpoint, protocol: str, url: str, /, **others: Any) -> Any:
    settings = section_from(
        SendSettings,
        {"protocol": protocol, "endpoint": far(endpoint, protocol), "proxy": {"http": url}, "timeout_seconds": 5}
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
    assert ended.data.count(f"through the proxy {proxy.url}") >= 2
    assert ended.data.count("NO_PROXY") == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_doctor_reaches_the_endpoint_through_the_proxy_as_the_bridge_does(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str
) -> None:
    settings = section_from(
        SendSettings, {"protocol": protocol, "endpoint": far(endpoint, protocol), "proxy": {"http": proxy.url}}
    )
    findings = examine_endpoint(settings, send_test_record=True)
    assert all(finding.mark is Mark.OK for finding in findings), findings
    # Proxies refuse tunnels to most ports, and are given what is plain HTTP as it is.
    assert any(asked.startswith("CONNECT") for asked, _ in proxy.asked) is (protocol == "grpc")


@pytest.mark.parametrize(("protocol", "scheme"), [*itertools.product(PROTOCOLS, ["http", "https"])])
@pytest.mark.parametrize(
    "answer",
    [
        (302, Hold, "NO_PROXY"),
        (400, Hold | Refused, "NO_PROXY"),
        (403, Hold, "NO_PROXY"),
        (407, Hold, "send.proxy"),
        (413, Hold | TooLarge, "NO_PROXY"),
        (502, RetryLater, ""),
    ],
)
def test_whatever_the_proxy_answers_names_it(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str, scheme: str, answer: tuple[int, Any, str]
) -> None:
    proxy.refuse, kind, cure = answer
    address = far(endpoint, protocol).replace("http:", f"{scheme}:")
    proxies = {"http": proxy.url, "https": proxy.url}
    outcome = sent(endpoint, protocol, proxy.url, proxy=proxies, endpoint=address)
    assert isinstance(outcome, kind)
    assert proxy.url in outcome.why
    assert not isinstance(outcome, Hold) or cure in outcome.cure


def test_a_proxy_that_drips_its_answer_has_no_longer_than_the_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while not over.wait(0.1):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = {"protocol": "http/protobuf", "endpoint": f"https://{FAR}/v1/logs", "timeout_seconds": 1}
        sender = open_sender(section_from(SendSettings, settings | {"proxy": {"https": proxy}}), version="test")
        began = time.monotonic()
        outcome = sender.send(b"", records=0)
        took = time.monotonic() - began
        over.set()
        thread.join()
        sender.close()
    assert isinstance(outcome, RetryLater)
    assert proxy in outcome.why
    assert took < 3


def exported(protocol: str, address: str, url: str) -> None:
    """A span and a metric, by the bridge's own exporters."""
    proxies = section_from(ProxySettings, {"http": url})
    settings = {
        signal: {"protocol": protocol, "endpoint": address.replace("/v1/logs", f"/v1/{signal}"), "timeout_seconds": 5}
        for signal in ("traces", "metrics")
    }
    _, spans, metrics = open_exporters(
        section_from(TelemetrySettings, settings), console=sys.stderr, lent={}, proxies=proxies
    )
    span = TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_span("a span")
    span.end()
    assert spans is not None
    assert spans.export([cast("ReadableSpan", span)]) is SpanExportResult.SUCCESS
    spans.shutdown()
    reader = InMemoryMetricReader()
    MeterProvider([reader], shutdown_on_exit=False).get_meter("tests").create_counter("a.counter").add(1)
    data = reader.get_metrics_data()
    assert metrics is not None
    assert data is not None
    assert metrics.export(data) is MetricExportResult.SUCCESS
    metrics.shutdown()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_bridges_own_signals_go_through_the_proxy_of_the_settings(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str
) -> None:
    exported(protocol, far(endpoint, protocol), proxy.url.replace("//", "//me:secret@"))
    assert {authorization for _, authorization in proxy.asked} == {"Basic bWU6c2VjcmV0"}
    assert (len(endpoint.spans()), len(endpoint.metrics())) == (1, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_bridges_own_signals_need_no_proxy_where_the_events_need_none(
    proxy: ConnectProxy, endpoint: OtlpEndpoint, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):  # what the libraries would read by themselves
        monkeypatch.setenv(name, proxy.url)
    exported(protocol, near(endpoint, protocol), proxy.url)
    assert proxy.asked == []
    assert (len(endpoint.spans()), len(endpoint.metrics())) == (1, 1)
