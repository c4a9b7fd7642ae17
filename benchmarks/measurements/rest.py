"""What it costs to have the bridge at all: from start to subscription, and with three idle streams."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import Bench, Facts

SETTLE_SECONDS = 3.0


def measure_start(bench: Bench) -> Facts:
    """Seconds from the start of the process to the subscription, seen by the generator."""
    times = []
    for _ in range(bench.pick(quick=2, full=7)):
        with bench.road(GRPC_GZIP) as road:
            times.append(road.subscribed_seconds)
            spent = road.bridge.cpu_seconds()
    return {
        "seconds_to_subscribed": round(median(times), 2),
        "each": [round(seconds, 2) for seconds in times],
        "cpu_seconds": round(spent, 2),
    }


def measure_idle(bench: Bench) -> Facts:
    """CPU of a core while nothing happens, and resident memory."""
    seconds = bench.pick(quick=10.0, full=30.0)
    with bench.road(GRPC_GZIP) as road:
        time.sleep(SETTLE_SECONDS)
        before, began = road.bridge.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        spent, took = road.bridge.cpu_seconds() - before, time.monotonic() - began
        return {
            "percent_of_a_core": round(100 * spent / took, 2),
            "seconds": round(took),
            "resident_mib": round(road.bridge.resident_bytes() / 2**20, 1),
        }
