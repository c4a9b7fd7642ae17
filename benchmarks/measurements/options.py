"""What options cost: twenty rules, counted floods, a second road, process traces: each beside a bridge without."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks import process_traces
from benchmarks.bridges import GRPC_GZIP, Bridge
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts
from benchmarks.rig import Road

PLAIN = "without"
TWO_ROADS = "two roads"
FLOOD = "a flood of hundreds of kinds, counted"
FLOOD_OF_ONE = "a flood of one kind, counted"
RULES = tuple(
    {"name": f"rule {number}", "action": "drop", "namespace": [f"nowhere-{number}-*"], "operation": ["File"]}
    for number in range(20)
)
"""None holds for any event, so each event is asked about all of them and delivered."""
OPTIONS: dict[str, Bridge] = {
    PLAIN: replace(GRPC_GZIP, name=PLAIN),
    "20 rules": replace(GRPC_GZIP, name="20 rules", sections={"gate": {"rules": RULES}}),
    FLOOD: replace(
        GRPC_GZIP,
        name=FLOOD,
        sections={
            "gate": {"flood": {"rate_per_second": 0.001, "burst": 1}},
            "queue": {"retain_seconds": 3600},
        },
    ),
    TWO_ROADS: replace(GRPC_GZIP, name=TWO_ROADS, two_roads=True),
}
TRACES = {"process traces: sessions": "sessions", "process traces: a process per event": "generated"}
"""Their events tell of processes, so they come from the simulator, at a rate that it reaches."""
TRACES_RATE = 5_000
SECONDS = 2.0
"""Of one option's turn in a round: 20,000 events, whose CPU is known to the microsecond."""
POLL_SECONDS = 0.2


def measure(bench: Bench) -> Facts:
    """CPU per event, until nothing is held any more; and its ratio to the plain one's of the same round."""
    rate, rounds = bench.rate(STEADY_RATE), bench.pick(quick=3, full=7)
    events = round(rate * SECONDS)
    pairs = compared(bench, OPTIONS, Corpus(), rate=rate, events=events, rounds=rounds)
    flood = {PLAIN: OPTIONS[PLAIN], FLOOD_OF_ONE: OPTIONS[FLOOD]}
    pairs |= compared(bench, flood, Corpus(kinds=1), rate=rate, events=events, rounds=rounds) | {PLAIN: pairs[PLAIN]}
    traces_seconds, rounds = bench.pick(quick=4.0, full=5.0), bench.pick(quick=1, full=2)
    for name, source in TRACES.items():
        pairs[name] = process_traces.compared(source, rate=TRACES_RATE, seconds=traces_seconds, rounds=rounds)
    return {
        "per_second": rate,
        "rows": [row(name, costs_of_both) for name, costs_of_both in pairs.items()],
    }


def compared(
    bench: Bench, bridges: dict[str, Bridge], corpus: Corpus, *, rate: float, events: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Of each bridge and round, microseconds per event of the plain one and of this one; warmed up by one more."""
    costs: dict[str, list[float]] = {name: [] for name in bridges}
    with ExitStack() as stack:
        roads = {name: stack.enter_context(bench.road(one, corpus)) for name, one in bridges.items()}
        for road in roads.values():
            watch_all(road)
            carry(road, rate, events)
        for turn in range(rounds):
            for name in list(roads) if turn % 2 else reversed(roads):
                costs[name].append(carry(roads[name], rate, events))
    return {name: list(zip(costs[PLAIN], each, strict=True)) for name, each in costs.items()}


def row(name: str, costs: list[tuple[float, float]]) -> Facts:
    """Of one option.

    Args:
        name: of the option.
        costs: microseconds per event without it and with it, of each round.
    """
    ratios = sorted(cost / plain for plain, cost in costs)
    return {
        "option": name,
        "cpu_us_per_event": round(median(cost for _, cost in costs), 1),
        "ratio": round(median(ratios), 2),
        "least": round(ratios[0], 2),
        "most": round(ratios[-1], 2),
    }


def watch_all(road: Road) -> None:
    """Returns once every subscription watches."""
    while any(one["state"] != "watching" for one in road.status()["subscriptions"]):
        time.sleep(POLL_SECONDS)
        road.bridge.check()


def carry(road: Road, rate: float, events: int) -> float:
    """Sends events, waits until all are received and nothing is held; microseconds of the bridge's CPU for each.

    A second road brings each event a second time, and it counts once.
    """
    before, spent = received(road), road.bridge.cpu_seconds()
    said = road.generator.ask(f"{rate} {events}", within_seconds=3 * events / rate + 60)
    copies = len(road.status()["subscriptions"])
    expected: int = before + copies * said["published"] - said["dropped"]
    while received(road) < expected or road.held():
        time.sleep(POLL_SECONDS)
        road.bridge.check()
    return 1e6 * copies * (road.bridge.cpu_seconds() - spent) / max(1, expected - before)


def received(road: Road) -> int:
    """Events that the bridge has received so far."""
    streams = road.status()["ledger"]["streams"]
    return sum(int(accounts["received"]) for name, accounts in streams.items() if name != "gaps")
