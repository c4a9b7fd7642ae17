"""What events and components' counters mean in metrics, and the SDK's instruments that show it."""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
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

from otelbridge.event import GapCause, Stream
from otelbridge.telemetry import events as h
from otelbridge.telemetry import names as n
from otelbridge.telemetry.escape import escape
from otelbridge.telemetry.events import Event
from otelbridge.telemetry.ledger import Account, Posting

NANOSECONDS = 1_000_000_000


class Count(NamedTuple):
    """So much for one instrument: added to a counter, recorded by a histogram."""

    instrument: str
    amount: float
    attributes: Mapping[str, str | int]
    times: int = 1
    """How many measurements of a histogram it stands for."""


def _attempted(event: h.ConnectionAttempted) -> Iterator[Count]:
    failure = {} if event.status_code == "OK" else {n.ERROR_TYPE: event.status_code, n.ERROR_CLASS: event.error_class}
    yield Count("otelbridge.source.connection.attempts", 1, {**n.server(event.upstream), **failure})


def _lost(event: h.StreamLost) -> Iterator[Count]:
    attributes = {n.STREAM: event.stream.value, **n.server(event.upstream), n.STATUS_CODE: event.status_code}
    yield Count("otelbridge.source.stream.ends", 1, attributes)


def _ended(event: h.ConnectionEnded) -> Iterator[Count]:
    seconds = (event.ended_unix_nano - event.started_unix_nano) / NANOSECONDS
    attributes = {**n.server(event.upstream), n.STATUS_CODE: event.status_code}
    yield Count("otelbridge.source.connection.duration", max(seconds, 0.0), attributes)


def _answered(event: h.HeartbeatAnswered) -> Iterator[Count]:
    attributes = {**n.server(event.upstream), n.HEARTBEAT_METHOD: event.method}
    yield Count("otelbridge.source.heartbeat.duration", event.seconds, attributes)


def _missed(event: h.HeartbeatMissed) -> Iterator[Count]:
    yield Count("otelbridge.source.heartbeat.misses", 1, n.server(event.upstream))


def _gap(event: h.GapEnded) -> Iterator[Count]:
    gap = event.gap
    attributes = {n.STREAM: gap.stream_name, n.GAP_CAUSE: gap.cause.value}
    yield Count("otelbridge.source.gaps", 1, attributes)
    seconds = (gap.ended_unix_nano - gap.started_unix_nano) / NANOSECONDS
    yield Count("otelbridge.source.gap.time", max(seconds, 0.0), attributes)
    if gap.cause is GapCause.THROTTLED:
        yield Count("otelbridge.throttle.activations", 1, {n.NAMESPACE: gap.namespace})


def _damaged(event: h.EventDamaged) -> Iterator[Count]:
    yield Count(
        "otelbridge.event.mapping.errors", event.events, {n.STREAM: event.stream.value, n.ERROR_TYPE: event.how}
    )


def _accepted(event: h.BatchAccepted) -> Iterator[Count]:
    server = n.server(event.endpoint)
    stream = {n.STREAM: event.stream.value, **server}
    yield Count("otelbridge.delivery.requests", 1, {**server, n.OUTCOME: "partial" if event.rejected else "accepted"})
    yield Count("otelbridge.delivery.records", event.records - event.rejected, stream)
    yield Count("otelbridge.delivery.io", event.request_bytes, server)
    yield Count("otelbridge.delivery.duration", event.seconds, server)
    yield Count("otelbridge.delivery.event.lag", event.age_seconds, stream, event.records - event.rejected)
    if event.rejected:
        yield Count("otelbridge.delivery.rejected", event.rejected, stream)


def _encoded(event: h.EventsEncoded) -> Iterator[Count]:
    for lag_seconds, events in event.lags:
        yield Count("otelbridge.source.event.lag", lag_seconds, {n.STREAM: event.stream.value}, events)


def _refused(event: h.BatchRefused) -> Iterator[Count]:
    yield from _answer("refused")(event)
    attributes = {n.STREAM: event.stream.value, **n.server(event.endpoint)}
    yield Count("otelbridge.delivery.rejected", event.records, attributes)


def _answer(outcome: str) -> Callable[[Any], Iterator[Count]]:
    """Counts an answer of the endpoint that took nothing."""

    def count(event: h.DeliveryDelayed | h.DeliveryHeld | h.BatchRefused) -> Iterator[Count]:
        attributes = {**n.server(event.endpoint), n.OUTCOME: outcome, n.ERROR_TYPE: event.code}
        yield Count("otelbridge.delivery.requests", 1, attributes)

    return count


def _split(event: h.BatchSplit) -> Iterator[Count]:
    yield Count("otelbridge.delivery.requests", 1, {**n.server(event.endpoint), n.OUTCOME: "split"})


def _detected(event: h.LossDetected) -> Iterator[Count]:
    yield Count("otelbridge.source.detection.time", event.seconds, n.server(event.upstream))


def _recovered(event: h.UpstreamRecovered) -> Iterator[Count]:
    yield Count("otelbridge.source.recovery.time", event.seconds, n.server(event.upstream))


def _failed(event: h.ThreadFailed) -> Iterator[Count]:
    # Behind the first space stands an upstream: addresses behind a name come and go.
    thread, error = event.thread.partition(" ")[0], event.error.partition(":")[0]
    yield Count("otelbridge.thread.restarts", 1, {n.THREAD: thread, n.ERROR_TYPE: error})


COUNTS: Mapping[type, Callable[[Any], Iterator[Count]]] = {
    h.ConnectionAttempted: _attempted,
    h.StreamLost: _lost,
    h.ConnectionEnded: _ended,
    h.LossDetected: _detected,
    h.UpstreamRecovered: _recovered,
    h.HeartbeatAnswered: _answered,
    h.HeartbeatMissed: _missed,
    h.GapEnded: _gap,
    h.EventDamaged: _damaged,
    h.EventsEncoded: _encoded,
    h.BatchAccepted: _accepted,
    h.ThreadFailed: _failed,
    h.DeliveryDelayed: _answer("delayed"),
    h.DeliveryHeld: _answer("held"),
    h.BatchSplit: _split,
    h.BatchRefused: _refused,
}


def counts(event: h.Event) -> Iterator[Count]:
    """What an event adds to the metrics; nothing for types that are not counted."""
    count = COUNTS.get(type(event))
    return iter(()) if count is None else count(event)


def escaped(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    """The attributes with what does not print escaped: a node's name may be made to move a terminal's cursor."""
    return {key: escape(value) if isinstance(value, str) else value for key, value in attributes.items()}


Observed = Iterable[tuple[int | float, Mapping[str, str | int]]]
Reading = Callable[[], Observed]
"""What `Telemetry.observe` binds: called when metrics are collected, from any thread; must not block."""


def of_ledger(postings: Iterable[Posting], residue: Mapping[Stream, int]) -> dict[str, Observed]:
    """What the ledger's three instruments show; the queue's owner binds them, under its lock.

    Args:
        postings: the sums, from `Ledger.postings`.
        residue: from `Ledger.residue`.
    """
    sums = list(postings)
    return {
        "otelbridge.ledger.records": [
            (records, {n.STREAM: stream.value, n.ACCOUNT: account.value, **({n.REASON: reason} if reason else {})})
            for stream, account, reason, records in sums
        ],
        "otelbridge.ledger.residue": [(left, {n.STREAM: stream.value}) for stream, left in residue.items()],
        "otelbridge.event.dropped": [
            (records, {n.STREAM: stream.value, n.DROP_REASON: reason})
            for stream, account, reason, records in sums
            if account is Account.DROPPED
        ],
    }


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
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._sums: dict[tuple[str, tuple[tuple[str, str | int], ...]], float] = {}
        """What is to be added to counters, by instrument and attributes: adding costs 20 us a time in the SDK."""
        self._measured: dict[tuple[str, tuple[tuple[str, str | int], ...], int], tuple[float, int]] = {}
        """The same for histograms, by bucket too: the sum of the values, and their number."""
        for declared in n.INSTRUMENTS.values():
            if declared.kind is n.InstrumentKind.COUNTER:
                self._counters[declared.name] = meter.create_counter(declared.name, declared.unit, declared.description)
            elif declared.kind is n.InstrumentKind.HISTOGRAM:
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
                bucket = name, tuple(attributes.items()), bisect_left(n.INSTRUMENTS[name].buckets, amount)
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

    def observe(self, name: str, reading: Reading) -> None:
        """Binds an observable instrument.

        Raises:
            ValueError: it is not declared, not observable, or bound already.
        """
        declared = n.INSTRUMENTS.get(name)
        if declared is None or declared.kind not in n.OBSERVABLE:
            raise ValueError(f"{name!r} is not an observable instrument of telemetry/names.py")
        if name in self._bound:
            raise ValueError(f"{name!r} is bound already")
        self._bound.add(name)

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, escaped(attributes)) for value, attributes in reading()]

        create: Mapping[n.InstrumentKind, Callable[..., object]] = {
            n.InstrumentKind.OBSERVABLE_COUNTER: self._meter.create_observable_counter,
            n.InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER: self._meter.create_observable_up_down_counter,
            n.InstrumentKind.OBSERVABLE_GAUGE: self._meter.create_observable_gauge,
        }
        create[declared.kind](name, [callback], declared.unit, declared.description)

    def unbound(self) -> list[str]:
        """Observable instruments that nobody feeds."""
        return [i.name for i in n.INSTRUMENTS.values() if i.kind in n.OBSERVABLE and i.name not in self._bound]
