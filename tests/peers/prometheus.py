"""A genuine Prometheus 3: it scrapes what it is told to, takes metrics by OTLP, and answers queries and alerts."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports

QUERY_SECONDS = 10
BUILT = ROOT / "build"
TARGETS = "targets.json"
LOOKBACK = "5s"
"""For how long a series that is not heard of any more is still there; by default five minutes, too long for a test.
What was scraped ends with its target; this is for what came by OTLP."""


def promtool_binary() -> Path:
    """promtool; the test ends here when it was not built."""
    return required(BUILT / "promtool", name="promtool", cure="tests/peers/build promtool")


class PrometheusServer:
    """A Prometheus that runs, asked over its HTTP API."""

    def __init__(self, process: PeerProcess, *, folder: Path, url: str) -> None:
        self.process, self._folder, self.url = process, folder, url

    def scrape(self, *targets: str) -> None:
        """Scrapes these from now on, `host:port` each, and no others."""
        new = self._folder / f"{TARGETS}.new"
        new.write_text(json.dumps([{"targets": list(targets)}]), encoding="utf-8")
        new.rename(self._folder / TARGETS)

    @property
    def otlp_endpoint(self) -> str:
        """For metrics over OTLP/HTTP, used as it is."""
        return f"{self.url}/api/v1/otlp/v1/metrics"

    def series(self) -> dict[str, set[str]]:
        """The names of all series, and the labels that they have."""
        found: dict[str, set[str]] = {}
        for labels in self._get("/api/v1/series?" + urllib.parse.urlencode({"match[]": '{__name__=~".+"}'})):
            found.setdefault(labels.pop("__name__"), set()).update(labels)
        return found

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression: one {metric, value} for each series.

        Raises:
            urllib.error.HTTPError: Prometheus refuses the expression.
        """
        result: list[dict[str, Any]] = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))[
            "result"
        ]
        return result

    def alerts(self) -> dict[str, str]:
        """The alerts that are active, by name: `pending` or `firing`; firing where one name is both."""
        active = sorted(
            (alert["labels"]["alertname"], alert["state"]) for alert in self._get("/api/v1/alerts")["alerts"]
        )
        return dict(reversed(active))

    def targets(self) -> dict[str, str]:
        """The health (`up`, `down`, `unknown`) of each scrape address."""
        return {target["scrapeUrl"]: target["health"] for target in self._get("/api/v1/targets")["activeTargets"]}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=QUERY_SECONDS) as answer:
            return json.load(answer)["data"]


@contextmanager
def start_prometheus(
    folder: Path, *, scrape: Sequence[str] = (), rules: Sequence[Path] = (), interval: str = "1s"
) -> Iterator[PrometheusServer]:
    """A running Prometheus, ended with the context.

    Args:
        folder: for its files.
        scrape: `host:port` of each target; its /metrics is scraped.
        rules: files of alerting and recording rules.
        interval: between scrapes, and between evaluations of the rules.
    """
    binary = required(BUILT / "prometheus", name="the genuine Prometheus", cure="tests/peers/build prometheus")
    folder.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [{"job_name": "otelbridge", "file_sd_configs": [{"files": [str(folder / TARGETS)]}]}],
    }
    (folder / TARGETS).write_text(json.dumps([{"targets": list(scrape)}]), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    argv = [
        str(binary),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        f"--query.lookback-delta={LOOKBACK}",
    ]
    url = f"http://127.0.0.1:{port}"
    process = PeerProcess(argv, output=folder / "prometheus.log", is_up=lambda: answers_ok(f"{url}/-/ready"))
    process.start()
    try:
        yield PrometheusServer(process, folder=folder, url=url)
    finally:
        process.stop()
