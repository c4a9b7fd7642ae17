"""Where an operator's address leads."""

from __future__ import annotations

import pytest

from otelbridge.send.settings import SendSettings, SendSettingsError, send_target
from otelbridge.setting import section_from


def settings(endpoint: str, **more: object) -> SendSettings:
    return section_from(SendSettings, {"endpoint": endpoint} | more)


@pytest.mark.parametrize(
    ("endpoint", "insecure", "url"),
    [
        ("", None, "http://localhost:4317"),
        ("http://otel:4317", None, "http://otel:4317"),
        ("https://otel:443/", None, "https://otel:443"),
        ("otel:4317", None, "https://otel:4317"),
        ("otel:4317", True, "http://otel:4317"),
        ("otel:4317", False, "https://otel:4317"),
        ("https://otel:4317", True, "https://otel:4317"),
        ("http://[::1]:4317", None, "http://[::1]:4317"),
    ],
)
def test_grpc_takes_urls_and_host_and_port(endpoint: str, insecure: bool | None, url: str) -> None:
    assert send_target(settings(endpoint, insecure=insecure)).url == url


@pytest.mark.parametrize(
    ("endpoint", "url", "path"),
    [
        ("", "http://localhost:4318/v1/logs", "/v1/logs"),
        ("http://otel:4318/custom/path", "http://otel:4318/custom/path", "/custom/path"),
        ("https://otel", "https://otel:443/", "/"),
        ("https://otel/in?key=secret", "https://otel:443/in", "/in?key=secret"),
    ],
)
def test_http_uses_the_url_as_it_is_and_shows_no_query(endpoint: str, url: str, path: str) -> None:
    target = send_target(settings(endpoint, protocol="http/protobuf"))
    assert (target.url, target.path) == (url, path)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.9", True), ("[::1]", True), ("otel", False), ("10.0.0.1", False)],
)
def test_loopback_is_this_machine(host: str, loopback: bool) -> None:
    assert send_target(settings(f"http://{host}:1")).loopback is loopback


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://user:hidden@otel:4317",
        "http://otel :1",
        "gopher://otel",
        "http://otel:99999",
        "otel",
        "http://otel:1/v1?hidden",
    ],
)
def test_an_address_that_cannot_work_is_refused_without_showing_secrets(endpoint: str) -> None:
    with pytest.raises(SendSettingsError, match=r"send\.endpoint") as error:
        send_target(settings(endpoint))
    assert "hidden" not in str(error.value)
