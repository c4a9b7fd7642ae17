"""Peers, sockets and lookups: the Data and Resource of Network and NetworkFirewall events in, attributes out.

The sources of every form are listed in KubeArmor's syscallParser.go, logUpdate.go, enforcer.go and
networkPolicyEnforcer; the relay appends ` remotehost=` to the Resource of tcp_ logs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping

from otelbridge.mapping.wire import Attribute

MAX_PORT = 65_535
MAX_PORT_DIGITS = 5
REMOTE_HOST = " remotehost="
_REMOTE_HOST = re.compile(r" remotehost=([^/ ]+)/([^/ ]*)/([^/ ]+)$")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")  # ipaddress takes ten times as long
_SUN_PATH = re.compile(r"(?s)(?:^|.* )sun_path=(.*)")
_TRANSPORTS = {"TCP": "tcp", "TCPV6": "tcp", "UDP": "udp", "UDPV6": "udp"}
_SOCKET_TRANSPORTS = {"SOCK_STREAM": "tcp", "SOCK_DGRAM": "udp"}
_INTERNET = frozenset({"AF_INET", "AF_INET6"})


def without_remote_host(resource: str) -> str:
    """The Resource as KubeArmor wrote it: two relays append different things, or nothing."""
    return resource.partition(REMOTE_HOST)[0]


def network_attributes(data: Mapping[str, str], resource: str) -> Iterator[Attribute]:
    """Attributes of a Network event.

    Args:
        data: the pairs of its Data.
        resource: its Resource, as it came.
    """
    remote = _REMOTE_HOST.search(resource) if REMOTE_HOST in resource else None
    if remote:
        yield "kubearmor.network.peer.kind", remote[1]
        yield "kubearmor.network.peer.namespace", remote[2]
        yield "kubearmor.network.peer.name", remote[3]
        resource = resource[: remote.start()]
    kernel_function = data.get("kfunc", "")
    if kernel_function.startswith("UDP_SEND") or data.get("lsm") == "SOCKET_SENDMSG":
        yield from _lookup(data, _pairs(resource))
    elif "kprobe" in data:
        yield from _connection(data["kprobe"], _pairs(resource))
    elif "sa_family=" in resource or "sun_path=" in resource:
        yield from _socket_address(data.get("syscall", ""), resource)
    else:
        yield from _socket(_pairs(resource))


def firewall_attributes(data: Mapping[str, str], resource: str) -> Iterator[Attribute]:
    """Attributes of a NetworkFirewall event, whose Resource is `INGRESS` or `EGRESS`."""
    if resource in {"INGRESS", "EGRESS"}:
        yield "kubearmor.network.direction", resource.lower()
    for side, prefix in (("source", "Source"), ("destination", "Destination")):
        yield f"{side}.address", data.get(f"{prefix}IP", "")
        yield from _port(f"{side}.port", data.get(f"{prefix}Port", ""))
    yield from _protocol(data.get("Protocol", ""))
    yield from _address_type(data.get("SourceIP", ""))
    yield "kubearmor.quota.level", data.get("QuotaLevel", "")
    yield "kubearmor.quota.limit", data.get("QuotaLimit", "")


def _lookup(data: Mapping[str, str], resource: Mapping[str, str]) -> Iterator[Attribute]:
    """A DNS query, seen on its way out (kfunc) or by a policy (lsm)."""
    yield "dns.question.name", data.get("domain", "")
    yield "kubearmor.dns.question.type", data.get("qtype", "")
    if "kfunc" in data:
        yield "network.peer.address", data.get("daddr", "")
        yield from _port("network.peer.port", resource.get("sin_port", ""))
        yield from _address_type(data.get("daddr", ""))
        yield "network.transport", "udp"
        yield "network.protocol.name", "dns"
        yield "kubearmor.network.direction", "egress"


def _connection(probe: str, resource: Mapping[str, str]) -> Iterator[Attribute]:
    """kprobes: the address is the peer's, but on accept the port is the local, listening one."""
    yield "network.peer.address", resource.get("remoteip", "")
    accepted = probe == "tcp_accept"
    yield from _port("network.local.port" if accepted else "network.peer.port", resource.get("port", ""))
    yield from _address_type(resource.get("remoteip", ""))
    yield from _protocol(resource.get("protocol", ""))
    if probe in {"tcp_accept", "tcp_connect"}:
        yield "kubearmor.network.direction", "ingress" if accepted else "egress"


def _socket_address(syscall: str, resource: str) -> Iterator[Attribute]:
    """connect, bind and accept: KubeArmor writes the parts of the address in random order."""
    end = "local" if syscall == "SYS_BIND" else "peer"
    path = _sun_path(resource)
    if path is not None:
        yield f"network.{end}.address", path
        yield "network.transport", "unix"
        yield "kubearmor.socket.domain", "AF_UNIX"
    else:
        pairs = _pairs(resource)
        address = pairs.get("sin_addr") or pairs.get("sin6_addr", "")
        yield f"network.{end}.address", address
        yield from _port(f"network.{end}.port", pairs.get("sin_port") or pairs.get("sin6_port", ""))
        yield from _address_type(address)
        yield "kubearmor.socket.domain", pairs.get("sa_family", "")
    if syscall in {"SYS_CONNECT", "SYS_ACCEPT", "SYS_ACCEPT4"}:
        yield "kubearmor.network.direction", "egress" if syscall == "SYS_CONNECT" else "ingress"


def _sun_path(resource: str) -> str | None:
    """The path of a Unix socket: it may hold blanks and anything else, so all that is not the family belongs to it."""
    for family in ("sa_family=AF_UNIX ", "sa_family=AF_LOCAL "):
        resource = resource.removeprefix(family)
        if resource.endswith(" " + family.rstrip()):
            resource = resource[: -len(family)]
    found = _SUN_PATH.fullmatch(resource) if resource.startswith("sun_path=") else None
    return found[1] if found else None


def _socket(resource: Mapping[str, str]) -> Iterator[Attribute]:
    """socket() and the BPF LSM's hooks: kinds, no address."""
    domain, kinds, protocol = (resource.get(key, "") for key in ("domain", "type", "protocol"))
    types = [kind for kind in kinds.split("|") if kind]
    yield "kubearmor.socket.domain", domain
    yield "kubearmor.socket.type", types
    yield "kubearmor.socket.protocol", protocol
    transport = _TRANSPORTS.get(protocol.upper(), "")
    if domain == "AF_UNIX":
        transport = "unix"
    elif not transport and domain in _INTERNET and protocol in {"", "0", "HOPOPT", "IP"}:
        transport = next((_SOCKET_TRANSPORTS[kind] for kind in types if kind in _SOCKET_TRANSPORTS), "")
    yield "network.transport", transport


def _protocol(protocol: str) -> Iterator[Attribute]:
    transport = _TRANSPORTS.get(protocol.upper(), "")
    yield "network.transport", transport
    yield "kubearmor.socket.protocol", "" if transport else protocol


def _port(key: str, text: str) -> Iterator[Attribute]:
    """0 means that there is none."""
    if len(text) <= MAX_PORT_DIGITS and text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT:
        yield key, int(text)


def _address_type(address: str) -> Iterator[Attribute]:
    """From the address, not from the socket's domain: IPv4 peers of AF_INET6 sockets print as dotted quads."""
    if _IPV4.fullmatch(address):
        yield "network.type", "ipv4"
    elif ":" in address:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return
        yield "network.type", "ipv6"


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in text.split(" "):
        key, equals, value = word.partition("=")
        if equals:
            pairs.setdefault(key, value)
    return pairs
