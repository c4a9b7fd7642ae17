"""Chooses the HTTP proxy for an address, and connects through it.

One decision for gRPC, HTTP and `doctor`: C-core by itself reads lower-case variables only, and knows neither `*` nor
`host:port` in NO_PROXY.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote, urlsplit

from otelbridge import clamp
from otelbridge.net.address import HIGHEST_PORT, authority, can_be_looked_up
from otelbridge.setting import section, setting

DEFAULT_PROXY_PORT = 80
MOST_ANSWER_BYTES = 16 * 1024
END_OF_HEADERS = b"\r\n\r\n"


@section
class ProxySettings:
    """HTTP proxies. By default what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, in capitals or not."""

    http: str = setting(default="", description="Proxy for plaintext connections, `http://[user:password@]host:port`.")
    https: str = setting(default="", description="Proxy for TLS connections; it only passes the bytes on.")
    none_for: tuple[str, ...] = setting(
        default=(),
        description="Reached without a proxy: `host`, `.domain`, `*.domain`, `host:port`, an address, a network, "
        "or `*`. This machine always is.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where a proxy listens, and what to log in to it with."""

    host: str
    port: int
    user: str = ""
    """`user:password`, percent-encoded as in the URL."""

    def __str__(self) -> str:
        return f"http://{authority(self.host, self.port)}"

    @property
    def url(self) -> str:
        """With the credentials, for who dials it."""
        # Some write their password as it is, and C-core would take an @ in it for the end of it.
        user = ":".join(quote(unquote(part), safe="") for part in self.user.split(":", 1))
        return f"http://{user}@{str(self).removeprefix('http://')}" if self.user else str(self)

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization; empty for none."""
        return f"Basic {base64.b64encode(unquote(self.user).encode()).decode()}" if self.user else ""


class ProxyRefusedError(OSError):
    """The proxy answered, but does not connect us."""


def parse_proxy(text: str) -> Proxy:
    """A proxy as an operator writes it: a URL, or `host:port`.

    Raises:
        ValueError: it is none, or of a kind that is not spoken; the text does not show what may be a password.
    """
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() != "http":
        raise ValueError(f"is a proxy of the kind {scheme}, which is not spoken here; http is")
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold a password
        host, port = None, None
    if not host or " " in host or port == 0 or not can_be_looked_up(host):
        raise ValueError("is no address of a proxy; write http://host:port, what is special in a password as %40")
    return Proxy(host=host, port=port or DEFAULT_PROXY_PORT, user=parts.netloc.rpartition("@")[0])


def proxy_for(host: str, port: int, settings: ProxySettings, *, tls: bool) -> Proxy | None:
    """The proxy that a connection goes through; None where it goes straight."""
    text = settings.https if tls else settings.http
    if not text or _is_this_machine(host) or any(_spares(pattern, host, port) for pattern in settings.none_for):
        return None
    return parse_proxy(text)


def grpc_options(proxy: Proxy | None) -> dict[str, str | int]:
    """The channel arguments that make C-core do as decided here, whatever its own variables say."""
    return {"grpc.enable_http_proxy": 0} if proxy is None else {"grpc.http_proxy": proxy.url}


def _is_this_machine(host: str) -> bool:
    if f".{host.lower().rstrip('.')}".endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is; None for a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _spares(pattern: str, host: str, port: int) -> bool:
    """Whether a pattern of NO_PROXY holds for an address, in any of the forms in use."""
    pattern, host = pattern.strip().lower().rpartition("://")[2].rstrip("/."), host.lower().rstrip(".")
    address = _address(host)
    try:
        if address is not None:
            return address in ipaddress.ip_network(_address(pattern) or pattern.strip("[]"), strict=False)
    except ValueError:
        pass  # a name
    name, colon, wanted = pattern.rpartition(":")
    number = clamp.whole_number(wanted, most=HIGHEST_PORT)
    if colon and number >= 0 and (":" not in name or name.endswith("]")):
        return number == port and _spares(name, host, port)
    domain = pattern.removeprefix("*").removeprefix(".")
    if domain and (host == domain or (address is None and host.endswith(f".{domain}"))):
        return True
    return "*" in pattern and fnmatchcase(host, pattern.replace("[", "[[]"))


def connect_through(proxy: Proxy, host: str, port: int, dial: Callable[[str, int], socket.socket]) -> socket.socket:
    """A connection to an address through the proxy (CONNECT).

    Args:
        proxy: which one.
        host: where to; the proxy looks the name up.
        port: where to.
        dial: connects to the proxy; its timeout stays on the socket, and is the whole answer's.

    Raises:
        ProxyRefusedError: the proxy answers with another status than 2xx.
        OSError: it cannot be reached, or breaks off.
    """
    connected = dial(proxy.host, proxy.port)
    try:
        _ask_to_connect(proxy, connected, authority(host, port))
    except BaseException:
        connected.close()
        raise
    return connected


def _ask_to_connect(proxy: Proxy, connected: socket.socket, there: str) -> None:
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    timeout = connected.gettimeout()
    until = None if timeout is None else time.monotonic() + timeout
    connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    while END_OF_HEADERS not in answer:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the proxy {proxy} does not answer in time")
            connected.settimeout(left)
        more = connected.recv(1)  # not a byte beyond the headers: what follows is the other end's
        answer += more
        if not more or len(answer) > MOST_ANSWER_BYTES:
            raise ProxyRefusedError(f"the proxy {proxy} breaks off instead of connecting to {there}")
    status = answer.partition(b"\r\n")[0].decode("latin-1")
    if not status.partition(" ")[2].startswith("2"):
        raise ProxyRefusedError(f"the proxy {proxy} does not connect to {there}: {status}")
    connected.settimeout(timeout)
