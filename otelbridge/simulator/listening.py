"""Says why nobody can listen on an address, which gRPC's servers do not tell."""

from __future__ import annotations

import socket


def why_not(address: str) -> str:
    """What the system says to a socket on `host:port` or `[host]:port`; empty where it has nothing against it."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return ""
