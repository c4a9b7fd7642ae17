"""The largest burst that nothing is dropped of: neither in KubeArmor's 1,000 slots nor in the bridge."""

from __future__ import annotations

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import Bench, Facts
from benchmarks.rig import Road

LINE_RATE = 100_000.0
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
QUICK_SIZES = (2_000, 10_000, 50_000)
TRIES = 3
"""A burst lasts for a fraction of a second: on a shared machine whether it passes is also luck."""


def measure(bench: Bench) -> Facts:
    """Bursts of each size at a bridge that is up and quiet, at 100,000 events/s; largest: every try of it passed."""
    with bench.road(GRPC_GZIP) as road:
        road.stretch(bench.rate(1_000), 2)
        rows = [bursts(bench, road, size) for size in bench.pick(quick=QUICK_SIZES, full=SIZES)]
        peak = round(road.bridge.peak_bytes() / 2**20, 1)
    whole = [row["events"] for row in rows if not row["lost"]]
    return {"largest_without_loss": max(whole, default=0), "peak_mib": peak, "rows": rows}


def bursts(bench: Bench, road: Road, size: int) -> Facts:
    """Some bursts of one size, each after all of the one before has arrived."""
    inside = road.dropped_inside()
    made = [road.send(bench.rate(LINE_RATE), size) for _ in range(TRIES)]
    return {
        "events": size,
        "per_second": round(min(burst.per_second for burst in made)),
        "dropped_upstream": [burst.dropped for burst in made],
        "dropped_inside": road.dropped_inside() - inside,
        "fullest_slots": max(burst.fullest for burst in made),
        "lost": sum(burst.lost for burst in made),
    }
