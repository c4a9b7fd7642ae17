"""Addresses and URLs as an operator writes them become the form that is dialled, or a sentence about what is wrong."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from otelbridge.feed.address import parse_address
from otelbridge.settings.hiding import has_userinfo

OTLP_GRPC_PORT = 4317
OTLP_HTTP_PORT = 4318
DEFAULT_ENDPOINTS = {
    "grpc": f"http://localhost:{OTLP_GRPC_PORT}",
    "http/protobuf": f"http://localhost:{OTLP_HTTP_PORT}",
}


class AddressError(ValueError):
    """An address that cannot be dialled: what is wrong with it, and the cure."""

    def __init__(self, wrong: str, cure: str) -> None:
        self.wrong = wrong
        self.cure = cure
        super().__init__(f"{wrong}. {cure}")


def kubearmor_address(text: str) -> str:
    """`host:port` of a relay or node; the port is KubeArmor's own where none is given, IPv6 comes out in brackets.

    Raises:
        AddressError: as `parse_address`.
    """
    try:
        return str(parse_address(text))
    except ValueError as error:
        wrong, _, cure = str(error).removeprefix(f"{text!r} ").partition(": ")
        raise AddressError(wrong, f"{cure[:1].upper()}{cure[1:]}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OTLP endpoint, taken apart."""

    scheme: str
    """`http`, `https`, or empty where the URL has none."""
    host: str
    port: int | None
    path: str


def otlp_endpoint(text: str, protocol: str) -> Endpoint:
    """Takes an endpoint apart and checks it.

    Raises:
        AddressError: the scheme is none of http and https (or missing, for HTTP), there is no host, or no port
            for gRPC.
    """
    default = DEFAULT_ENDPOINTS[protocol]
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in ("http", "https"):
        raise AddressError(f"has the scheme {scheme}", "Write http:// (plaintext) or https:// (TLS).")
    if not separator and protocol != "grpc":
        raise AddressError("has no scheme", f"Write http://{text} or https://{text}.")
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"is not a valid URL: {error}", f"Write, for example, {default}.") from None
    if not host:
        raise AddressError("has no host", f"Write, for example, {default}.")
    if has_userinfo(text if separator else f"//{text}"):
        raise AddressError("carries a user or password", "Use send.token_file or send.headers_file for credentials.")
    if protocol == "grpc":
        if port is None:
            shown = f"[{host}]" if ":" in host else host
            said = f"{scheme}{separator}{shown}" if separator else shown
            raise AddressError(
                "has no port", f"OTLP over gRPC usually listens on {OTLP_GRPC_PORT}: write {said}:{OTLP_GRPC_PORT}."
            )
        if parts.path not in ("", "/"):
            raise AddressError(
                f"has the path {parts.path}, but gRPC knows none", "Leave it out, or set the protocol to http/protobuf."
            )
    return Endpoint(scheme=scheme if separator else "", host=host, port=port, path=parts.path)


def is_loopback(host: str) -> bool:
    """Whether it is this very machine, by its address or as `localhost`: nobody on the network can listen."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_plaintext(endpoint: str, *, insecure: bool | None) -> bool:
    """Whether what is sent there is not encrypted: the scheme decides, without one `insecure` does."""
    if "://" in endpoint:
        return endpoint.startswith("http://")
    return insecure is True
