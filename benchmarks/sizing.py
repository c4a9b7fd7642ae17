"""The figures that docs/sizing.md advises by, from the measurements: CPU by rate, memory, and what a queue holds."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import table
from otelbridge.queue.settings import MIB, QueueSettings

Facts = dict[str, Any]

RATES = (10, 100, 1_000, 10_000)
HOUR_SECONDS = 3600
BY_RATE = {
    "core_percent": "% of a core",
    "resident_mib": "resident MiB",
    "records_per_request": "records per request",
}


def tables(found: Facts) -> str:
    """What was measured of these; the machine stands in the benchmark's own page."""
    parts = []
    if "yardstick" in found:
        loaded = [row for row in found["yardstick"]["rows"] if row["rate"]]
        rows = [(f"{row['rate']:,}", *(row["ours"][figure]["median"] for figure in BY_RATE)) for row in loaded]
        parts.append(table(("events/s", *BY_RATE.values()), rows))
    if {"idle", "held"} <= found.keys():
        held = found["held"]["intake"][-1]
        peak = found["held"]["peak_mib_while_holding"]
        parts.append(
            f"Resident memory: {found['idle']['resident_mib']} MiB idle, {held['resident_mib']} MiB with "
            f"{held['held']:,} events held, {peak} MiB at the peak."
        )
    if "kept" in found:
        limit = QueueSettings().max_bytes // MIB
        kept = [
            (row["mix"], f"{row['rate']:,}", row["bytes_per_record"], hours(row["bytes_per_record"], row["rate"]))
            for row in found["kept"]["rows"]
        ]
        head = ("mix", "events/s", "bytes of a record in the queue", "until it is full")
        parts.append(f"How long an outage the default queue of {limit} MiB survives:\n\n{table(head, kept)}")
    return "\n\n".join(parts) + "\n"


MIXES = {"policy alerts": "alerts", "6 alerts to 93 logs": "mixed"}


def hours(record_bytes: float, rate: float) -> str:
    """How long until the default queue is full."""
    seconds = QueueSettings().max_bytes / record_bytes / rate
    return f"{seconds / HOUR_SECONDS:.1f} h" if seconds >= HOUR_SECONDS else f"{seconds / 60:.1f} min"
