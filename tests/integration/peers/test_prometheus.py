from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.peers.prometheus import start_prometheus
from tests.waiting import eventually

RULES = """
groups:
  - name: smoke
    rules:
      - alert: TheAnswerIsThere
        expr: smoke_answer == 42
"""


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"smoke_answer 42\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
        pass


@pytest.fixture
def target() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="smoke-metrics")
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_scraped_value_can_be_queried_and_raises_its_alert(tmp_path: Path, target: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    with start_prometheus(tmp_path, scrape=[target], rules=[rules]) as prometheus:
        found = eventually(lambda: prometheus.query("smoke_answer"), within_seconds=30, why="it was scraped")
        assert [series["value"][1] for series in found] == ["42"]
        assert set(prometheus.targets().values()) == {"up"}
        eventually(
            lambda: prometheus.alerts() == {"TheAnswerIsThere": "firing"}, within_seconds=30, why="the alert fires"
        )
