"""Resident memory over ten minutes of events, in and out: whether it stays where it is once everything is warm."""

from __future__ import annotations

from statistics import median

from benchmarks.bridges import GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import Bench, Facts

RATE = 5_000.0
STEP_SECONDS = 30.0
WARM_STEPS = 2
STEPS, QUICK_STEPS = 20, 1


def measure(bench: Bench) -> Facts:
    """Resident memory after each half minute, and how much more it is in the last third than in the first.

    The first minute does not count: caches fill, and the queue's file reaches its size.
    """
    seconds = bench.pick(quick=5.0, full=STEP_SECONDS)
    rows = []
    with bench.road(GRPC_GZIP, Corpus(mix="mixed")) as road:
        for step in range(1, WARM_STEPS + bench.pick(quick=QUICK_STEPS, full=STEPS) + 1):
            stretch = road.stretch(bench.rate(RATE), seconds)
            rows.append(
                {
                    "minutes": round(step * seconds / 60, 1),
                    "resident_mib": round(road.bridge.resident_bytes() / 2**20, 1),
                    "lost": stretch.lost,
                }
            )
        residue = road.residue()
    warm = [row["resident_mib"] for row in rows[WARM_STEPS:]]
    third = max(1, len(warm) // 3)
    return {
        "rate": bench.rate(RATE),
        "minutes": rows[-1]["minutes"],
        "rows": rows,
        "grown_mib": round(median(warm[-third:]) - median(warm[:third]), 1),
        "lost": sum(row["lost"] for row in rows),
        "ledger_residue": residue,
    }
