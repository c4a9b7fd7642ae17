"""The OTLP endpoint as a process: prints where it listens as one JSON line, and runs until it is told to stop."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Protocol

from otelbridge.simulator.endpoint import MIB, OtlpEndpoint
from otelbridge.simulator.endpoint_inbox import Counts

DEFAULT_MAX_REQUEST_BYTES = 64 * MIB
"""What the OTLP specification recommends to servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What `serve_endpoint` is told."""

    host: str = "127.0.0.1"
    grpc_port: int = 0
    http_port: int = 0
    keep: bool = False
    """Keep what arrives in memory; by default it is only counted."""
    token: str = ""
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES


class Until(Protocol):
    """A threading.Event will do."""

    def wait(self) -> object:
        """Returns when the endpoint shall stop."""
        ...


def serve_endpoint(options: EndpointOptions, until: Until) -> Counts:
    """Listens, prints `{"grpc": URL, "http": URL}` on stdout, waits, stops, and returns what was taken."""
    with OtlpEndpoint(
        options.grpc_port,
        options.http_port,
        host=options.host,
        keep=options.keep,
        token=options.token,
        max_request_bytes=options.max_request_bytes,
    ) as endpoint:
        line = json.dumps({"grpc": endpoint.grpc_endpoint, "http": endpoint.http_endpoint})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        until.wait()
        return endpoint.counts()


def main() -> None:
    """Runs until SIGTERM or SIGINT as `python -m`; then prints the counts as a second JSON line."""
    parser = argparse.ArgumentParser(description="Run an OTLP endpoint that only counts what it takes.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    asked = parser.parse_args()
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    counts = serve_endpoint(
        EndpointOptions(host=asked.host, grpc_port=asked.grpc_port, http_port=asked.http_port), until
    )
    sys.stdout.write(json.dumps(asdict(counts)) + "\n")


if __name__ == "__main__":
    main()
