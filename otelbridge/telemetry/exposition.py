"""The bridge's metrics as Prometheus reads them: the text of /metrics, format 0.0.4."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)

_UNITS = {"s": "seconds", "By": "bytes", "1": ""}
"""As OpenTelemetry's rules for Prometheus spell them in a name; other units stand as they are."""
_ANNOTATION = re.compile(r"\{.*}")
_NO_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NO_LABEL = re.compile(r"[^a-zA-Z0-9]+")
MOST_PLAIN_DIGITS = 6
"""Before the point: larger numbers are written with an exponent, as Go does."""


class PullReader(MetricReader):
    """Collects the metrics whenever somebody asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._collected: MetricsData | None = None

    def text(self) -> bytes:
        """The metrics as they are now."""
        with self._lock:
            self._collected = None
            self.collect()
            data = self._collected
        return "".join(_lines(data)).encode(errors="replace") if data else b""

    def _receive_metrics(self, metrics_data: MetricsData, *_timeout: Any, **_others: Any) -> None:
        self._collected = metrics_data

    def shutdown(self, *_timeout: Any, **_others: Any) -> None:
        """Nothing is left to do."""


def name_on_metrics(name: str, unit: str, *, counter: bool) -> str:
    """A metric's name in Prometheus: what a dashboard asks for."""
    found = _NO_NAME.sub("_", name)
    plain = _ANNOTATION.sub("", unit)
    suffix = _UNITS.get(plain, _NO_NAME.sub("_", plain))
    if suffix and not found.endswith(f"_{suffix}"):
        found += f"_{suffix}"
    return f"{found}_total" if counter else found


def _lines(data: MetricsData) -> Iterator[str]:
    first = True
    for of_resource in data.resource_metrics:
        if first:
            yield from _family("target_info", "Target metadata", "gauge")
            yield _sample("target_info", _labels(of_resource.resource.attributes), 1)
        first = False
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                yield from _of_metric(metric)


def _of_metric(metric: Metric) -> Iterator[str]:
    data = metric.data
    counter = isinstance(data, Sum) and data.is_monotonic
    name = name_on_metrics(metric.name, metric.unit or "", counter=counter)
    kind = "counter" if counter else "histogram" if isinstance(data, Histogram) else "gauge"
    yield from _family(name, metric.description or "", kind)
    every = [_labels(point.attributes or {}) for point in data.data_points]
    keys = sorted({key for labels in every for key in labels})
    for point, some in zip(data.data_points, every, strict=True):
        labels = {key: some.get(key, "") for key in keys}
        if isinstance(point, HistogramDataPoint):
            yield from _of_histogram(name, labels, point)
        elif isinstance(point, NumberDataPoint):
            yield _sample(name, labels, point.value)


def _of_histogram(name: str, labels: dict[str, str], point: HistogramDataPoint) -> Iterator[str]:
    bounds = [*map(str, point.explicit_bounds), "+Inf"]
    for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
        yield _sample(f"{name}_bucket", labels | {"le": bound}, count)
    yield _sample(f"{name}_count", labels, point.count)
    yield _sample(f"{name}_sum", labels, point.sum)


def _family(name: str, meaning: str, kind: str) -> tuple[str, str]:
    meaning = meaning.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {meaning}\n", f"# TYPE {name} {kind}\n"


def _labels(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The labels; the values of attributes that become one label are joined in the order of their names.

    https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-attributes
    """
    found: dict[str, str] = {}
    for key in sorted(attributes):
        label, value = _label(key), attributes[key]
        text = value if isinstance(value, str) else json.dumps(_plain(value), default=str)
        found[label] = f"{found[label]};{text}" if label in found else text
    return found


def _label(key: str) -> str:
    """An attribute's name as a label's, which does not begin with a digit: Prometheus would refuse all metrics."""
    name = _NO_LABEL.sub("_", key)
    return f"_{name}" if name[:1].isdigit() else name


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))
    return f"{name}{{{pairs}}} {_number(value)}\n" if pairs else f"{name} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    point = text.find(".")
    if value > 0 and point > MOST_PLAIN_DIGITS:
        digits = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.")
        return f"{digits}e+{point - 1:02d}"
    return text
