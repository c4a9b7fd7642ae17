"""Cost and memory while records are held: the endpoint refuses until there are a million, then takes them all."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts
from benchmarks.rig import Road

LEVELS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_LEVELS = (1_000, 10_000, 50_000)
FILL_RATE = 8_000.0
"""Below what the bridge carries: what piles up before the queue is another matter, and bounded by the hand-off."""
WINDOW_EVENTS = 10_000
WINDOWS = 3
LEAST_WINDOWS = 3
"""At the lowest level a window of its own size would be too short for /proc's 10 ms."""
LADDER_SECONDS = 6.0
"""After so long the couriers ask the refusing endpoint at their longest interval, at every level alike."""
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
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
    """CPU per event of taking it in at each level, of sending it at each level, and resident memory."""
    levels = bench.pick(quick=QUICK_LEVELS, full=LEVELS)
    with bench.road(ROOMY) as road:
        road.stretch(bench.rate(STEADY_RATE), 1)
        empty = {"held": 0, "resident_mib": mib(road.bridge.resident_bytes())}
        road.sink.ask("refuse")
        rows = [empty, *(at_level(bench, road, level) for level in levels)]
        peak = mib(road.bridge.peak_bytes())
        road.sink.ask("accept")
        draining = drain(road, levels)
        return {
            "intake": rows,
            "sending": draining,
            "peak_mib_while_holding": peak,
            "peak_mib_after_sending": mib(road.bridge.peak_bytes()),
            "ledger_residue": road.residue(),
            "dropped_inside": road.dropped_inside(),
        }


def mib(size: int) -> float:
    return round(size / 2**20, 1)


def at_level(bench: Bench, road: Road, level: int) -> Facts:
    """Fills up to a level, then takes the cost of some more events."""
    rate = bench.rate(STEADY_RATE)
    while (missing := level - road.held()) > 0:
        fill(road, bench.rate(FILL_RATE), missing)
    costs = [fill(road, rate, min(WINDOW_EVENTS, level)) for _ in range(WINDOWS)]
    return {
        "held": level,
        "intake_cpu_us_per_event": round(median(costs), 1),
        "each": [round(cost, 1) for cost in costs],
        "resident_mib": mib(road.bridge.resident_bytes()),
    }


def fill(road: Road, rate: float, count: int) -> float:
    """Sends events that will be held, waits until they are, and returns the CPU per event in microseconds."""
    held, spent = road.held(), road.bridge.cpu_seconds()
    said = road.generator.ask(f"{rate} {count}", within_seconds=3 * count / rate + 60)
    taken = said["published"] - said["dropped"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while road.held() < held + taken and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    spent = road.bridge.cpu_seconds() - spent
    return float(1e6 * spent / max(1, taken))


def drain(road: Road, levels: tuple[int, ...]) -> list[Facts]:
    """CPU per record sent between two levels, downwards."""
    held, sent, spent = road.held(), road.sink.ask("counts")["distinct"], road.bridge.cpu_seconds()
    began, deadline = time.monotonic(), time.monotonic() + 10 * PATIENCE_SECONDS
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
