"""The address that records go to: what an operator wrote in, host, port, path and TLS out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from otelbridge.send.settings import SendSettings

DEFAULT_GRPC_ENDPOINT = "http://localhost:4317"
DEFAULT_HTTP_ENDPOINT = "http://localhost:4318/v1/logs"
DEFAULT_PORTS = {"grpc": 4317, "http": 80, "https": 443}


class SendSettingsError(ValueError):
    """A setting of the send room cannot work. Names the setting, its value (never a secret one) and the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect to."""

    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    path: str
    tls: bool

    @property
    def authority(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """For people: without credentials or query, which may be secrets."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path.partition('?')[0]}"

    @property
    def loopback(self) -> bool:
        """Whether it is this very machine, by its address or as `localhost`."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def grpc_target(settings: SendSettings) -> Target:
    """`http(s)://host:port`, or `host:port`: then TLS, unless `insecure` is set. A scheme beats `insecure`.

    Raises:
        SendSettingsError: it is none of these.
    """
    given = settings.endpoint or DEFAULT_GRPC_ENDPOINT
    has_scheme = "://" in given
    scheme, host, port, path = _parts(given if has_scheme else f"//{given}")
    if has_scheme and scheme not in {"http", "https"}:
        raise _bad(given, f"the scheme {scheme!r} is not one of http and https")
    if path not in {"", "/"}:
        raise _bad(given, 'OTLP over gRPC has no path; leave it out, or set send.protocol to "http/protobuf"')
    tls = scheme == "https" if has_scheme else not settings.insecure
    return Target(host=host, port=port or DEFAULT_PORTS["grpc"], path="", tls=tls)


def http_target(settings: SendSettings) -> Target:
    """A full URL, used as it is.

    Raises:
        SendSettingsError: it is none.
    """
    given = settings.endpoint or DEFAULT_HTTP_ENDPOINT
    if not given.startswith(("http://", "https://")):
        raise _bad(given, "it needs to begin with http:// or https://", like=DEFAULT_HTTP_ENDPOINT)
    scheme, host, port, path = _parts(given)
    return Target(host=host, port=port or DEFAULT_PORTS[scheme], path=path or "/", tls=scheme == "https")


def _parts(url: str) -> tuple[str, str, int | None, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(url, str(error)) from None
    if parts.username is not None or parts.password is not None:
        raise SendSettingsError(
            "send.endpoint holds a user name or password; put credentials into send.headers_file or send.token_file"
        )
    if not parts.hostname or any(c.isspace() for c in url):
        raise _bad(url, "it names no host")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, parts.hostname, port, path


def _bad(given: str, why: str, *, like: str = DEFAULT_GRPC_ENDPOINT) -> SendSettingsError:
    shown = given.removeprefix("//").partition("?")[0]
    return SendSettingsError(f"send.endpoint is {shown!r}: {why}; write it like {like}")
