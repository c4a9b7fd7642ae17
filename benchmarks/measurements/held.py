"""Cost and memory while up to a million records are held, since the endpoint refuses them; then it takes them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts, grown
from benchmarks.rig import Road

LEVELS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_LEVELS = (1_000, 10_000, 50_000)
FILL_RATE = 16_000.0
"""Below what the bridge carries: what piles up before the queue is another matter, and bounded by the buffer."""
WINDOW_EVENTS = 10_000
TURNS = 5
SMALL = 20 * WINDOW_EVENTS
"""A backlog below this would have grown too much after some windows, and is let go before each."""
POLL_SECONDS = 0.2
MAX_WAIT_SECONDS = 60.0
ROOMY = replace(
    GRPC_GZIP,
    name="gRPC, gzip, a queue of 8 GiB",
    sections={
        "queue": {"max_bytes": 8 * 2**30},
        # The endpoint is asked every few seconds, and the backlog goes out as fast as it can.
        "send": {"retry_initial_seconds": 2, "retry_max_seconds": 5, "replay_rate_factor": 0},
    },
)


def measure(bench: Bench) -> Facts:
    """CPU per event of taking it in at each level, of sending it from the highest one, and resident memory there.

    Each level has a bridge of its own, and they take their turns, so that what else the machine does meets them all:
    `against_first` is the cost divided by that at the first level in the same round.
    """
    levels = bench.pick(quick=QUICK_LEVELS, full=LEVELS)
    with ExitStack() as stack:
        roads = {level: stack.enter_context(bench.road(ROOMY)) for level in levels}
        for road in roads.values():
            road.stretch(bench.rate(STEADY_RATE), 1)
        largest = roads[levels[-1]]
        empty = {"held": 0, "resident_mib": mib(largest.bridge.resident_bytes())}
        costs: dict[int, list[float]] = {level: [] for level in levels}
        resident: dict[int, float] = {}
        for turn in range(bench.pick(quick=2, full=TURNS)):
            for level, road in roads.items():
                hold(bench, road, level)
            for level in levels if turn % 2 else reversed(levels):
                costs[level].append(fill(roads[level], bench.rate(STEADY_RATE), WINDOW_EVENTS))
                resident[level] = mib(roads[level].bridge.resident_bytes())
        against = grown(costs)
        rows = [
            {
                "held": level,
                "intake_cpu_us_per_event": round(median(costs[level]), 1),
                "each": [round(cost, 1) for cost in costs[level]],
                "against_first": against[level],
                "resident_mib": resident[level],
            }
            for level in levels
        ]
        peak = mib(largest.bridge.peak_bytes())
        draining = drain(largest, levels)
        return {
            "intake": [empty, *rows],
            "sending": draining,
            "peak_mib_while_holding": peak,
            "peak_mib_after_sending": mib(largest.bridge.peak_bytes()),
            "ledger_residue": sum(road.residue() for road in roads.values()),
            "dropped_inside": sum(road.dropped_inside() for road in roads.values()),
        }


def mib(size: int) -> float:
    return round(size / 2**20, 1)


def hold(bench: Bench, road: Road, level: int) -> None:
    """Makes a bridge hold so many events, or, if these are a lot, not many more."""
    if level < SMALL and road.held() > level:
        road.sink.ask("accept")
        wait_for(lambda: road.held() == 0)
    road.sink.ask("refuse")
    while (missing := level - road.held()) > 0:
        fill(road, bench.rate(FILL_RATE), missing)


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it is so, or patience ends: then the figures will tell."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def fill(road: Road, rate: float, count: int) -> float:
    """Sends events that will be held, waits until they are, and returns the CPU per event in microseconds."""
    held, spent = road.held(), road.bridge.cpu_seconds()
    said = road.generator.ask(f"{rate} {count}", within_seconds=3 * count / rate + 60)
    taken = said["published"] - said["dropped"]
    wait_for(lambda: road.held() >= held + taken)
    spent = road.bridge.cpu_seconds() - spent
    return float(1e6 * spent / max(1, taken))


def drain(road: Road, levels: tuple[int, ...]) -> list[Facts]:
    """CPU per record sent between two levels, downwards, from the moment on at which the endpoint takes them again."""
    road.sink.ask("accept")
    held, sent, spent = road.held(), road.sink.ask("counts")["distinct"], road.bridge.cpu_seconds()
    began, deadline = time.monotonic(), time.monotonic() + 10 * MAX_WAIT_SECONDS
    rows: list[Facts] = []
    marks = [*(level // 2 for level in reversed(levels)), 0]
    while marks and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        now_held = road.held()
        if now_held > marks[0]:
            continue
        while marks and now_held <= marks[0]:
            marks.pop(0)
        now, now_sent, now_spent = time.monotonic(), road.sink.ask("counts")["distinct"], road.bridge.cpu_seconds()
        if (records := now_sent - sent) > 0:
            rows.append(
                {
                    "held_from": held,
                    "held_to": now_held,
                    "send_cpu_us_per_event": round(1e6 * (now_spent - spent) / records, 1),
                    "per_second": round(records / (now - began)),
                }
            )
        held, sent, spent, began = now_held, now_sent, now_spent, now
    return rows
