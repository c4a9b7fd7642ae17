"""Turns events and components' counters into metrics of the SDK."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import resource
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    Meter,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    Observation,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from otelbridge.event import NANOSECONDS, GapCause
from otelbridge.telemetry import events as e
from otelbridge.telemetry import names as n
from otelbridge.telemetry.escape import escape
from otelbridge.telemetry.events import Event


class InstrumentKind(StrEnum):
    """OpenTelemetry's instruments. An observable one reads another component's plain counters when it is collected."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    OBSERVABLE_COUNTER = "observable counter"
    OBSERVABLE_UP_DOWN_COUNTER = "observable up-down counter"
    OBSERVABLE_GAUGE = "observable gauge"


OBSERVABLE = frozenset(
    {InstrumentKind.OBSERVABLE_COUNTER, InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER, InstrumentKind.OBSERVABLE_GAUGE}
)

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds of a request."""
OUTAGE = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 21.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds of being blind; 21 is the promise for a frozen peer."""
LAG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds that an event is on its way."""
LIFE = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 259200.0, 604800.0, 2592000.0)
"""Seconds of a connection's life, up to a month."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_C, _H = InstrumentKind.COUNTER, InstrumentKind.HISTOGRAM
_OC, _OU = InstrumentKind.OBSERVABLE_COUNTER, InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER

# fmt: off
COUNTED = (
    Instrument("otelbridge.source.event.lag", _H, "s", "From an event's own time stamp to its receipt, at most 16 events of a batch standing for all; 0 where the node's clock is ahead.", (n.STREAM,), LAG),
    Instrument("otelbridge.source.stream.ends", _C, "{end}", "Streams that ended unexpectedly.", (n.STREAM, *n.SERVER, n.STATUS_CODE)),
    Instrument("otelbridge.source.connection.attempts", _C, "{attempt}", "Attempts to subscribe; without `error.type` for those that succeeded.", (*n.SERVER, n.ERROR_TYPE, n.ERROR_CLASS)),
    Instrument("otelbridge.source.connection.duration", _H, "s", "Lifetimes of connections.", (*n.SERVER, n.STATUS_CODE), LIFE),
    Instrument("otelbridge.source.heartbeat.duration", _H, "s", "Duration of a health check.", (*n.SERVER, n.HEARTBEAT_METHOD), SHORT),
    Instrument("otelbridge.source.heartbeat.misses", _C, "{miss}", "Health checks without an answer.", n.SERVER),
    Instrument("otelbridge.source.detection.time", _H, "s", "From the last sign of life of a connection to noticing that it was lost.", n.SERVER, OUTAGE),
    Instrument("otelbridge.source.recovery.time", _H, "s", "From noticing the loss of a connection to being subscribed again.", n.SERVER, OUTAGE),
    Instrument("otelbridge.source.gaps", _C, "{gap}", "Gaps that are over.", (n.STREAM, n.GAP_CAUSE)),
    Instrument("otelbridge.source.gap.time", _C, "s", "Time in which events could not be received.", (n.STREAM, n.GAP_CAUSE)),
    Instrument("otelbridge.event.mapping.errors", _C, "{error}", "Events that did not parse as they should; `error.type` says how they were forwarded.", (n.STREAM, n.ERROR_TYPE)),
    Instrument("otelbridge.delivery.requests", _C, "{request}", "Answers of the endpoint.", (*n.SERVER, n.OUTCOME, n.ERROR_TYPE)),
    Instrument("otelbridge.delivery.records", _C, "{record}", "Records that the endpoint accepted.", (n.STREAM, *n.SERVER)),
    Instrument("otelbridge.delivery.rejected", _C, "{record}", "Records that the endpoint rejected in a partial success or refused for good.", (n.STREAM, *n.SERVER)),
    Instrument("otelbridge.delivery.io", _C, "By", "Bytes of accepted requests, before compression.", n.SERVER),
    Instrument("otelbridge.delivery.duration", _H, "s", "Time that an accepted request took.", n.SERVER, SHORT),
    Instrument("otelbridge.delivery.event.lag", _H, "s", "From an event's receipt to its acceptance by the endpoint; each counts as old as the oldest of its request.", (n.STREAM, *n.SERVER), LAG),
    Instrument("otelbridge.thread.restarts", _C, "{restart}", "Unexpected errors after which a thread continued.", (n.THREAD, n.ERROR_TYPE)),
    Instrument("otelbridge.throttle.activations", _C, "{activation}", "Times that KubeArmor itself stopped reporting a container's alerts.", (n.NAMESPACE,)),
)
"""Counted from events, below."""
OWN = (
    Instrument("otelbridge.telemetry.dropped", _OC, "{event}", "Events and log lines dropped because they came faster than they could be written."),
    Instrument("process.cpu.time", _OC, "s", "CPU time of the process.", ("cpu.mode",)),
    Instrument("process.memory.usage", _OU, "By", "Resident memory of the process."),
    Instrument("process.thread.count", _OU, "{thread}", "Threads of the process."),
    Instrument("process.unix.file_descriptor.count", _OU, "{file_descriptor}", "Open file descriptors of the process."),
)
"""What telemetry observes by itself."""
# fmt: on


class Count(NamedTuple):
    """A value for one instrument: added by a counter, recorded by a histogram."""

    instrument: str
    amount: float
    attributes: Mapping[str, str | int]
    times: int = 1
    """How many measurements of a histogram it stands for."""


def _attempted(event: e.ConnectionAttempted) -> Iterator[Count]:
    failure = {} if event.status_code == "OK" else {n.ERROR_TYPE: event.status_code, n.ERROR_CLASS: event.error_class}
    yield Count("otelbridge.source.connection.attempts", 1, {**n.server(event.upstream), **failure})


def _lost(event: e.StreamLost) -> Iterator[Count]:
    attributes = {n.STREAM: event.stream.value, **n.server(event.upstream), n.STATUS_CODE: event.status_code}
    yield Count("otelbridge.source.stream.ends", 1, attributes)


def _ended(event: e.ConnectionEnded) -> Iterator[Count]:
    seconds = (event.ended_unix_nano - event.started_unix_nano) / NANOSECONDS
    attributes = {**n.server(event.upstream), n.STATUS_CODE: event.status_code}
    yield Count("otelbridge.source.connection.duration", max(seconds, 0.0), attributes)


def _answered(event: e.HeartbeatAnswered) -> Iterator[Count]:
    attributes = {**n.server(event.upstream), n.HEARTBEAT_METHOD: event.method}
    yield Count("otelbridge.source.heartbeat.duration", event.seconds, attributes)


def _missed(event: e.HeartbeatMissed) -> Iterator[Count]:
    yield Count("otelbridge.source.heartbeat.misses", 1, n.server(event.upstream))


def _gap(event: e.GapEnded) -> Iterator[Count]:
    gap = event.gap
    attributes = {n.STREAM: gap.stream_name, n.GAP_CAUSE: gap.cause.value}
    yield Count("otelbridge.source.gaps", 1, attributes)
    seconds = (gap.ended_unix_nano - gap.started_unix_nano) / NANOSECONDS
    yield Count("otelbridge.source.gap.time", max(seconds, 0.0), attributes)
    if gap.cause is GapCause.THROTTLED:
        yield Count("otelbridge.throttle.activations", 1, {n.NAMESPACE: gap.namespace})


def _damaged(event: e.EventDamaged) -> Iterator[Count]:
    yield Count(
        "otelbridge.event.mapping.errors", event.events, {n.STREAM: event.stream.value, n.ERROR_TYPE: event.how}
    )


def _accepted(event: e.BatchAccepted) -> Iterator[Count]:
    server = n.server(event.endpoint)
    stream = {n.STREAM: event.stream.value, **server}
    yield Count("otelbridge.delivery.requests", 1, {**server, n.OUTCOME: "partial" if event.rejected else "accepted"})
    yield Count("otelbridge.delivery.records", event.records - event.rejected, stream)
    yield Count("otelbridge.delivery.io", event.request_bytes, server)
    yield Count("otelbridge.delivery.duration", event.seconds, server)
    yield Count("otelbridge.delivery.event.lag", event.age_seconds, stream, event.records - event.rejected)
    if event.rejected:
        yield Count("otelbridge.delivery.rejected", event.rejected, stream)


def _encoded(event: e.EventsEncoded) -> Iterator[Count]:
    for lag_seconds, events in event.lags:
        yield Count("otelbridge.source.event.lag", lag_seconds, {n.STREAM: event.stream.value}, events)


def _refused(event: e.BatchRefused) -> Iterator[Count]:
    yield from _answer("refused")(event)
    attributes = {n.STREAM: event.stream.value, **n.server(event.endpoint)}
    yield Count("otelbridge.delivery.rejected", event.records, attributes)


def _answer(outcome: str) -> Callable[[Any], Iterator[Count]]:
    """Counts an answer of the endpoint that took nothing."""

    def count(event: e.DeliveryDelayed | e.DeliveryHeld | e.BatchRefused) -> Iterator[Count]:
        attributes = {**n.server(event.endpoint), n.OUTCOME: outcome, n.ERROR_TYPE: event.code}
        yield Count("otelbridge.delivery.requests", 1, attributes)

    return count


def _split(event: e.BatchSplit) -> Iterator[Count]:
    yield Count("otelbridge.delivery.requests", 1, {**n.server(event.endpoint), n.OUTCOME: "split"})


def _detected(event: e.LossDetected) -> Iterator[Count]:
    yield Count("otelbridge.source.detection.time", event.seconds, n.server(event.upstream))


def _recovered(event: e.UpstreamRecovered) -> Iterator[Count]:
    yield Count("otelbridge.source.recovery.time", event.seconds, n.server(event.upstream))


def _failed(event: e.ThreadFailed) -> Iterator[Count]:
    # Behind the first space stands an upstream: addresses behind a name come and go.
    thread, error = event.thread.partition(" ")[0], event.error.partition(":")[0]
    yield Count("otelbridge.thread.restarts", 1, {n.THREAD: thread, n.ERROR_TYPE: error})


COUNTS: Mapping[type, Callable[[Any], Iterator[Count]]] = {
    e.ConnectionAttempted: _attempted,
    e.StreamLost: _lost,
    e.ConnectionEnded: _ended,
    e.LossDetected: _detected,
    e.UpstreamRecovered: _recovered,
    e.HeartbeatAnswered: _answered,
    e.HeartbeatMissed: _missed,
    e.GapEnded: _gap,
    e.EventDamaged: _damaged,
    e.EventsEncoded: _encoded,
    e.BatchAccepted: _accepted,
    e.ThreadFailed: _failed,
    e.DeliveryDelayed: _answer("delayed"),
    e.DeliveryHeld: _answer("held"),
    e.BatchSplit: _split,
    e.BatchRefused: _refused,
}


def counts(event: e.Event) -> Iterator[Count]:
    """What an event adds to the metrics; nothing for types that are not counted."""
    count = COUNTS.get(type(event))
    return iter(()) if count is None else count(event)


def escaped(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    """The attributes with what does not print escaped: a node's name may be made to move a terminal's cursor."""
    return {key: escape(value) if isinstance(value, str) else value for key, value in attributes.items()}


Observed = Iterable[tuple[int | float, Mapping[str, str | int]]]
Reading = Callable[[], Observed]
"""What `Telemetry.observe` binds: called when metrics are collected, from any thread; must not block."""


def of_process() -> dict[str, Reading]:
    """CPU, memory, threads and file descriptors of this process, from the kernel."""
    page_bytes = resource.getpagesize()
    own = Path("/proc/self")

    def cpu() -> Observed:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [(used.ru_utime, {"cpu.mode": "user"}), (used.ru_stime, {"cpu.mode": "system"})]

    def memory() -> Observed:
        # statm: total and resident size in pages, see proc(5).
        return [(int((own / "statm").read_text(encoding="ascii").split()[1]) * page_bytes, {})]

    return {
        "process.cpu.time": cpu,
        "process.memory.usage": memory,
        "process.thread.count": lambda: [(sum(1 for _ in (own / "task").iterdir()), {})],
        "process.unix.file_descriptor.count": lambda: [(sum(1 for _ in (own / "fd").iterdir()), {})],
    }


class Weighted(float):
    """The mean of so many measurements that fall into one bucket."""

    times: int

    def __new__(cls, mean: float, times: int) -> Self:
        """Makes one; it is a float to the SDK."""
        made = super().__new__(cls, mean)
        made.times = times
        return made


class _WeightedAggregation(ExplicitBucketHistogramAggregation):
    """The SDK's own, which counts a `Weighted` as often as it stands for."""

    def _create_aggregation(self, *arguments: Any) -> Any:
        made: Any = super()._create_aggregation(*arguments)
        once = made.aggregate

        def aggregate(measurement: Any, should_sample_exemplar: bool = True) -> None:
            value, more = float(measurement.value), getattr(measurement.value, "times", 1) - 1
            once(replace(measurement, value=value), should_sample_exemplar)
            if more:
                with made._lock:  # noqa: SLF001 - the SDK has no public way; tests/unit/telemetry/test_metrics.py holds what this relies on
                    if made._value is not None:  # noqa: SLF001 - unless it was collected in between
                        made._sum += value * more  # noqa: SLF001
                        made._value[bisect_left(made._boundaries, value)] += more  # noqa: SLF001

        made.aggregate = aggregate
        return made


MAX_OBSERVED_SERIES = 20_000
"""The SDK never forgets a series of an observable instrument, and shows none beyond this limit: its own of 2,000 is
reached by nodes that come and go. One takes 1 KB."""


def views() -> list[View]:
    """How the SDK aggregates: histograms by weight, observable instruments with room for names that come and go."""
    observable = (ObservableCounter, ObservableUpDownCounter, ObservableGauge)
    return [
        View(instrument_type=Histogram, aggregation=_WeightedAggregation()),
        *(View(instrument_type=kind, aggregation_cardinality_limit=MAX_OBSERVED_SERIES) for kind in observable),
    ]


class Instruments:
    """All instruments of the bridge."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._bound: set[str] = set()
        self._buckets = {declared.name: declared.buckets for declared in COUNTED}
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._sums: dict[tuple[str, tuple[tuple[str, str | int], ...]], float] = {}
        """What is to be added to counters, by instrument and attributes: adding costs 20 us a time in the SDK."""
        self._measured: dict[tuple[str, tuple[tuple[str, str | int], ...], int], tuple[float, int]] = {}
        """The same for histograms, by bucket too: the sum of the values, and their number."""
        for declared in COUNTED:
            if declared.kind is InstrumentKind.COUNTER:
                self._counters[declared.name] = meter.create_counter(declared.name, declared.unit, declared.description)
            elif declared.kind is InstrumentKind.HISTOGRAM:
                self._histograms[declared.name] = meter.create_histogram(
                    declared.name,
                    declared.unit,
                    declared.description,
                    explicit_bucket_boundaries_advisory=declared.buckets,
                )

    def count(self, event: Event) -> None:
        """Takes what an event counts for; `flush` brings it into the instruments. By one thread."""
        for name, amount, attributes, times in counts(event):
            if name in self._counters:
                key = name, tuple(attributes.items())
                self._sums[key] = self._sums.get(key, 0) + amount
            elif times:
                bucket = name, tuple(attributes.items()), bisect_left(self._buckets[name], amount)
                total, number = self._measured.get(bucket, (0.0, 0))
                self._measured[bucket] = total + amount * times, number + times

    def flush(self) -> None:
        """Adds what was taken since the last time to the instruments."""
        while self._sums:
            (name, attributes), amount = self._sums.popitem()
            self._counters[name].add(amount, escaped(dict(attributes)))
        while self._measured:
            (name, attributes, _), (total, number) = self._measured.popitem()
            self._histograms[name].record(Weighted(total / number, number), escaped(dict(attributes)))

    def observe(self, instrument: Instrument, reading: Reading) -> None:
        """Binds an observable instrument.

        Raises:
            ValueError: it is not observable, or bound already.
        """
        if instrument.kind not in OBSERVABLE:
            raise ValueError(f"{instrument.name!r} is not observable")
        if instrument.name in self._bound:
            raise ValueError(f"{instrument.name!r} is bound already")
        self._bound.add(instrument.name)

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, escaped(attributes)) for value, attributes in reading()]

        create: Mapping[InstrumentKind, Callable[..., object]] = {
            InstrumentKind.OBSERVABLE_COUNTER: self._meter.create_observable_counter,
            InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER: self._meter.create_observable_up_down_counter,
            InstrumentKind.OBSERVABLE_GAUGE: self._meter.create_observable_gauge,
        }
        create[instrument.kind](instrument.name, [callback], instrument.unit, instrument.description)
