"""The figures that the project's README shows, from the measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bridges import GRPC_GZIP
from benchmarks.markdown import table

Facts = dict[str, Any]


def tables(results: Facts) -> str:
    """What it costs, a row each; what was not measured is left out."""
    rows = []
    for name, read in ROWS.items():
        try:
            rows.append((name, read(results["measurements"])))
        except KeyError:
            continue
    machine = results["machine"]
    head = f"{machine['cores']} cores of {machine['processor']}, shared with generator and endpoint"
    return table(("what it costs", head), rows) + "\n"


def _throughput(found: Facts) -> str:
    highest = found["sustained"]["rows"][GRPC_GZIP.name]["highest_clean_per_second"]
    return f"{highest:,} events/s without a loss"


def _cost(found: Facts) -> str:
    row = found["cost"]["rows"][GRPC_GZIP.name]
    sdk = f"the SDK's log pipeline, without a queue: {row['times_cheaper_than_sdk']} times as much"
    return f"{row['cpu_us_per_event']} µs; {sdk}"


def _against_go(found: Facts) -> str:
    rows = {row["rate"]: row for row in found["yardstick"]["rows"]}
    ratios = (
        f"{rows[rate]['ratio']['cpu_us_per_event']['median']:.2g} times at {rate:,}/s"
        for rate in (20, 500, 2_000, 30_000)
    )
    return ", ".join(ratios)


def _latency(found: Facts) -> str:
    (row,) = (row["ours"] for row in found["yardstick"]["rows"] if row["rate"] == 500)
    return f"{row['alerts_p99_ms']['median']:.0f} ms for alerts, {row['logs_p99_ms']['median']:.0f} ms for logs (99 %)"


def _memory(found: Facts) -> str:
    held, peak = found["held"]["intake"][-1]["held"], found["held"]["peak_mib_while_holding"]
    return f"{found['idle']['resident_mib']} MiB idle, {peak} MiB with {held:,} events held"


def _idle(found: Facts) -> str:
    start = f"subscribed {found['start']['seconds_to_subscribed']} s after the start"
    return f"{found['idle']['percent_of_a_core']} % of a core; {start}"


ROWS: dict[str, Callable[[Facts], str]] = {
    "throughput, queue on disk": _throughput,
    "CPU per event at 10,000/s": _cost,
    "CPU beside a minimal bridge in Go that has no queue": _against_go,
    "from event to endpoint at 500/s": _latency,
    "resident memory": _memory,
    "three idle streams": _idle,
}
