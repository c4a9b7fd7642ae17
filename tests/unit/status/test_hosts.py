from __future__ import annotations

import pytest

from otelbridge.status.app import is_allowed


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:32799", "10.1.2.3:80", "[::1]:32799", "[::1]", "localhost", "LOCALHOST:32799"]
)
def test_addresses_and_localhost_are_answered(host: str) -> None:
    assert is_allowed(host, ())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:32799", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]:1", ":80",
        "[::1%evil.com]", "[fe80::1%25evil]:80", "::1%evil.com", "[::1].evil.com", "[::1]x", "[::1", "[::1]:evil",
        "[1.2.3.4]", "localhost:\uff11", "[localhost]", "127.0.0.1:80:80",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    assert not is_allowed(host, ())


@pytest.mark.parametrize("host", ["bridge.example", "Bridge.Example:32799"])
def test_a_name_that_the_operator_listed_is_answered(host: str) -> None:
    assert is_allowed(host, ("bridge.example:32799",))
    assert not is_allowed("a." + host, ("bridge.example",))
