"""`make bench`: runs the measurements, each in processes of its own, and writes results.json, pictures, README.md."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.measurements import (
    burst,
    components,
    cost,
    disk,
    growth,
    held,
    kept,
    latency,
    options,
    rest,
    soak,
    sustained,
    yardstick,
)
from benchmarks.measurements.bench import Bench, Facts
from benchmarks.programs import FALLBACK, build_programs

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One of those that can be selected."""

    what: str
    measure: Callable[[Bench], Facts]


MEASUREMENTS = {
    "start": Measurement("from start to subscribed", rest.measure_start),
    "cost": Measurement("CPU per event, beside the SDK bridge and the Collector", cost.measure),
    "yardstick": Measurement("every figure of a node's bridge, beside a minimal Go bridge", yardstick.measure_mixed),
    "yardstick_alerts": Measurement("the same with policy alerts only", yardstick.measure_alerts),
    "options": Measurement("what rules, floods and a second road cost", options.measure),
    "components": Measurement("CPU per event by thread and component", components.measure),
    "latency": Measurement("from event to arrival", latency.measure),
    "disk": Measurement("from receipt to disk", disk.measure),
    "burst": Measurement("largest burst without a drop", burst.measure),
    "sustained": Measurement("events per second without loss", sustained.measure),
    "held": Measurement("cost and memory against the backlog", held.measure),
    "kept": Measurement("bytes that a record takes in the queue", kept.measure),
    "rate": Measurement("cost against the rate", growth.measure_rate),
    "pods": Measurement("cost against the number of pods", growth.measure_pods),
    "size": Measurement("cost against the size of an event", growth.measure_size),
    "batch": Measurement("cost against the size of a request", growth.measure_batch),
    "idle": Measurement("CPU and memory of three idle streams", rest.measure_idle),
    "soak": Measurement("memory over ten minutes", soak.measure),
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for: `names`, `quick`, `rounds`, `no_go`."""
    listed = "".join(f"\n  {name:<16} {one.what}" for name, one in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"measurements:{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="MEASUREMENT", help="only these; the others keep their figures")
    parser.add_argument("--quick", action="store_true", help="two minutes in place of thirty: fewer points, no medians")
    parser.add_argument("--rounds", type=int, default=0, help="of the yardstick: 3 of all rates take six minutes")
    parser.add_argument("--no-go", action="store_true", help="the Python programs, as where Go is missing")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    return asked


def main() -> None:
    asked = parse()
    bench = Bench(programs=FALLBACK if asked.no_go else build_programs(), quick=asked.quick, rounds=asked.rounds)
    results = read_results()
    results["machine"] = machine.describe()
    for name in asked.names or MEASUREMENTS:
        results["measurements"][name] = run_one(name, bench)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for file in report.write(results):
        print(f"written: {file}")


def run_one(name: str, bench: Bench) -> Facts:
    """A measurement's figures, and what they were measured under."""
    one = MEASUREMENTS[name]
    print(f"{name}: {one.what} ...", flush=True)
    load, loop = machine.load(), machine.loop_nanoseconds()
    busy, began = machine.busy_seconds(), time.monotonic()
    facts = one.measure(bench)
    busy_after = machine.busy_seconds()
    spent, idle = busy_after[0] - busy[0], busy_after[1] - busy[1]
    under = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "form": "quick" if bench.quick else "full",
        "load_average_before": load,
        "load_average_after": machine.load(),
        "loop_nanoseconds_before": loop,
        "loop_nanoseconds_after": machine.loop_nanoseconds(),
        "machine_busy_percent": round(100 * spent / max(spent + idle, 1e-9)),
        "generator": "grpc-go" if bench.programs.native else "python",
        "seconds": round(time.monotonic() - began),
    }
    print(f"{name}: {under['seconds']} s, load {load} to {under['load_average_after']}", flush=True)
    return {"what": one.what, "under": under, **facts}


def read_results() -> dict[str, Any]:
    if RESULTS.exists():
        results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
        return results
    return {"measurements": {}}


if __name__ == "__main__":
    main()
