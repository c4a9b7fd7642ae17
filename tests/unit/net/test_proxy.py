"""Which proxy stands in the way is decided once, for every form that NO_PROXY has in the wild."""

from __future__ import annotations

import pytest

from otelbridge.net.proxy import Proxy, ProxySettings, grpc_options, parse_proxy, proxy_for
from tests.unit.settings.loading import loaded, problems

PROXY = "http://user:p%40ss@proxy:3128"


@pytest.mark.parametrize(
    ("pattern", "host", "port", "straight"),
    [
        ("*", "collector.example", 4317, True),
        ("collector.example", "collector.example", 4317, True),
        ("COLLECTOR.example.", "collector.EXAMPLE", 4317, True),
        ("example", "collector.example", 4317, True),
        (".example", "collector.example", 4317, True),
        (".example", "example", 4317, True),
        ("*.example", "collector.example", 4317, True),
        ("ample", "collector.example", 4317, False),
        ("collector.example:4317", "collector.example", 4317, True),
        ("collector.example:443", "collector.example", 4317, False),
        ("*:4317", "collector.example", 4317, True),
        ("10.0.0.0/8", "10.1.2.3", 4317, True),
        ("10.0.0.0/8", "11.1.2.3", 4317, False),
        ("10.1.2.3", "10.1.2.3", 4317, True),
        ("10.1.2.3:4317", "10.1.2.3", 4317, True),
        ("fd00::/8", "fd00::1", 4317, True),
        ("[fd00::1]", "fd00::1", 4317, True),
        ("[fd00::1]:4317", "fd00::1", 4317, True),
        ("[fd00::1]:443", "fd00::1", 4317, False),
        ("", "collector.example", 4317, False),
        (".", "collector.example", 4317, False),
        ("http://collector.example:4317/", "collector.example", 4317, True),
        ("https://collector.example", "collector.example", 4317, True),
        ("10.1.2.*", "10.1.2.3", 4317, True),
        ("10.1.2.*", "10.1.3.3", 4317, False),
        ("*.exa*.org", "a.example.org", 4317, True),
        ("10.0.0.0/8:4317", "10.1.2.3", 4317, True),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", 4317, True),
        ("2.3", "10.1.2.3", 4317, False),
        ("10.1.2.3", "::ffff:10.1.2.3", 4317, True),
        ("fe80::1%eth0", "fe80::1%eth0", 4317, True),
        ("[", "collector.example", 4317, False),
        ("*[", "collector.example", 4317, False),
        (":", "collector.example", 4317, False),
        ("collector.example:\u00b2", "collector.example", 4317, False),
        ("collector.example:" + "9" * 5_000, "collector.example", 4317, False),
    ],
)
def test_no_proxy_is_read_in_every_form(pattern: str, host: str, port: int, *, straight: bool) -> None:
    settings = ProxySettings(http=PROXY, https=PROXY, none_for=(pattern,))
    assert (proxy_for(host, port, settings, tls=False) is None) is straight


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "a.localhost", "0.0.0.0", "::", "::ffff:127.0.0.1"],
)
def test_this_machine_needs_no_proxy(host: str) -> None:
    assert proxy_for(host, 4317, ProxySettings(http=PROXY, https=PROXY), tls=True) is None


def test_plaintext_and_tls_have_a_proxy_each() -> None:
    settings = ProxySettings(http="one:1", https="two:2")
    assert proxy_for("x", 1, settings, tls=False) == Proxy(host="one", port=1)
    assert proxy_for("x", 1, settings, tls=True) == Proxy(host="two", port=2)


def test_a_proxys_password_is_sent_and_not_shown() -> None:
    proxy = parse_proxy(PROXY)
    assert str(proxy) == "http://proxy:3128"
    assert proxy.authorization == "Basic dXNlcjpwQHNz"
    assert grpc_options(proxy) == {"grpc.http_proxy": PROXY}


def test_a_password_that_is_written_as_it_is_reaches_grpc_whole() -> None:
    proxy = parse_proxy("http://me:p@ss word:x@proxy:3128")
    assert (proxy.host, proxy.port) == ("proxy", 3128)
    assert grpc_options(proxy) == {"grpc.http_proxy": "http://me:p%40ss%20word%3Ax@proxy:3128"}
    assert proxy.authorization == parse_proxy(proxy.url).authorization


def test_what_may_be_a_password_is_not_shown_by_the_error() -> None:
    with pytest.raises(ValueError, match="is no address") as error:
        parse_proxy("http://user:secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["http://proxy:0", "socks5://proxy:1080", "https://proxy", "http://", "http://[::1", "http://p:99999"]
)
def test_what_is_no_proxy_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is "):
        parse_proxy(text)
    assert "send.proxy.http" in problems(flags={"--set": [f"send.proxy.http={text}"]})


@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_both_spellings_of_the_variables_are_read(change: type[str]) -> None:
    variables = {change("http_proxy"): "a:1", change("https_proxy"): "b:2", change("no_proxy"): "x, .y  10.0.0.0/8"}
    settings = loaded(environment=variables).settings
    for section in (settings.feed.proxy, settings.send.proxy):
        assert (section.http, section.https) == ("a:1", "b:2")
        assert section.none_for == ("x", ".y", "10.0.0.0/8")


def test_a_kind_of_proxy_that_is_not_spoken_is_left_out_and_said() -> None:
    found = loaded(environment={"ALL_PROXY": "socks5://proxy:1080"})
    assert found.settings.send.proxy.http == ""
    assert any("socks5" in note for note in found.notes)
