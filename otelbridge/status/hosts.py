"""A Host header goes in, whether the page may be answered comes out: the defence against DNS rebinding.

A web page can make a browser resolve its own name to 127.0.0.1 and then read whatever answers there; its requests carry
its name. So names are answered only when the operator listed them; addresses and `localhost` cannot be rebound.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection


def is_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header names an address, `localhost`, or one of the allowed names (case and port aside)."""
    name = _without_port(host.strip().lower())
    if name in {"localhost", *(_without_port(entry.strip().lower()) for entry in allowed)}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and ":" not in name and port.isdigit() else host
