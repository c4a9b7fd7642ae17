"""Where an upstream listens: reads an address as an operator writes it, and resolves it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from otelbridge import clamp

DEFAULT_PORT = 32767
"""Where KubeArmor and its relay listen."""
HIGHEST_PORT = 65535

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z")

_FORMS = "Write `host`, `host:port`, `address:port` or `[IPv6 address]:port`."


class AddressError(ValueError):
    """An address that cannot be dialled: what is wrong with it, and the cure."""

    def __init__(self, wrong: str, cure: str) -> None:
        self.wrong = wrong
        self.cure = cure
        super().__init__(f"{wrong}. {cure}")


def authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one relay or node listens."""

    host: str
    """A DNS name or an IP address; an IPv6 address stands without its brackets."""
    port: int

    def __str__(self) -> str:
        return authority(self.host, self.port)

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, so that nothing is left to resolve."""
        return is_ip(self.host)

    @property
    def target(self) -> str:
        """The name that gRPC dials: schemes are spelled out, so that a host called `unix` cannot be taken for one."""
        version = _ip_version(self.host)
        return f"dns:///{self}" if version is None else f"ipv{version}:{self}"


def parse_address(text: str) -> Address:
    """Reads `host`, `host:port`, `[v6]:port`, `[v6]` or a bare IPv6 address; the port is 32767 where none is given.

    `v6:port` is read too where it can be nothing else (a port of five digits): a DaemonSet's `${env:HOST_IP}:32767`.

    Raises:
        AddressError: it is none of these.
    """
    value = text.strip()
    if "://" in value:
        raise AddressError("is a URL, but KubeArmor is dialled by host and port", _FORMS)
    host, port_text = _split(value)
    if not host:
        raise AddressError("names no host", _FORMS)
    if ":" in host and _ip_version(host) is not None:
        host = str(ipaddress.ip_address(host))  # one address, one spelling
    elif ":" in host:
        raise AddressError("is neither a host with a port nor an IPv6 address", _FORMS)
    if _ip_version(host) is None and not _HOST_NAME.match(host):
        raise AddressError("holds characters that no host name has", _FORMS)
    if not can_be_looked_up(host):
        raise AddressError(NO_NAME, CORRECT_NAME)
    if port_text is None:
        return Address(host=host, port=DEFAULT_PORT)
    if not 1 <= (port := clamp.whole_number(port_text, most=HIGHEST_PORT)) <= HIGHEST_PORT:
        raise AddressError(f"has the port {port_text!r}", f"Give a number from 1 to {HIGHEST_PORT}.")
    return Address(host=host, port=port)


def _split(value: str) -> tuple[str, str | None]:
    if value.startswith("["):
        host, closed, rest = value[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or _ip_version(host) != 6:  # noqa: PLR2004 the IP version
            raise AddressError("is not an IPv6 address in brackets", _FORMS)
        return host, rest[1:] if rest else None
    host, colon, port = value.rpartition(":")
    if not colon or _ip_version(value) is not None:
        return value, None
    if ":" in host and _ip_version(host) is None:
        return value, None
    return host, port


def is_ip(host: str) -> bool:
    """Whether a host is an IP address, without brackets, so that nothing is left to resolve."""
    return _ip_version(host) is not None


def _ip_version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


NO_NAME = "is no name of a host: a part between its dots is empty, or longer than 63 characters"
CORRECT_NAME = "Correct the name."


def can_be_looked_up(host: str) -> bool:
    """Whether a host is an address or of a name's form (RFC 1035); for others resolver and TLS raise UnicodeError."""
    if is_ip(host):
        return True
    try:
        name = (host if host.isascii() else host.encode("idna").decode()).removesuffix(".")
    except UnicodeError:
        return False
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))  # noqa: PLR2004


def check_server_name(name: str) -> None:
    """Checks the setting: the name that a certificate should have; empty for the host's own. Raises ValueError."""
    if name and not can_be_looked_up(name):
        raise ValueError(f"{NO_NAME}; {CORRECT_NAME.rstrip('.').lower()}")


def check_listening_host(host: str) -> None:
    """Checks the setting: an address of this machine, or a name of one. Raises ValueError."""
    if not is_ip(host) and not (_HOST_NAME.match(host) and can_be_looked_up(host)):
        raise ValueError("is neither an address nor a name; write 127.0.0.1, or `::` for every address")


Resolve = Callable[[str, int], tuple[str, ...]]
"""Raises OSError when the name has no address, or nobody can be asked. May block for as long as DNS does."""


def resolve_by_system(host: str, port: int) -> tuple[str, ...]:
    """The system's own resolver: /etc/hosts, DNS, whatever it is set up to ask. In its order, without repetition.

    Raises:
        OSError: the name does not resolve.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The scope of a link-local address (`%eth0`) is part of it.
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
