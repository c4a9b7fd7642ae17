"""The genuine Collector at its worst: it refuses, restarts, takes no more than 4 MiB, and sees the connection."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelbridge.simulator.endpoint import ReceivedLog
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, duplicates_share_their_uid, numbers_of
from tests.peers.bridge import Json, running_bridge
from tests.peers.collector import CollectorPorts, CollectorProcess, collector_binary, start_collector
from tests.peers.process import free_ports
from tests.waiting import eventually

pytestmark = pytest.mark.collector

MIB = 1024 * 1024
COLLECTOR_LIMIT_BYTES = 4 * MIB
ALWAYS_REFUSING: Json = {
    "processors": {"memory_limiter": {"check_interval": "100ms", "limit_mib": 1}},
    "service": {
        "pipelines": {"logs": {"receivers": ["otlp"], "processors": ["memory_limiter"], "exporters": ["file"]}}
    },
}
"""The limit is below what a Collector needs at rest."""
EXPECTED_METRICS = {
    "otelbridge.source.state",
    "otelbridge.source.connection.attempts",
    "otelbridge.source.recovery.time",
    "otelbridge.source.gaps",
    "otelbridge.source.gap.time",
    "otelbridge.ledger.records",
}
EAGER = {"retry_initial_seconds": 0.1, "retry_max_seconds": 0.5, "replay_rate_factor": 0}


@pytest.fixture
def ports() -> CollectorPorts:
    grpc, http, health = free_ports(3)
    return CollectorPorts(grpc=grpc, http=http, health=health)


def collector_in(folder: Path, ports: CollectorPorts, extra: Json | None = None) -> CollectorProcess:
    """One that does not run yet: who is started on the same ports later is the same Collector to a client."""
    folder.mkdir()
    return CollectorProcess(collector_binary(), folder, ports=ports, extra=extra or {})


def send_to(collector: CollectorProcess, protocol: str) -> Json:
    url = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint + "/v1/logs"
    return {"protocol": protocol, "endpoint": url, **EAGER}


def refuse(relay: Relay, folder: Path, ports: CollectorPorts, *, protocol: str, events: int) -> dict[str, object]:
    """A Collector whose memory_limiter refuses everything, and in its place one that has memory."""
    refusing = collector_in(folder / "refusing", ports, ALWAYS_REFUSING)
    cured = collector_in(folder / "cured", ports)
    try:
        refusing.process.start()
        with running_bridge(
            folder / "bridge", feed={"endpoints": [relay.endpoint]}, send=send_to(refusing, protocol)
        ) as bridge:
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=1_000)
            publisher.publish(events)
            eventually(lambda: "memory" in bridge.status()["delivery"][0]["why"], why="the Collector's reason is shown")
            eventually(lambda: bridge.held() == events, why="all of it is held")
            refusing.process.stop()
            cured.process.start()
            bridge.wait_until_delivered()
            dead_letters = bridge.status()["queue"]["dead_letters"]
            assert bridge.stop() == 0
    finally:
        refusing.process.stop()
        cured.process.stop()
    assert refusing.log_records() == []
    return arrivals(cured.log_records(), events) | {"dead_letters": dead_letters}


def restart_under_load(relay: Relay, folder: Path, *, times: int) -> dict[str, object]:
    """A Collector that is restarted so often while events come in."""
    with (
        start_collector(folder) as collector,
        running_bridge(
            folder / "bridge", feed={"endpoints": [relay.endpoint]}, send=send_to(collector, "grpc")
        ) as bridge,
    ):
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1_000)
        with publisher.going_on():
            for _ in range(times):
                collector.restart()
                taken = len(collector.log_records())
                eventually(lambda n=taken: len(collector.log_records()) > n, within_seconds=20)  # type: ignore[misc]
        relay.wait_until_sent()
        bridge.wait_until_delivered()
        assert bridge.stop() == 0
        records = collector.log_records()
    return arrivals(records, len(publisher.published)) | {
        "restarts": times,
        "duplicates_share_their_uid": duplicates_share_their_uid(records),
    }


def split(relay: Relay, folder: Path, ports: CollectorPorts, *, backlog_bytes: int) -> dict[str, object]:
    """Requests of up to 16 MiB from a backlog, to a Collector that takes 4."""
    collector = collector_in(folder / "collector", ports)
    send = {**send_to(collector, "grpc"), "max_request_bytes": 16 * MIB, "max_request_records": 100_000}
    try:
        with running_bridge(folder / "bridge", feed={"endpoints": [relay.endpoint]}, send=send) as bridge:
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=2_500, remember=True)
            while sum(map(len, publisher.sent)) < backlog_bytes:  # what is held is compressed, and says less
                publisher.publish(1_000)
            collector.process.start()
            bridge.wait_until_delivered()
            said = "larger than max" in bridge.process.output()
            dead_letters = bridge.status()["queue"]["dead_letters"]
            assert bridge.stop() == 0
    finally:
        collector.process.stop()
    found = arrivals(collector.log_records(), len(publisher.published))
    return found | {"dead_letters": dead_letters, "a_request_was_too_large": said}


def arrivals(records: list[ReceivedLog], published: int) -> dict[str, object]:
    """What arrived of so many."""
    found = numbers_of(records)
    return {
        "published": published,
        "lost": len(set(range(published)) - set(found)),
        "duplicates": sum(found.values()) - len(found),
    }


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_short_of_memory_is_asked_again_until_it_takes_everything(
    relay: Relay, tmp_path: Path, ports: CollectorPorts, protocol: str
) -> None:
    found = refuse(relay, tmp_path, ports, protocol=protocol, events=500)
    assert found == {"published": 500, "lost": 0, "duplicates": 0, "dead_letters": 0}


def test_a_collector_that_restarts_under_load_costs_nothing(relay: Relay, tmp_path: Path) -> None:
    found = restart_under_load(relay, tmp_path, times=2)
    assert found["lost"] == 0
    assert found["duplicates_share_their_uid"]


def test_requests_above_the_collectors_limit_are_split_until_they_fit(
    relay: Relay, tmp_path: Path, ports: CollectorPorts
) -> None:
    found = split(relay, tmp_path, ports, backlog_bytes=2 * COLLECTOR_LIMIT_BYTES)
    assert (found["lost"], found["duplicates"], found["dead_letters"]) == (0, 0, 0)
    assert found["a_request_was_too_large"]


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The JSON documents that the file exporter has written so far, one a line."""
    if file.exists():
        yield from (
            json.loads(line) for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if "\n" in line
        )


def spans_in(file: Path) -> list[dict[str, Any]]:
    return [
        span
        for document in lines_of(file)
        for per_resource in document["resourceSpans"]
        for per_scope in per_resource["scopeSpans"]
        for span in per_scope["spans"]
    ]


def metric_names_in(file: Path) -> set[str]:
    return {
        metric["name"]
        for document in lines_of(file)
        for per_resource in document["resourceMetrics"]
        for per_scope in per_resource["scopeMetrics"]
        for metric in per_scope["metrics"]
    }


def test_a_connection_lost_and_regained_is_seen_by_the_collector_as_spans_and_metrics(
    relay: Relay, tmp_path: Path
) -> None:
    traces, metrics = tmp_path / "traces.json", tmp_path / "metrics.json"
    at_once = {"rotation": {"max_megabytes": 100_000}}
    extra: Json = {
        "exporters": {
            "file/traces": {"path": str(traces), **at_once},
            "file/metrics": {"path": str(metrics), **at_once},
        },
        "service": {
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["file/traces"]},
                "metrics": {"receivers": ["otlp"], "exporters": ["file/metrics"]},
            }
        },
    }
    with (
        start_collector(tmp_path, extra=extra) as collector,
        running_bridge(
            tmp_path / "bridge",
            feed={"endpoints": [relay.endpoint], "retry": {"initial_seconds": 0.2}},
            send=send_to(collector, "grpc"),
            telemetry={"disabled": False, "metrics_interval_seconds": 1},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        relay.kill()
        eventually(bridge.has_failed_to_connect, why="an attempt fails")
        relay.start()
        bridge.wait_until_watching()
        eventually(lambda: metric_names_in(metrics) >= EXPECTED_METRICS, why="the gap is measured")
        assert bridge.stop() == 0
        spans = spans_in(traces)
    names = Counter(span["name"] for span in spans)
    assert names["otelbridge.connect"] >= 3, "the first attempt, one that failed, the last"
    assert names["otelbridge.connection"] >= 2
    assert {"feeder.LogService/WatchAlerts", "feeder.LogService/HealthCheck"} <= set(names)
    attempts = sorted((s for s in spans if s["name"] == "otelbridge.connect"), key=lambda s: s["startTimeUnixNano"])
    for before, after in itertools.pairwise(attempts):
        assert [link["spanId"] for link in after["links"]] == [before["spanId"]], "each attempt links to the one before"
    assert any(span["status"].get("code") == 2 for span in attempts), "the failed attempt is an error"
