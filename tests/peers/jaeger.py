"""A genuine Jaeger, all in one process: it takes spans by OTLP, keeps them in memory, and answers queries."""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports

BINARY = ROOT / "build" / "jaeger"
QUERY_SECONDS = 10
PORTS = (
    "collector.otlp.grpc",
    "query.http-server",
    "query.grpc-server",
    "admin.http",
    "collector.otlp.http",
    "collector.grpc-server",
    "collector.http-server",
)
"""Everything that it would listen on at ports of its own choice."""


class Jaeger:
    """One that runs."""

    def __init__(self, *, otlp_endpoint: str, query_url: str) -> None:
        self.otlp_endpoint = otlp_endpoint
        """For spans over gRPC, `http://host:port`."""
        self._query_url = query_url

    def services(self) -> list[str]:
        """Names of the services that it has spans of."""
        return list(self._get("/api/services") or ())

    def traces(self, service: str, operation: str) -> list[dict[str, Any]]:
        """The traces that have a span of that name, as its web page would get them."""
        query = urllib.parse.urlencode({"service": service, "operation": operation, "limit": 100})
        return list(self._get(f"/api/traces?{query}") or ())

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._query_url + path, timeout=QUERY_SECONDS) as answer:
            return json.load(answer)["data"]


@contextmanager
def start_jaeger(folder: Path) -> Iterator[Jaeger]:
    """A running Jaeger, ended with the context; the test ends here when it was not built."""
    binary = required(BINARY, name="the genuine Jaeger", cure="tests/peers/build jaeger")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    argv = [str(binary), *(f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items())]
    url = f"http://127.0.0.1:{ports['query.http-server']}"
    process = PeerProcess(
        argv,
        output=folder / "jaeger.log",
        is_up=lambda: answers_ok(f"{url}/api/services"),
        # Spans of its own would go to a port where nobody listens, and keep it from ending.
        env={**os.environ, "OTEL_TRACES_SAMPLER": "always_off"},
    )
    process.start()
    try:
        yield Jaeger(otlp_endpoint=f"http://127.0.0.1:{ports['collector.otlp.grpc']}", query_url=url)
    finally:
        process.stop()
