"""A genuine VictoriaLogs: it takes log records by OTLP over HTTP and answers LogsQL."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports

BINARY = ROOT / "build" / "victorialogs"
QUERY_SECONDS = 60
RETENTION = "100y"
"""Its default, a week, would refuse every recorded event."""


class VictoriaLogs:
    """One that runs."""

    def __init__(self, process: PeerProcess, *, url: str) -> None:
        self.process, self.url = process, url

    @property
    def otlp_endpoint(self) -> str:
        """For log records over OTLP/HTTP, used as it is."""
        return f"{self.url}/insert/opentelemetry/v1/logs"

    def query(self, logsql: str) -> list[dict[str, str]]:
        """The records that a query finds, or the rows that its pipes make; all values are texts.

        Raises:
            urllib.error.HTTPError: it refuses the query.
        """
        body = urllib.parse.urlencode({"query": logsql}).encode()
        with urllib.request.urlopen(f"{self.url}/select/logsql/query", body, timeout=QUERY_SECONDS) as answer:
            return [json.loads(line) for line in answer]

    def count(self) -> int:
        """How many records it has."""
        return sum(int(row["records"]) for row in self.query("* | stats count() as records"))

    def flush(self) -> None:
        """Makes all that it has taken findable."""
        urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=QUERY_SECONDS).close()

    def streams(self) -> set[str]:
        """The streams that it keeps records in."""
        return {row["_stream"] for row in self.query("* | uniq by (_stream)")}


@contextmanager
def start_victorialogs(folder: Path) -> Iterator[VictoriaLogs]:
    """A running VictoriaLogs, ended with the context; the test ends here when it was not built."""
    binary = required(BINARY, name="the genuine VictoriaLogs", cure="tests/peers/build victorialogs")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [
        str(binary),
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder / 'victorialogs'}",
        f"-retentionPeriod={RETENTION}",
        "-memory.allowedBytes=256MiB",
    ]
    process = PeerProcess(argv, output=folder / "victorialogs.log", is_up=lambda: answers_ok(f"{url}/health"))
    process.start()
    try:
        yield VictoriaLogs(process, url=url)
    finally:
        process.stop()
