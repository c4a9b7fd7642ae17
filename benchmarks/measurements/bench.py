"""What every measurement is given: the programs, how much time it has, and roads to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

from benchmarks.bridges import Bridge
from benchmarks.corpus import Corpus
from benchmarks.programs import Programs
from benchmarks.rig import Road, Stretch, open_road

T = TypeVar("T")
Facts = dict[str, Any]

STEADY_RATE = 10_000.0
"""Events per second at which the cost of an event is taken: busy, and clean on two cores that carry everything."""
FALLBACK_FACTOR = 0.1
"""The Python generator reaches so much of the Go one's rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run."""

    programs: Programs
    quick: bool
    rounds: int = 0
    """Of interleaved contestants; 0 where the form says how many."""

    def pick(self, *, quick: T, full: T) -> T:
        return quick if self.quick else full

    def rate(self, per_second: float) -> float:
        """A rate that this run's generator can reach."""
        return per_second if self.programs.native else per_second * FALLBACK_FACTOR

    def road(self, bridge: Bridge, corpus: Corpus | None = None) -> AbstractContextManager[Road]:
        return open_road(self.programs, bridge, corpus or Corpus())

    def steady(self, bridge: Bridge, *, rate: float, seconds: float, corpus: Corpus | None = None) -> Stretch:
        """One stretch at a rate on a road of its own, after a shorter one that warms it up."""
        with self.road(bridge, corpus) as road:
            road.stretch(rate, seconds / 2)
            return road.stretch(rate, seconds)


def summary(stretches: list[Stretch]) -> Facts:
    """The medians of some stretches that differ in nothing but the moment, and every single cost."""
    costs = [stretch.cpu_us["bridge"] for stretch in stretches]
    collector = [stretch.cpu_us["collector"] for stretch in stretches if "collector" in stretch.cpu_us]
    requests = sum(stretch.requests for stretch in stretches)
    return {
        "per_second": round(median(stretch.per_second for stretch in stretches)),
        "cpu_us_per_event": round(median(costs), 1),
        "cpu_us_per_event_each": [round(cost, 1) for cost in costs],
        **({"collector_cpu_us_per_event": round(median(collector), 1)} if collector else {}),
        "generator_cpu_us_per_event": round(median(stretch.cpu_us["generator"] for stretch in stretches), 1),
        "sink_cpu_us_per_event": round(median(stretch.cpu_us["sink"] for stretch in stretches), 1),
        "events": sum(stretch.published for stretch in stretches),
        "lost": sum(stretch.lost for stretch in stretches),
        "duplicates": sum(stretch.duplicates for stretch in stretches),
        "clean": all(stretch.clean for stretch in stretches),
        "worst_lag_seconds": round(max(stretch.lag_seconds for stretch in stretches), 3),
        "records_per_request": round(sum(stretch.arrived for stretch in stretches) / max(1, requests), 1),
        "bytes_per_record": round(median(stretch.bytes_per_record for stretch in stretches)),
    }


def grown(costs: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """How many times the first contestant's cost each one's is: the median over rounds, each compared with its own.

    What a machine gives changes from minute to minute; within a round it hardly does.
    """
    first = next(iter(costs.values()))
    return {
        key: round(median(cost / base for cost, base in zip(each, first, strict=True)), 3)
        for key, each in costs.items()
    }


def as_facts(stretch: Stretch) -> Facts:
    """One stretch, rounded."""
    facts = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(stretch).items()}
    facts["cpu_us"] = {name: round(cost, 1) for name, cost in stretch.cpu_us.items()}
    return {**facts, "lost": stretch.lost, "clean": stretch.clean}
