"""Parses the endpoint's address into host, port, path and TLS, or says what is wrong with it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from otelbridge.send.settings import SendSettings

OTLP_GRPC_PORT = 4317
OTLP_HTTP_PORT = 4318
LOGS_PATH = "/v1/logs"
DEFAULT_ENDPOINTS = {
    "grpc": f"http://localhost:{OTLP_GRPC_PORT}",
    "http/protobuf": f"http://localhost:{OTLP_HTTP_PORT}",
}
"""By protocol; a signal's path follows for HTTP."""
SCHEME_PORTS = {"http": 80, "https": 443}


class SendSettingsError(ValueError):
    """A setting of `send` cannot work. Names the setting, its value (never a secret one) and the cure."""


class AddressError(ValueError):
    """An address that cannot be dialled: what is wrong with it, and the cure."""

    def __init__(self, wrong: str, cure: str) -> None:
        self.wrong = wrong
        self.cure = cure
        super().__init__(f"{wrong}. {cure}")


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
        """Whether it is this very machine, by its address or as `localhost`: nobody on the network can listen."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def send_target(settings: SendSettings) -> Target:
    """Where the records go.

    Raises:
        SendSettingsError: as `parse_target`, naming the setting and its value.
    """
    protocol = settings.protocol
    given = settings.endpoint or DEFAULT_ENDPOINTS[protocol] + (LOGS_PATH if protocol != "grpc" else "")
    try:
        return parse_target(given, protocol, insecure=settings.insecure)
    except AddressError as error:
        # Neither a password nor a query is shown: both may be secrets.
        shown = "" if "@" in given else f" is {given.partition('?')[0]!r}, which"
        raise SendSettingsError(f"send.endpoint{shown} {error}") from None


def parse_target(text: str, protocol: str, *, insecure: bool | None) -> Target:
    """Takes an endpoint apart: a URL, or for gRPC also `host:port`; then it is TLS, unless `insecure` is set.

    Raises:
        AddressError: the scheme is none of http and https (or missing, for HTTP); there is no host; or no port, or a
            path, for gRPC.
    """
    default = DEFAULT_ENDPOINTS[protocol]
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in SCHEME_PORTS:
        raise AddressError(f"has the scheme {scheme}", "Write http:// (plaintext) or https:// (TLS).")
    if not separator and protocol != "grpc":
        raise AddressError("has no scheme", f"Write http://{text} or https://{text}.")
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"is not a valid URL: {error}", f"Write, for example, {default}.") from None
    if not host or any(character.isspace() for character in text):
        raise AddressError("has no host", f"Write, for example, {default}.")
    if "@" in parts.netloc:
        raise AddressError("carries a user or password", "Use send.token_file or send.headers_file for credentials.")
    tls = scheme == "https" if separator else not insecure
    if protocol != "grpc":
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(host=host, port=port or SCHEME_PORTS[scheme], path=path, tls=tls)
    if port is None:
        shown = f"[{host}]" if ":" in host else host
        said = f"{scheme}{separator}{shown}:{OTLP_GRPC_PORT}" if separator else f"{shown}:{OTLP_GRPC_PORT}"
        raise AddressError("has no port", f"OTLP over gRPC usually listens on {OTLP_GRPC_PORT}: write {said}.")
    if parts.path not in ("", "/"):
        raise AddressError(
            f"has the path {parts.path}, but gRPC knows none", "Leave it out, or set the protocol to http/protobuf."
        )
    return Target(host=host, port=port, path="", tls=tls)
