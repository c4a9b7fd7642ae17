"""How the cost of an event changes with the rate, the number of pods, the size of an event, and of a request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from benchmarks.bridges import GRPC_GZIP, Bridge
from benchmarks.corpus import Corpus, corpus_file, mean_event_bytes
from benchmarks.measurements import held
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts, grown, summary
from benchmarks.programs import BUILD
from benchmarks.rig import Stretch

RATES = (100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
QUICK_RATES = (300.0, 3_000.0)
PODS = (10, 200, 1_000, 2_000)
PADDING_BYTES = (0, 1_000, 4_000)
REQUEST_RECORDS = (16, 128, 1_024, 8_192)
ROUNDS = 2
TURNS = 5
"""Rounds of what is compared side by side, on roads that are all open."""
PODS_WARM_RATE = 20_000.0
SIZE_RATE = 2_000.0
"""Events of 5 KiB cost several times as much as small ones."""
BATCH_FILL_RATE = 1_500.0
BATCH_EVENTS = 8_000

Contestants = Mapping[int, tuple[Bridge, Corpus]]


class Warm(NamedTuple):
    """What goes through a road before it is measured."""

    rate: float
    events: int


def measure_rate(bench: Bench) -> Facts:
    """Events at a rate: at a low one a request holds few of them, at a high one many."""
    taken: dict[float, list[Stretch]] = {rate: [] for rate in bench.pick(quick=QUICK_RATES, full=RATES)}
    for _ in range(bench.pick(quick=1, full=ROUNDS)):
        for rate, stretches in taken.items():
            stretches.append(bench.steady(GRPC_GZIP, rate=bench.rate(rate), seconds=bench.pick(quick=2.0, full=3.0)))
    rows = [{"rate": round(bench.rate(rate)), **summary(stretches)} for rate, stretches in taken.items()]
    return {
        "rows": [{**row, "percent_of_a_core": round(row["cpu_us_per_event"] * row["rate"] / 1e4, 1)} for row in rows]
    }


def measure_pods(bench: Bench) -> Facts:
    """Mixed events of a cluster with so many pods on 20 nodes."""
    pods = bench.pick(quick=(10, 2_000), full=PODS)
    corpora = {n: Corpus(mix="mixed", pods=n) for n in pods}
    # Once all of the corpus has gone through, every pod has been met, by alerts and by logs: what a pod costs when it
    # is new is paid once in its life.
    warm = Warm(rate=PODS_WARM_RATE, events=corpora[pods[0]].events)
    rows = in_turn(bench, {n: (GRPC_GZIP, corpus) for n, corpus in corpora.items()}, rate=STEADY_RATE, warm=warm)
    return {"rows": [{"pods": n, **row} for n, row in rows.items()]}


def measure_size(bench: Bench) -> Facts:
    """Events with so much more in their Source."""
    sizes = bench.pick(quick=(0, 4_000), full=PADDING_BYTES)
    corpora = {n: Corpus(padding_bytes=n, events=50_000 if n < 4_000 else 10_000) for n in sizes}
    warm = Warm(rate=SIZE_RATE, events=round(SIZE_RATE))
    rows = in_turn(bench, {n: (GRPC_GZIP, corpus) for n, corpus in corpora.items()}, rate=SIZE_RATE, warm=warm)
    mean = {n: round(mean_event_bytes(corpus_file(corpus, BUILD), corpus)) for n, corpus in corpora.items()}
    return {"rows": [{"event_bytes": mean[n], **row} for n, row in rows.items()]}


def measure_batch(bench: Bench) -> Facts:
    """What sending an event costs in requests of at most so many records, from a backlog of small batches."""
    limits = bench.pick(quick=(16, 8_192), full=REQUEST_RECORDS)
    taken: dict[int, list[Facts]] = {limit: [] for limit in limits}
    for _ in range(bench.pick(quick=1, full=ROUNDS)):
        for limit, found in taken.items():
            found.append(send_backlog(bench, limit))
    rows = []
    for limit, found in taken.items():
        costs = [one["cost"] for one in found]
        rows.append(
            {
                "max_request_records": limit,
                "records_per_request": round(median(one["records_per_request"] for one in found), 1),
                "cpu_us_per_event": round(median(costs), 1),
                "cpu_us_per_event_each": [round(cost, 1) for cost in costs],
                "lost": sum(one["lost"] for one in found),
            }
        )
    return {"rows": rows}


def send_backlog(bench: Bench, limit: int) -> Facts:
    """Holds some events back, then takes the CPU of sending them.

    A batch is never cut to fit the limit, so they have to be put in small ones: they come slowly.
    """
    send = {"max_request_records": limit, "retry_initial_seconds": 1, "retry_max_seconds": 2, "replay_rate_factor": 0}
    with bench.road(replace(GRPC_GZIP, sections={"send": send})) as road:
        road.stretch(bench.rate(STEADY_RATE), 1)
        before = road.sink.ask("counts")
        road.sink.ask("refuse")
        held.fill(road, bench.rate(BATCH_FILL_RATE), BATCH_EVENTS)
        spent = road.bridge.cpu_seconds()
        road.sink.ask("accept")
        after = road.wait_until_arrived(before["distinct"] + BATCH_EVENTS)
        sent = max(1, after["distinct"] - before["distinct"])
        return {
            "cost": 1e6 * (road.bridge.cpu_seconds() - spent) / sent,
            "records_per_request": sent / max(1, after["requests"] - before["requests"]),
            "lost": BATCH_EVENTS - sent,
        }


def in_turn(bench: Bench, contestants: Contestants, *, rate: float, warm: Warm) -> dict[int, Facts]:
    """Every contestant for some seconds, over and over, every second time backwards, on roads that stay open.

    `against_first` is the cost divided by that of the first contestant in the same round.
    """
    taken: dict[int, list[Stretch]] = {number: [] for number in contestants}
    with ExitStack() as stack:
        roads = {number: stack.enter_context(bench.road(*contestant)) for number, contestant in contestants.items()}
        for road in roads.values():
            road.send(bench.rate(warm.rate), bench.pick(quick=warm.events // 10, full=warm.events))
        for turn in range(bench.pick(quick=2, full=TURNS)):
            for number in list(roads) if turn % 2 else reversed(roads):
                taken[number].append(roads[number].stretch(bench.rate(rate), bench.pick(quick=1.0, full=2.0)))
    against = grown({number: [stretch.cpu_us["bridge"] for stretch in each] for number, each in taken.items()})
    return {number: {**summary(each), "against_first": against[number]} for number, each in taken.items()}
