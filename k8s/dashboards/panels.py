"""Panels and dashboards, as Grafana's JSON and as sections of the runbook."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

WIDTH = 24
"""Grafana's grid."""
SCHEMA_VERSION = 39
"""Of Grafana 10.4 and later; newer ones migrate it by themselves."""
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
ALERT = re.compile(r"\bOtelbridge[A-Z]\w+")
"""An alert's name, which is a heading of the runbook."""
MINIMUM_INTERVAL = "30s"
"""How often the PodMonitor scrapes: a rate needs two scrapes."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel."""

    title: str
    kind: Literal["stat", "timeseries", "state-timeline", "table"]
    unit: str
    queries: tuple[Query, ...]
    meaning: str
    """What it shows, and what is normal."""
    otherwise: str
    """What to do when it is not."""
    width: int = 8
    height: int = 7
    thresholds: tuple[tuple[float, str], ...] = ()
    """From which value on which colour; green below the first."""
    states: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Name and colour of each number of a state timeline."""
    no_value: str = ""
    """Shown where there is no series: a counter begins with its first count."""
    stacked: bool = False
    signed: bool = False
    """Whether it may be below 0."""

    @property
    def anchor(self) -> str:
        """The runbook's section, as Markdown renderers name it."""
        return re.sub(r"[^a-z0-9 -]", "", self.title.lower()).replace(" ", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard."""

    uid: str
    """In its address, so it never changes."""
    title: str
    description: str
    variables: tuple[Json, ...]
    rows: tuple[Row, ...]

    def panels(self) -> list[Panel]:
        """All panels, in order."""
        return [panel for row in self.rows for panel in row.panels]


def dashboard_json(dashboard: Dashboard, *, others: Iterable[Dashboard], runbook: str) -> Json:
    """The dashboard as Grafana imports it.

    Args:
        dashboard: what to write.
        others: dashboards to link to.
        runbook: default of the variable that says where the runbook is.
    """
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["otelbridge", "kubearmor"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [_link(other.title, f"/d/{other.uid}") for other in others],
        "templating": {"list": [*dashboard.variables, _runbook_variable(runbook)]},
        "annotations": {"list": []},
        "panels": _laid_out(dashboard.rows),
    }


def variable(name: str, label: str, query: str) -> Json:
    """A variable whose values are a label's; all of them at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


DATASOURCE_VARIABLE: Json = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def panels_markdown(dashboards: Sequence[Dashboard]) -> str:
    """The runbook's sections on the panels."""
    lines: list[str] = []
    for dashboard in dashboards:
        lines += [f"### Dashboard: {dashboard.title}", "", dashboard.description, ""]
        for panel in dashboard.panels():
            lines += [f"#### {panel.title}", "", f"{panel.meaning} **Otherwise:** {panel.otherwise}", ""]
    return ALERT.sub(lambda found: f"[{found[0]}](#{found[0].lower()})", "\n".join(lines))


def _runbook_variable(default: str) -> Json:
    return {
        "name": "runbook",
        "label": "Runbook at",
        "type": "textbox",
        "description": "Where docs/runbook.md can be read; the panels link to its sections.",
        "query": default,
        "current": {"text": default, "value": default},
        "hide": 0,
    }


def _laid_out(rows: Iterable[Row]) -> list[Json]:
    """The panels in Grafana's grid, each row under its heading."""
    made: list[Json] = []
    top = 0
    for row in rows:
        heading: Json = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        made.append(_place(heading, made, at=(0, top), size=(WIDTH, 1)))
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            made.append(_place(_panel(panel), made, at=(left, top), size=(panel.width, panel.height)))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return made


def _place(panel: Json, before: Sequence[Json], *, at: tuple[int, int], size: tuple[int, int]) -> Json:
    grid = {"x": at[0], "y": at[1], "w": size[0], "h": size[1]}
    return {"id": len(before) + 1, "gridPos": grid, **panel}


def _panel(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.meaning}\n\n**Otherwise:** {panel.otherwise}",
        "links": [_link(f"Runbook: {panel.title}", f"${{runbook:raw}}#{panel.anchor}", new_tab=True)],
        "datasource": DATASOURCE,
        "interval": MINIMUM_INTERVAL,
        "targets": [_target(panel, place, query) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        **({"transformations": _TABLE_TRANSFORMATIONS} if panel.kind == "table" else {}),
    }


def _target(panel: Panel, place: int, query: Query) -> Json:
    at_once = panel.kind in {"stat", "table"}
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": at_once,
        "range": not at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.thresholds]
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.no_value:
        defaults["noValue"] = panel.no_value
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
    if panel.states:
        options = {str(number): {"text": name, "color": colour} for number, (name, colour) in panel.states.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        if not panel.signed:
            defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        }
    return defaults


def _link(title: str, url: str, *, new_tab: bool = False) -> Json:
    return {"title": title, "url": url, "type": "link", "targetBlank": new_tab, "keepTime": True}


_OPTIONS: Mapping[str, Json] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {"mergeValues": True, "showValue": "auto", "rowHeight": 0.9, "legend": {"showLegend": False}},
    "table": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Value", "desc": True}]},
}
_TABLE_TRANSFORMATIONS: list[Json] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
