"""The address of a KubeArmor, as an operator writes it, becomes the form that is dialled."""

from __future__ import annotations

from otelbridge.feed.address import parse_address
from otelbridge.send.target import AddressError


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
