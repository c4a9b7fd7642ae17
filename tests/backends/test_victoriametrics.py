"""A genuine VictoriaMetrics, told by OTLP, calls every metric and label as `/metrics` does."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from otelbridge.status.components import INSTRUMENTS
from tests.deploy.exported import exported, use
from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports
from tests.waiting import eventually

pytestmark = pytest.mark.backends

BINARY = ROOT / "build" / "victoriametrics"
QUERY_SECONDS = 30
OF_THE_SCOPE = frozenset({"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"})


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of one that runs, with the flag that docs/wiring.md names."""
    binary = required(BINARY, name="the genuine VictoriaMetrics", cure="tests/peers/build victoriametrics")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [
        str(binary),
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={tmp_path / 'victoriametrics'}",
        "-opentelemetry.usePrometheusNaming",
        "-memory.allowedBytes=256MiB",
    ]
    process = PeerProcess(argv, output=tmp_path / "victoriametrics.log", is_up=lambda: answers_ok(f"{url}/health"))
    process.start()
    yield url
    process.stop()


def stored(url: str) -> dict[str, set[str]]:
    """Series name to label names."""
    query = urllib.parse.urlencode({"match[]": '{__name__=~"otelbridge.*|process.*"}'})
    urllib.request.urlopen(f"{url}/internal/force_flush", timeout=QUERY_SECONDS).close()
    with urllib.request.urlopen(f"{url}/api/v1/series?{query}", timeout=QUERY_SECONDS) as answer:
        found: dict[str, set[str]] = {}
        for labels in json.load(answer)["data"]:
            found.setdefault(labels.pop("__name__"), set()).update(labels)
        return found


def test_every_metric_and_label_has_the_same_name_as_on_metrics(url: str) -> None:
    exporter = OTLPMetricExporter(endpoint=f"{url}/opentelemetry/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    for instrument in INSTRUMENTS.values():
        use(provider, instrument)
    provider.shutdown()
    expected = exported()
    eventually(lambda: set(stored(url)) == set(expected), within_seconds=30, why="every series is there")
    found = stored(url)
    missing = {name: labels - found[name] - OF_THE_SCOPE for name, labels in expected.items()}
    assert {name: labels for name, labels in missing.items() if labels} == {}
