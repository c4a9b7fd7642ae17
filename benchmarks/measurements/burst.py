"""The largest burst that nothing is dropped of: neither in KubeArmor's 1,000 slots nor in the bridge."""

from __future__ import annotations

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import Bench, Facts

LINE_RATE = 100_000.0
SIZES = (10_000, 20_000, 50_000, 100_000, 200_000)
QUICK_SIZES = (10_000, 50_000)


def measure(bench: Bench) -> Facts:
    """Each burst at a quiet bridge, at 100,000 events/s; a size that fails is tried once more."""
    rows, largest = [], 0
    for size in bench.pick(quick=QUICK_SIZES, full=SIZES):
        for _ in range(2):
            with bench.road(GRPC_GZIP) as road:
                road.stretch(bench.rate(1_000), 2)
                burst = road.send(bench.rate(LINE_RATE), size)
                inside = road.dropped_inside()
                row = {
                    "events": size,
                    "per_second": round(burst.per_second),
                    "dropped_upstream": burst.dropped,
                    "dropped_inside": inside,
                    "fullest_slots": burst.fullest,
                    "lost": burst.lost,
                    "peak_mib": round(road.bridge.peak_bytes() / 2**20, 1),
                }
                rows.append(row)
            if not burst.lost:
                largest = size
                break
        else:
            break
    return {"largest_without_loss": largest, "rows": rows}
