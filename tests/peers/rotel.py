"""rotel, an OTLP collector written in Rust: takes OTLP and forwards it to an endpoint of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, accepts, free_ports

AGENT = ROOT / "build" / "peers" / "rotel" / "rotel-agent"
"""Where `make peers` installs the package that the binary comes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotelProcess:
    """A rotel that runs, and where it takes OTLP."""

    process: PeerProcess
    grpc_endpoint: str
    http_endpoint: str


@contextmanager
def start_rotel(folder: Path, *, forward_to: str, arguments: Sequence[str] = ()) -> Iterator[RotelProcess]:
    """A running rotel, ended with the context; the test ends here when it is not installed.

    Args:
        folder: for its files; it must exist.
        forward_to: the OTLP/gRPC endpoint that takes what rotel took, `http://host:port`.
        arguments: added to its command line.
    """
    agent = required(AGENT, name="rotel", cure="make peers")
    grpc, http = free_ports(2)
    argv = [
        str(agent),
        "start",
        f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
        f"--otlp-http-endpoint=127.0.0.1:{http}",
        f"--pid-file={folder / 'rotel.pid'}",
        f"--log-file={folder / 'rotel-agent.log'}",
        "--exporter=otlp",
        "--otlp-exporter-protocol=grpc",
        f"--otlp-exporter-endpoint={forward_to}",
        *arguments,
    ]
    process = PeerProcess(argv, output=folder / "rotel.log", is_up=lambda: accepts(grpc) and accepts(http))
    process.start()
    try:
        yield RotelProcess(
            process=process, grpc_endpoint=f"http://127.0.0.1:{grpc}", http_endpoint=f"http://127.0.0.1:{http}"
        )
    finally:
        process.stop()
