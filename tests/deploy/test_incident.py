"""A live incident for each alert, under genuine Prometheus: it fires, scraped and by OTLP, and clears afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.incident import INCIDENTS, Scene, stage
from tests.deploy.rendering import ROOT
from tests.waiting import eventually

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(180)]

RULES = ROOT / "k8s" / "chart" / "files" / "prometheusrule" / "prometheusrule.yaml"
FIRING_SECONDS = 60

HASTE = (
    ("[15m]", "[10s]"),
    ("[30m]", "[10s]"),
    ("offset 15m", "offset 10s"),
    ("blind_time_seconds) > 120", "blind_time_seconds) > 2"),
    ("> 3600", "> 4"),
    ("< 900", "< 3"),
    ("oldest_age_seconds > 900", "oldest_age_seconds > 3"),
    ("> 15", "> 3"),
    ("> 60", "> 3"),
    ("[1d]", "[30s]"),
    ("offset 1d", "offset 30s"),
    ("[10m]", "[10s]"),
    ("offset 10m", "offset 10s"),
    ("/ 144", "/ 3"),
    ("[2h]", "[20s]"),
)
"""Minutes become seconds, so that an incident is over within one."""

NEVER_LIVE = {"OtelbridgeLedgerUnbalanced", "OtelbridgeSilentLongerThanUsual", "OtelbridgeRoadLoses"}
"""Nothing from outside brings the first about, which is the point of it; one takes days, one a second relay."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def hastened(rule: dict[str, Any]) -> dict[str, Any]:
    expression = rule["expr"]
    for slow, fast in HASTE:
        expression = expression.replace(slow, fast)
    return {"alert": rule["alert"], "expr": expression, "for": "1s", "labels": rule["labels"]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("incident")
    rule_file = folder / "rules.yaml"
    group = {"name": "hastened", "rules": [hastened(rule) for rule in rules()]}
    rule_file.write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    with stage(folder, rules=[rule_file]) as scene:
        yield scene


def test_every_alert_has_its_incident() -> None:
    assert set(INCIDENTS) | NEVER_LIVE == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("alert", INCIDENTS)
def test_the_incident_makes_its_alert_fire_and_its_end_clears_every_alert(scene: Scene, alert: str) -> None:
    scene.bridge.wait_until_watching()
    scene.relay.wait_for_subscribers(1)
    all_is_well(scene)
    with INCIDENTS[alert](scene) as poke:
        quiet = set(scene.prometheus)

        def fires() -> bool:
            poke()
            quiet.difference_update(way for way, active in alerts(scene).items() if active.get(alert) == "firing")
            return not quiet

        eventually(fires, within_seconds=FIRING_SECONDS, why=f"{alert} fires, {quiet} too")
        assert not NEVER_LIVE & {name for active in alerts(scene).values() for name in active}
    all_is_well(scene)


def alerts(scene: Scene) -> dict[str, dict[str, str]]:
    """What is active, for each way in which the metrics come."""
    return {way: prometheus.alerts() for way, prometheus in scene.prometheus.items()}


def all_is_well(scene: Scene) -> None:
    eventually(lambda: not any(alerts(scene).values()), within_seconds=FIRING_SECONDS, why="no alert is active")
