"""Every query of every panel is answered with data by genuine Prometheus, scraping or told by OTLP, after incidents."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import grpc
import pytest

from k8s.dashboards.generate import DASHBOARDS
from otelbridge.event import Stream
from otelbridge.pb.kubearmor_pb2 import Alert
from otelbridge.simulator.endpoint_answers import Ok, Partial, Status
from tests.deploy.dashboard_queries import queries
from tests.deploy.incident import INCIDENTS, Scene, stage
from tests.oracle import Publisher
from tests.waiting import eventually

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(240)]

RANGE_SECONDS = 600
"""Longer than the incident: all that was counted was counted within it."""
SCRAPED_TWICE_SECONDS = 2
ANSWER_SECONDS = 60
UPSTREAM = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)

KINDS = (
    Alert(NamespaceName="shop", PolicyName="no-shell", Action="Block", Result="Permission denied", Operation="Process"),
    Alert(NamespaceName="shop", PolicyName="no-shell", Action="Audit (Block)", Result="Passed", Operation="Process"),
    Alert(NamespaceName="bank", PolicyName="watch", Action="Audit", Result="Passed", Operation="File"),
    Alert(NamespaceName="noise", Action="Audit", Result="Passed", Operation="File"),
    Alert(NamespaceName="bank", Action="Audit", Result="Passed", Operation="Process", Resource="x --password hunter2"),
)
"""What the panels tell apart: denied, allowed though it should not be, filtered, redacted."""
FLOOD = 200
NEVER_LIVE = {"Faults of the bridge", "Lost by a road"}
"""Panels of what nothing from outside brings about, which is the point of them; and of what needs a second relay."""
NOT_UTF8 = Alert(NamespaceName="bank", Resource="QQ").SerializeToString().replace(b"QQ", b"\xff\xfe")
NOT_PROTOBUF = b"\xff\xff\xff"


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene in which everything has gone wrong twice: a counter's first count is no growth to Prometheus."""
    with stage(
        tmp_path_factory.mktemp("dashboards"),
        feed={"heartbeat": {"interval_seconds": 0.5, "timeout_seconds": 0.5}},
        gate={
            "rules": [{"name": "noise", "action": "drop", "namespace": ["noise"]}],
            "redact_common_secrets": True,
            "flood": {"rate_per_second": 10, "burst": 50},
        },
        mapping={"process_traces": True, "process_quiet_seconds": 1},
        queue={"retain_seconds": 60},
        telemetry={"alert_policies": True, "coverage": True},
    ) as scene:
        for _ in range(2):
            scene.bridge.wait_until_watching()
            scene.relay.wait_for_subscribers(1)
            everything_goes_wrong(scene)
        yield scene


def everything_goes_wrong(scene: Scene) -> None:
    publish(scene)
    for _ in range(FLOOD):
        scene.relay.publish(Stream.ALERTS, KINDS[0])
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT):
        scene.endpoint.answers = lambda _, code=code: Status(code=code)  # type: ignore[misc]
        wait(scene, f'sum(otelbridge_delivery_requests_total{{error_type="{code.name}"}})', at_least=1)
    scene.endpoint.answers = lambda _: Partial(rejected=1)
    publish(scene)
    wait(scene, 'otelbridge_delivery_requests_total{otelbridge_delivery_outcome="partial"}', at_least=1)
    scene.endpoint.answers = lambda _: Ok()
    with INCIDENTS["OtelbridgeThrottledByKubeArmor"](scene):
        wait(scene, "sum(otelbridge_throttle_activations_total)", at_least=1)
    dropped = "sum(otelbridge_event_dropped_total) or vector(0)"
    before = value(scene, dropped)
    with INCIDENTS["OtelbridgeRecordsDropped"](scene) as fill:
        wait(scene, dropped, at_least=before + 1, meanwhile=fill)
    scene.relay.freeze()
    eventually(lambda: scene.bridge.status()["subscriptions"][0]["state"] != "watching", within_seconds=20)
    scene.relay.thaw()
    scene.bridge.wait_until_watching()
    scene.relay.wait_for_subscribers(1)
    scene.relay.end_streams(grpc.StatusCode.UNAVAILABLE, "for the test")
    # Two scrapes must see the counts as they are now.
    wait(scene, "timestamp(otelbridge_queue_limit_bytes)", at_least=time.time() + SCRAPED_TWICE_SECONDS)


def publish(scene: Scene) -> None:
    Publisher(scene.relay, per_second=500, streams=UPSTREAM).publish(100)
    for kind in KINDS:
        now = datetime.now(UTC)
        alert = Alert(HostName="node", Timestamp=int(now.timestamp()), UpdatedTime=f"{now:%Y-%m-%dT%H:%M:%S.%fZ}")
        alert.MergeFrom(kind)
        scene.relay.publish(Stream.ALERTS, alert)
    for body in (NOT_UTF8, NOT_PROTOBUF):
        scene.relay.publish(Stream.ALERTS, body)


def value(scene: Scene, query: str) -> float:
    """The least of what those who look on say."""
    found = [prometheus.query(query) for prometheus in scene.prometheus.values()]
    return min(float(series[0]["value"][1]) if series else 0.0 for series in found)


def wait(scene: Scene, query: str, *, at_least: float, meanwhile: Callable[[], object] | None = None) -> None:
    def there() -> bool:
        (meanwhile or (lambda: None))()
        return value(scene, query) >= at_least

    eventually(there, within_seconds=ANSWER_SECONDS, why=f"{query} >= {at_least}")


@pytest.mark.parametrize("way", ["scraping", "receiving"])
@pytest.mark.parametrize(
    ("panel", "query"),
    [
        pytest.param(panel.title, query, id=f"{panel.title}-{place}")
        for (panel, place), query in zip(
            [(panel, place) for one in DASHBOARDS for panel in one.panels() for place in range(len(panel.queries))],
            queries(range_seconds=RANGE_SECONDS),
            strict=True,
        )
    ],
)
def test_a_panels_query_returns_data(aftermath: Scene, panel: str, query: str, way: str) -> None:
    def numbers() -> list[float]:
        publish(aftermath)
        found = aftermath.prometheus[way].query(query)
        return [number for series in found if math.isfinite(number := float(series["value"][1]))]

    if panel in NEVER_LIVE:
        assert aftermath.prometheus[way].query(query) == []
    else:
        eventually(numbers, within_seconds=ANSWER_SECONDS, why=f"{panel} shows nothing: {query}")


def test_series_and_labels_are_called_alike_in_both_ways(aftermath: Scene) -> None:
    scraped, received = (aftermath.prometheus[way].series() for way in ("scraping", "receiving"))
    of_the_way = {"target_info"} | {name for name in scraped if name == "up" or name.startswith("scrape_")}
    assert {name: labels for name, labels in scraped.items() if name not in of_the_way} == {
        name: labels for name, labels in received.items() if name not in of_the_way
    }


def test_the_bridge_is_told_apart_as_the_wiring_page_says(aftermath: Scene) -> None:
    found = {way: one.query("otelbridge_queue_limit_bytes")[0]["metric"] for way, one in aftermath.prometheus.items()}
    assert {way: labels["job"] for way, labels in found.items()} == dict.fromkeys(found, "otelbridge")
    assert found["scraping"]["instance"] == f"127.0.0.1:{aftermath.bridge.status_port}"
    target = aftermath.prometheus["receiving"].query("target_info")[0]["metric"]
    assert found["receiving"]["instance"] == target["instance"]
