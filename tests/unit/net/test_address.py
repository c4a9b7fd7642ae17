from __future__ import annotations

import pytest

from otelbridge.net.address import AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("kubearmor", "kubearmor:32767", "dns:///kubearmor:32767"),
        ("kubearmor.kubearmor.svc:1234", "kubearmor.kubearmor.svc:1234", "dns:///kubearmor.kubearmor.svc:1234"),
        ("kubearmor.kubearmor.svc.cluster.local.", "kubearmor.kubearmor.svc.cluster.local.:32767", None),
        ("10.0.0.7", "10.0.0.7:32767", "ipv4:10.0.0.7:32767"),
        ("10.0.0.7:99", "10.0.0.7:99", "ipv4:10.0.0.7:99"),
        ("[fd00::1]:99", "[fd00::1]:99", "ipv6:[fd00::1]:99"),
        ("[fd00::1]", "[fd00::1]:32767", "ipv6:[fd00::1]:32767"),
        ("fd00::1", "[fd00::1]:32767", "ipv6:[fd00::1]:32767"),
        ("FD00:0:0::1", "[fd00::1]:32767", "ipv6:[fd00::1]:32767"),
        ("fd00::1:32767", "[fd00::1]:32767", "ipv6:[fd00::1]:32767"),
        ("fd00:1:2:3:4:5:6:7:99", "[fd00:1:2:3:4:5:6:7]:99", None),
        ("fd00::1:99", "[fd00::1:99]:32767", None),  # an address of its own
        ("  relay:1 ", "relay:1", "dns:///relay:1"),
    ],
)
def test_every_way_of_writing_an_address_is_understood(text: str, shown: str, target: str | None) -> None:
    address = parse_address(text)
    assert str(address) == shown
    assert target is None or address.target == target


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("", "names no host"),
        (":32767", "names no host"),
        ("http://kubearmor:32767", "is a URL"),
        ("kubearmor:", "a number from 1 to 65535"),
        ("kubearmor:grpc", "a number from 1 to 65535"),
        ("kubearmor:0", "a number from 1 to 65535"),
        ("kubearmor:65536", "a number from 1 to 65535"),
        ("kubearmor:\u0663", "a number from 1 to 65535"),
        ("kubearmor:" + "9" * 5_000, "a number from 1 to 65535"),
        ("[fd00::1", "not an IPv6 address in brackets"),
        ("[kubearmor]:1", "not an IPv6 address in brackets"),
        ("[fd00::1]1", "not an IPv6 address in brackets"),
        ("a:b:c", "neither a host with a port nor an IPv6 address"),
        ("fd00::1:65536", "a number from 1 to 65535"),
        ("kube armor", "characters that no host name has"),
        ("unix:/run/x.sock", "a number from 1 to 65535"),
        ("-relay", "characters that no host name has"),
    ],
)
def test_what_is_no_address_is_named_with_its_cure(text: str, cure: str) -> None:
    with pytest.raises(AddressError) as failure:
        parse_address(text)
    assert cure.lower() in str(failure.value).lower()
