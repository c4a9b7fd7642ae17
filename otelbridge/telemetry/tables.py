"""The declared names go in, the documentation's tables of metrics, spans and log lines come out."""

from __future__ import annotations

from collections.abc import Iterable

from otelbridge.telemetry.names import INSTRUMENTS, SPANS, Instrument, Kind
from otelbridge.telemetry.narrator import NARRATIVES, event_name

_SUFFIX_BY_UNIT = {"s": "_seconds", "By": "_bytes"}
"""Units that the Prometheus exporter puts into a name; annotations such as `{event}` and `1` are left out."""
_COUNTERS = frozenset({Kind.COUNTER, Kind.OBSERVABLE_COUNTER})


def prometheus_name(instrument: Instrument) -> str:
    """The name on /metrics: what a dashboard asks for. A histogram's has `_bucket`, `_sum` and `_count` beside it."""
    total = "_total" if instrument.kind in _COUNTERS else ""
    return instrument.name.replace(".", "_") + _SUFFIX_BY_UNIT.get(instrument.unit, "") + total


def prometheus_label(attribute: str) -> str:
    """The label that an attribute becomes on /metrics."""
    return attribute.replace(".", "_")


def metrics_table_markdown() -> str:
    """One row per metric."""
    rows = (
        (
            f"`{i.name}`",
            f"`{prometheus_name(i)}`",
            i.kind.value,
            f"`{i.unit}`",
            ", ".join(f"`{a}`" for a in i.attributes),
            i.description,
        )
        for i in INSTRUMENTS.values()
    )
    return _table(("metric", "on /metrics", "instrument", "unit", "attributes", "meaning"), rows)


def spans_table_markdown() -> str:
    """One row per kind of span."""
    rows = (
        (f"`{span.name}`", span.kind, ", ".join(f"`{a}`" for a in span.attributes), span.description) for span in SPANS
    )
    return _table(("span", "kind", "attributes", "meaning"), rows)


def log_lines_table_markdown() -> str:
    """One row per sentence that the bridge can log."""
    rows = (
        (f"`{event_name(kind)}`", row.level.name.lower(), row.sentence, ", ".join(f"`{r}`" for r in row.reason))
        for kind, narratives in NARRATIVES.items()
        for row in narratives
    )
    return _table(("event", "level", "sentence", "limited by"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
