"""Bytes that a record takes in the queue, by mix and rate: the more records a batch has, the better it is packed."""

from __future__ import annotations

from benchmarks.bridges import GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts
from benchmarks.measurements.held import fill
from benchmarks.sizing import MIXES, RATES

LEAST_EVENTS = 100
SECONDS = 3.0


def measure(bench: Bench) -> Facts:
    """While the endpoint refuses, at each rate."""
    rates = bench.pick(quick=(100, 10_000), full=RATES)
    rows = []
    for mix, corpus in MIXES.items():
        with bench.road(GRPC_GZIP, Corpus(mix=corpus)) as road:
            road.stretch(bench.rate(STEADY_RATE), 0.5)
            road.sink.ask("refuse")
            for rate in rates:
                records, size = road.held(), road.held_bytes()
                fill(road, bench.rate(rate), max(LEAST_EVENTS, round(bench.rate(rate) * SECONDS)))
                records, size = road.held() - records, road.held_bytes() - size
                rows.append(
                    {"mix": mix, "rate": rate, "records": records, "bytes_per_record": round(size / max(1, records))}
                )
    return {"rows": rows}
