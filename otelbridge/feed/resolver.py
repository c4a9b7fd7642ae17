"""A host name, in; the IP addresses behind it, out. Passed into the feed, so that a test can be the DNS."""

from __future__ import annotations

import socket
from collections.abc import Callable

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
