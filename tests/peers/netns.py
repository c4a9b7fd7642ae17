"""Two network namespaces joined by a cable that can be cut without a sound; all addresses exist inside them only."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER_ADDRESS = "198.51.100.1"
"""Of a range set aside for documentation: nobody's."""
CLIENT_ADDRESS = "198.51.100.2"
PREFIX_LENGTH = 30
COMMAND_SECONDS = 10

NAMESPACES = Path("/run/netns")
"""Where the ip command keeps the names of namespaces."""
CLONE_NEWNET = 0x4000_0000
"""Of linux/sched.h; os.setns is younger than our oldest Python."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPair:
    """A machine for the server, one for the client; a command runs on them with `on_server` or `on_client` in front."""

    server: str
    client: str

    @property
    def on_server(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.server)

    @property
    def on_client(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.client)

    def cut(self) -> None:
        """A black hole: nothing of the server reaches the client any more, no acknowledgement, no reset."""
        _ip("-n", self.server, "route", "add", "blackhole", f"{CLIENT_ADDRESS}/32")

    def route(self, network: str) -> None:
        """The client sends what goes to this network by way of the server, which forwards nothing and says nothing."""
        _ip("-n", self.client, "route", "add", network, "via", SERVER_ADDRESS)

    def mend(self) -> None:
        """Ends `cut`; the kernels send again what was not acknowledged."""
        _ip("-n", self.server, "route", "del", "blackhole", f"{CLIENT_ADDRESS}/32")


@contextmanager
def network_pair() -> Iterator[NetworkPair]:
    """Makes the pair, and removes it. Skips the test, with the reason, where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the ip command of iproute2")
    name = f"otelbridge-{os.getpid()}-{next(_numbers)}"
    pair = NetworkPair(server=f"{name}-server", client=f"{name}-client")
    try:
        try:
            _ip("netns", "add", pair.server)
            _ip("netns", "add", pair.client)
            _ip(
                "-n", pair.server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", pair.client
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        for namespace, address in ((pair.server, SERVER_ADDRESS), (pair.client, CLIENT_ADDRESS)):
            _ip("-n", namespace, "address", "add", f"{address}/{PREFIX_LENGTH}", "dev", "cable")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "link", "set", "cable", "up")
        yield pair
    finally:
        for namespace in (pair.server, pair.client):
            subprocess.run(("ip", "netns", "del", namespace), check=False, capture_output=True, timeout=COMMAND_SECONDS)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Moves the calling thread into a namespace: sockets that it makes and processes that it starts belong there.

    A socket stays in the namespace that it was made in, whoever uses it later.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as home, (NAMESPACES / namespace).open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(file: int) -> None:
    if _LIBC.setns(file, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS)
