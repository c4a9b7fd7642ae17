"""Makes PromQL expressions from declared metrics and attributes, so that no query names what does not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry.exposition import name_on_metrics
from otelbridge.telemetry.metrics import Instrument, InstrumentKind

INSTANCE = 'instance=~"$instance"'
"""Every query looks at the bridges that the dashboard's variable names."""
RECENT = "$__rate_interval"
WHOLE = "$__range"
UPSTREAM = "{{server_address}}:{{server_port}}"
BRIDGE = "{{instance}}"
SHOWN = 20
"""Series of a panel that would have one per node."""
_COUNTERS = frozenset({InstrumentKind.COUNTER, InstrumentKind.OBSERVABLE_COUNTER})


def prometheus_name(instrument: Instrument) -> str:
    """The name on /metrics. A histogram's has `_bucket`, `_sum` and `_count` beside it."""
    return name_on_metrics(instrument.name, instrument.unit, counter=instrument.kind in _COUNTERS)


def prometheus_label(attribute: str) -> str:
    """The label that an attribute becomes on /metrics."""
    return attribute.replace(".", "_")


def series(name: str, suffix: str = "", **where: str) -> str:
    """The series of a metric.

    Args:
        name: as in `telemetry/names.py`.
        suffix: `_bucket`, `_sum` or `_count` of a histogram.
        where: matchers by label, such as `otelbridge_state='="held"'`.

    Raises:
        KeyError: the metric is not declared.
        ValueError: it has no such label, or the suffix does not fit.
    """
    declared = INSTRUMENTS[name]
    if bool(suffix) != (declared.kind is InstrumentKind.HISTOGRAM):
        raise ValueError(f"{name} is a {declared.kind}: {suffix!r} does not fit")
    labels = {prometheus_label(attribute) for attribute in declared.attributes}
    if unknown := set(where) - labels:
        raise ValueError(f"{name} has no labels {unknown}")
    matchers = ",".join([INSTANCE, *(f"{label}{how}" for label, how in where.items())])
    return f"{prometheus_name(declared)}{suffix}{{{matchers}}}"


def by(*attributes: str, function: str = "sum") -> str:
    """The head of an aggregation, by attributes (or `instance`, Prometheus' own)."""
    return f"{function} by ({', '.join(map(prometheus_label, attributes))})" if attributes else function


def rate(name: str, *attributes: str, suffix: str = "", **where: str) -> str:
    """Per second, added up by attributes."""
    return f"{by(*attributes)} (rate({series(name, suffix, **where)}[{RECENT}]))"


def recent(name: str, *attributes: str, **where: str) -> str:
    """By how much a counter has grown since a moment ago, added up by attributes."""
    return f"{by(*attributes)} (increase({series(name, **where)}[{RECENT}]))"


def grown(name: str, *attributes: str, **where: str) -> str:
    """By how much a counter has grown in the dashboard's time range, added up by attributes.

    A series that began within the range has grown by its whole value: `increase` never saw its zero.
    """
    one = series(name, **where)
    return f"{by(*attributes)} (round(({one} unless {one} offset {WHOLE}) or increase({one}[{WHOLE}])))"


def quantile(name: str, *attributes: str, share: float) -> str:
    """A quantile of a histogram over the last minutes."""
    grouped = by("le", *attributes)
    return f"histogram_quantile({share}, {grouped} (rate({series(name, '_bucket')}[{RECENT}])))"


def quantile_ever(name: str, *attributes: str, share: float) -> str:
    """A quantile of what is rare, since the bridges started: a rate over minutes would mostly be of nothing."""
    return f"histogram_quantile({share}, {by('le', *attributes)} ({series(name, '_bucket')}))"


def numbered(name: str, label: str, states: Sequence[str], *attributes: str) -> str:
    """The number, from 1 on, of the state whose series is 1; for a timeline with names for the numbers."""
    parts = (series(name, **{label: f'="{state}"'}) + f" * {number}" for number, state in enumerate(states, 1))
    return f"{by(*attributes, function='max')} ({' or '.join(parts)})"


def worst(count: int, expression: str) -> str:
    """The largest of a set of series, so that a thousand nodes stay readable."""
    return f"topk({count}, {expression})"


STATE_COLOURS: Mapping[str, str] = {
    "watching": "green",
    "delivering": "green",
    "idle": "text",
    "connecting": "yellow",
    "suspect": "yellow",
    "waiting": "orange",
    "delayed": "orange",
    "draining": "blue",
    "closed": "blue",
    "holding": "red",
    "held": "red",
}
