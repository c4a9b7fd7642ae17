from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.dashboards.generate import DASHBOARDS, FOLDER, files
from k8s.dashboards.panels import Dashboard, Panel, dashboard_json
from k8s.dashboards.queries import prometheus_name
from otelbridge.status.components import INSTRUMENTS
from tests.deploy.dashboard_queries import queries
from tests.deploy.exported import exported
from tests.deploy.rendering import RENDERED, ROOT, documents
from tests.peers.prometheus import promtool_binary

WIDTH = 24
APPLY_BYTES = 262_144
"""kubectl apply writes the whole object into an annotation, which may not be larger."""

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
every_panel = pytest.mark.parametrize(
    "panel", [panel for one in DASHBOARDS for panel in one.panels()], ids=lambda panel: panel.title
)


def read(dashboard: Dashboard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{dashboard.uid}.json").read_text(encoding="utf-8"))
    return found


def anchors() -> list[str]:
    """The runbook's headings, as a Markdown renderer names them."""
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    return [
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ]


def test_the_committed_files_are_what_the_code_makes() -> None:
    for path, text in files().items():
        assert path.read_text(encoding="utf-8") == text, "stale: make k8s"
    assert set(FOLDER.glob("*.json")) == set(files()), "a file that no code makes"


def test_a_dashboards_address_never_changes() -> None:
    assert [one.uid for one in DASHBOARDS] == ["otelbridge-bridge", "otelbridge-kubearmor"]


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries(range_seconds=60))]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool_binary(), "check", "rules", "--lint=none", tmp_path / "rules.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_panel
def test_a_panel_asks_for_series_and_labels_that_the_bridge_has(panel: Panel) -> None:
    series = exported()
    for query in panel.queries:
        expr = re.sub(r'"[^"]*"', '""', query.expr)
        words = set(re.findall(r"\b(?:otelbridge|kubearmor|server|k8s|process|security|error|rpc)_\w+", expr))
        asked = words & set(series)
        assert asked, "it asks for nothing that the bridge exports"
        labels = set().union(*(series[name] for name in asked))
        assert words - asked <= labels, f"unknown: {words - asked - labels}"
        shown = set(re.findall(r"{{(\w+)}}", query.legend))
        kept = {label for found in re.findall(r"\bby \(([^)]*)\)", expr) for label in found.split(", ")}
        assert shown <= (kept or {"instance"}), "the legend names what the expression drops"


def test_every_metric_of_the_bridge_is_on_a_panel() -> None:
    text = "\n".join(query.expr for one in DASHBOARDS for panel in one.panels() for query in panel.queries)
    unseen = [
        i.name for i in INSTRUMENTS.values() if not re.search(rf"\b{prometheus_name(i)}(_bucket|_sum|_count)?{{", text)
    ]
    assert unseen == [], "a metric that nobody looks at"


@every_panel
def test_a_panel_explains_itself_and_links_to_its_section_of_the_runbook(panel: Panel) -> None:
    assert panel.meaning.endswith(".")
    assert panel.otherwise.endswith((".", "?"))
    assert anchors().count(panel.anchor) == 1
    for alert in re.findall(r"\bOtelbridge[A-Z]\w+", panel.otherwise):
        assert alert.lower() in anchors()


@every_dashboard
def test_panels_have_ids_and_places_of_their_own(dashboard: Dashboard) -> None:
    panels = read(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, f"{panel['title']} lies on another panel"
        taken |= cells


@every_dashboard
def test_everything_asks_the_prometheus_of_the_variable(dashboard: Dashboard) -> None:
    document = read(dashboard)
    assert {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"} in (
        document["templating"]["list"]
    )
    for panel in document["panels"]:
        if panel["type"] == "row":
            continue
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])


@every_dashboard
def test_the_variables_that_are_used_are_there(dashboard: Dashboard) -> None:
    text = json.dumps(read(dashboard))
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == {variable["name"] for variable in read(dashboard)["templating"]["list"]}


def test_dashboards_link_to_one_another() -> None:
    for one in DASHBOARDS:
        others = [other for other in DASHBOARDS if other is not one]
        links = dashboard_json(one, others=others, runbook="x")["links"]
        assert [link["url"] for link in links] == [f"/d/{other.uid}" for other in others]


def test_the_config_maps_are_found_by_grafanas_sidecar_and_small_enough_to_be_applied() -> None:
    text = (RENDERED / "monitored.yaml").read_text(encoding="utf-8")
    maps = [
        one
        for one in documents(text)
        if one["kind"] == "ConfigMap" and one["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    held = {name: content for one in maps for name, content in one["data"].items()}
    assert held == {path.name: content for path, content in files().items()}
    assert all(len(json.dumps(one)) < APPLY_BYTES for one in maps)
