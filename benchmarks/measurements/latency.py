"""Time from an event's own time stamp to its arrival at the endpoint, of a bridge that neither lingers nor pauses.

On the way the event has been on disk. What the defaults take is in the yardstick.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import Bench, Facts

RATES = (100.0, 1_000.0, 10_000.0)
AT_ONCE = replace(
    GRPC_GZIP, name="gRPC, gzip, at once", sections={"send": {"linger_seconds": 0}, "feed": {"read_pause_seconds": 0}}
)


def measure(bench: Bench) -> Facts:
    """Quantiles in milliseconds for each rate."""
    rows = []
    seconds = bench.pick(quick=4.0, full=10.0)
    with bench.road(AT_ONCE) as road:
        road.stretch(bench.rate(1_000), 2)
        for rate in (bench.rate(rate) for rate in RATES):
            road.sink.ask("clear")
            stretch = road.stretch(rate, seconds)
            found = road.sink.ask("latency")
            quantiles = {
                f"{name}_ms": round(found[name] * 1e3, 2) for name in ("p50", "p99", "p999", "most") if name in found
            }
            rows.append({"rate": rate, "events": stretch.published, "lost": stretch.lost, **quantiles})
    return {"rows": rows}
