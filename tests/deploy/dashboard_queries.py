"""The dashboards' queries with Grafana's variables filled in, as Prometheus would get them."""

from __future__ import annotations

from k8s.dashboards.generate import DASHBOARDS

RATE_SECONDS = 20


def queries(*, range_seconds: int) -> list[str]:
    """Every query of every panel, for all bridges and all namespaces.

    Args:
        range_seconds: what the dashboards' time range is.
    """
    values = {
        "$__rate_interval": f"{RATE_SECONDS}s",
        "$__range": f"{range_seconds}s",
        "$instance": ".*",
        "$namespace": ".*",
    }
    found = [query.expr for one in DASHBOARDS for panel in one.panels() for query in panel.queries]
    for name, value in values.items():
        found = [query.replace(name, value) for query in found]
    return found
