"""Counts go in, the SDK's instruments move: each declared instrument is made once, here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from otelbridge.telemetry import names as n
from otelbridge.telemetry.counts import counts
from otelbridge.telemetry.happenings import Happening
from otelbridge.telemetry.readings import Reading


class Instruments:
    """All instruments of the bridge."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._bound: set[str] = set()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._sums: dict[tuple[str, tuple[tuple[str, str | int], ...]], float] = {}
        """What is to be added to counters, by instrument and attributes: adding costs 20 us a time in the SDK."""
        for declared in n.INSTRUMENTS.values():
            if declared.kind is n.Kind.COUNTER:
                self._counters[declared.name] = meter.create_counter(declared.name, declared.unit, declared.description)
            elif declared.kind is n.Kind.HISTOGRAM:
                self._histograms[declared.name] = meter.create_histogram(
                    declared.name,
                    declared.unit,
                    declared.description,
                    explicit_bucket_boundaries_advisory=declared.buckets,
                )

    def count(self, happening: Happening) -> None:
        """Takes what a happening counts for; `flush` brings it into the counters. By one thread."""
        for name, amount, attributes in counts(happening):
            if name in self._counters:
                key = name, tuple(attributes.items())
                self._sums[key] = self._sums.get(key, 0) + amount
            else:
                self._histograms[name].record(amount, attributes)

    def flush(self) -> None:
        """Adds what was taken since the last time to the counters."""
        for (name, attributes), amount in self._sums.items():
            self._counters[name].add(amount, dict(attributes))
        self._sums.clear()

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
            return [Observation(value, dict(attributes)) for value, attributes in reading()]

        create: Mapping[n.Kind, Callable[..., object]] = {
            n.Kind.OBSERVABLE_COUNTER: self._meter.create_observable_counter,
            n.Kind.OBSERVABLE_UP_DOWN_COUNTER: self._meter.create_observable_up_down_counter,
            n.Kind.OBSERVABLE_GAUGE: self._meter.create_observable_gauge,
        }
        create[declared.kind](name, [callback], declared.unit, declared.description)

    def unbound(self) -> list[str]:
        """Observable instruments that nobody feeds."""
        return [i.name for i in n.INSTRUMENTS.values() if i.kind in n.OBSERVABLE and i.name not in self._bound]
