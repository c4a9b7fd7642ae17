"""CPU per event of each way of sending, of the SDK bridge, and of the Collector behind the bridge, turn by turn."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bridges import BEFORE_COLLECTOR, GRPC_GZIP, GRPC_NONE, HTTP_GZIP, HTTP_NONE, SDK, Bridge
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts, summary
from benchmarks.programs import COLLECTOR
from benchmarks.rig import Stretch

MIXED = "gRPC, gzip, 6 alerts to 93 logs"
SDK_RATE = 2_000.0
"""What the SDK bridge carries cleanly, with room for a busy machine."""


def measure(bench: Bench) -> Facts:
    """One row for each, with the SDK bridge's CPU per event divided by its own as `times_cheaper_than_sdk`."""
    contestants: list[tuple[Bridge, float, Corpus]] = [
        *((way, STEADY_RATE, Corpus()) for way in (GRPC_GZIP, GRPC_NONE, HTTP_GZIP, HTTP_NONE)),
        (SDK, SDK_RATE, Corpus()),
        (replace(GRPC_GZIP, name="gRPC, gzip, at the SDK bridge's rate"), SDK_RATE, Corpus()),
        (replace(GRPC_GZIP, name=MIXED), STEADY_RATE, Corpus(mix="mixed")),
    ]
    if COLLECTOR.exists():
        contestants.append((BEFORE_COLLECTOR, STEADY_RATE, Corpus()))
    taken: dict[str, list[Stretch]] = {bridge.name: [] for bridge, _, _ in contestants}
    for _ in range(bench.pick(quick=1, full=3)):
        for bridge, rate, corpus in contestants:
            seconds = bench.pick(quick=1.5, full=3.0)
            taken[bridge.name].append(bench.steady(bridge, rate=bench.rate(rate), seconds=seconds, corpus=corpus))
    rows = {name: summary(stretches) for name, stretches in taken.items()}
    sdk = rows[SDK.name]["cpu_us_per_event"]
    for row in rows.values():
        row["times_cheaper_than_sdk"] = round(sdk / row["cpu_us_per_event"], 2)
    facts: Facts = {"rows": rows}
    if BEFORE_COLLECTOR.name in rows:
        both = rows[BEFORE_COLLECTOR.name]
        facts["collector_ratio"] = round(both["collector_cpu_us_per_event"] / both["cpu_us_per_event"], 2)
    else:
        facts["collector"] = f"not measured: {COLLECTOR.name} is not built; `make collector` does"
    return facts
