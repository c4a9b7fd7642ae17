"""A genuine ClickHouse engine that takes inserts and answers SQL over HTTP."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports

PEERS = ROOT / "build" / "peers"
SERVER = Path(__file__).with_name("clickhouse_server.py")
QUERY_SECONDS = 60


class ClickHouse:
    """One that runs."""

    def __init__(self, process: PeerProcess, *, url: str) -> None:
        self.process, self._url = process, url

    @property
    def endpoint(self) -> str:
        """For the Collector's exporter."""
        return f"{self._url}?compress=none"

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows that a query returns.

        Raises:
            urllib.error.HTTPError: the engine refuses the query.
        """
        url = f"{self._url}/?default_format=JSONEachRow"
        with urllib.request.urlopen(url, sql.encode(), timeout=QUERY_SECONDS) as answer:
            return [json.loads(line) for line in answer]


@contextmanager
def start_clickhouse(folder: Path) -> Iterator[ClickHouse]:
    """A running ClickHouse, ended with the context; the test ends here when it is not installed."""
    required(PEERS / "chdb" / "_chdb.abi3.so", name="the genuine ClickHouse (chdb)", cure="make peers")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = PeerProcess(
        [sys.executable, str(SERVER), str(port), str(folder / "clickhouse")],
        output=folder / "clickhouse.log",
        is_up=lambda: answers_ok(f"{url}/ping"),
        env={**os.environ, "PYTHONPATH": str(PEERS)},
    )
    process.start()
    try:
        yield ClickHouse(process, url=url)
    finally:
        process.kill()
