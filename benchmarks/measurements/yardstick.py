"""What a node pays for otelbridge and for a minimal Go bridge, in rounds: at rest, and at 20 to 30,000 events/s."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from benchmarks import machine
from benchmarks.bridges import GO, GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import Bench, Facts
from benchmarks.rig import Road, Watch

BRIDGES = {"ours": GRPC_GZIP, "go": GO}
IDLE = 0.0
SECONDS = {20.0: 10.0, 100.0: 8.0, 500.0: 6.0, 2_000.0: 5.0, 10_000.0: 4.0, 30_000.0: 4.0}
"""Stretches by rate: a low one needs longer for as good a figure."""
QUICK_RATES = (20.0, 100.0, 500.0, 2_000.0)
"""In the quick form, each for half as long."""
WARM_RATE, WARM_SECONDS = 1_000.0, 3.0
"""Meets most pods before any cost is taken, and is too slow to swell a process's memory."""
SETTLE_SECONDS = 3.0
LOOP_NANOSECONDS = 40.0
"""Shares of a core are told as on a core where a round of a Python loop takes so long."""

RATIOS = (
    "cpu_us_per_event",
    "core_percent",
    "wakeups_per_second",
    "wire_bytes_per_record",
    "resident_mib",
    "p50_ms",
    "p99_ms",
)
"""Figures that are divided, ours by the Go bridge's, within each round."""

Figures = dict[str, float]
Round = dict[float, dict[str, Figures]]
"""Figures by rate and by contestant."""


def measure_mixed(bench: Bench) -> Facts:
    """6 alerts to 93 logs, as on a busy node."""
    return measure(bench, Corpus(mix="mixed"))


def measure_alerts(bench: Bench) -> Facts:
    """Policy alerts only, as in the other measurements."""
    return measure(bench, Corpus())


def measure(bench: Bench, corpus: Corpus) -> Facts:
    """Medians and spread of each figure, and of the ratios within the rounds.

    In a round both bridges are started anew and take their turns at each rate, upwards, so that the resident memory at
    a rate is that of a process that has seen no higher one. Which of them is first changes from round to round.
    """
    if not bench.programs.native:
        return {"skipped": "the Go bridge needs Go, which is not here"}
    rates = bench.pick(quick=QUICK_RATES, full=tuple(SECONDS))
    starts: dict[str, list[float]] = {name: [] for name in BRIDGES}
    residues, rounds = [], []
    for turn in range(bench.rounds or bench.pick(quick=2, full=6)):
        names = list(BRIDGES) if turn % 2 else list(reversed(BRIDGES))
        with ExitStack() as stack:
            roads = {name: stack.enter_context(bench.road(BRIDGES[name], corpus)) for name in names}
            for name, road in roads.items():
                starts[name].append(road.subscribed_seconds)
            rounds.append(one_round(bench, roads, rates))
            residues.append(roads["ours"].residue())
    return {
        "mix": corpus.mix,
        "rounds": len(rounds),
        "start_seconds": {name: spread(each) for name, each in starts.items()},
        "ledger_residue": sum(residues),
        "rows": [summary(rate, [found[rate] for found in rounds]) for rate in (IDLE, *rates)],
    }


def one_round(bench: Bench, roads: dict[str, Road], rates: Sequence[float]) -> Round:
    """Both at rest at the same time, then by turns at each rate."""
    found = {IDLE: at_rest(roads, bench.pick(quick=8.0, full=20.0))}
    for road in roads.values():
        road.stretch(WARM_RATE, WARM_SECONDS)
    for rate in rates:
        seconds = SECONDS[rate] * bench.pick(quick=0.5, full=1.0)
        found[rate] = {name: at_rate(road, rate, seconds) for name, road in roads.items()}
    return found


def at_rest(roads: dict[str, Road], seconds: float) -> dict[str, Figures]:
    """Share of a core, wake-ups and memory while nothing happens."""
    time.sleep(SETTLE_SECONDS)
    loop = machine.loop_nanoseconds()
    watches = {name: Watch(road.bridge) for name, road in roads.items()}
    time.sleep(seconds)
    return {name: shares(road, *watches[name].stop(), loop=loop) for name, road in roads.items()}


def at_rate(road: Road, rate: float, seconds: float) -> Figures:
    """Every figure of one stretch."""
    road.sink.ask("clear")
    loop = machine.loop_nanoseconds()
    stretch = road.stretch(rate, seconds)
    latency = road.sink.ask("latency")
    of_streams = {name: found["p99"] for name, found in latency["streams"].items()}
    quantiles = {"p50": latency.get("p50"), "p99": latency.get("p99")}
    quantiles |= {f"{stream}_p99": p99 for stream, p99 in of_streams.items()}
    return {
        **shares(road, stretch.core_percent, stretch.wakeups_per_second, loop=loop),
        **{f"{name}_ms": 1e3 * found for name, found in quantiles.items() if found is not None},
        "cpu_us_per_event": stretch.cpu_us["bridge"],
        "wire_bytes_per_record": stretch.wire_bytes_per_record,
        "records_per_request": stretch.arrived / max(1, stretch.requests),
        "lost": stretch.lost,
    }


def shares(road: Road, core_percent: float, wakeups_per_second: float, *, loop: float) -> Figures:
    """What a process takes whatever it carries."""
    return {
        "core_percent": core_percent,
        "core_percent_scaled": core_percent * LOOP_NANOSECONDS / loop,
        "wakeups_per_second": wakeups_per_second,
        "resident_mib": road.bridge.resident_bytes() / 2**20,
        "loop_nanoseconds": loop,
    }


def summary(rate: float, rounds: Sequence[dict[str, Figures]]) -> Facts:
    """One rate: each figure's spread, and that of the ratios."""
    row: Facts = {"rate": round(rate)}
    for name in BRIDGES:
        each = [found[name] for found in rounds]
        shown = [figure for figure in each[0] if all(figure in one for one in each) and figure != "lost"]
        row[name] = {figure: spread([one[figure] for one in each]) for figure in shown}
        row[name]["lost"] = sum(round(one.get("lost", 0)) for one in each)
    row["ratio"] = {
        figure: spread([found["ours"][figure] / max(found["go"][figure], 1e-9) for found in rounds])
        for figure in RATIOS
        if figure in row["ours"] and figure in row["go"]
    }
    return row


def spread(values: Sequence[float]) -> Figures:
    """Median, least and most."""
    return {"median": shorter(median(values)), "least": shorter(min(values)), "most": shorter(max(values))}


def shorter(value: float) -> float:
    """Three digits that count, or all of a large number's before the point."""
    return round(value, 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3)
