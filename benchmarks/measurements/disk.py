"""Time from an event's receipt to the disk, seen from outside: until its batch can be read in the queue's file."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Self

from benchmarks.bridges import GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.bench import Bench, Facts

RATES = (20.0, 100.0, 500.0, 2_000.0)
LOOK_SECONDS = 0.001


class Onlooker:
    """Reads the queue's file over and over while the bridge writes it, and notes when each batch turns up.

    A transaction that another process can read is in the file as the kernel has it: a killed process does not take it
    along. What is noted for a batch is the wait of its oldest event, so of the one that waited longest. A batch that is
    sent and deleted between two looks is missed, which `records` tells.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="onlooker")
        self.seconds: list[float] = []
        """One for each batch that was seen."""
        self.records = 0
        """How many were in them. Of a batch that was refused and split, its parts count too."""
        self.batches: set[int] = set()
        """Their numbers."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        connection = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, isolation_level=None)
        try:
            while not self._over.wait(LOOK_SECONDS):
                rows = connection.execute("SELECT id, records, oldest FROM batches").fetchall()
                now = time.time_ns()
                for batch, records, received in rows:
                    if batch not in self.batches:
                        self.batches.add(batch)
                        self.records += records
                        self.seconds.append((now - received) / 1e9)
        finally:
            connection.close()


def measure(bench: Bench) -> Facts:
    """Quantiles over the batches at each rate, in milliseconds, for 6 alerts to 93 logs."""
    rows = []
    seconds = bench.pick(quick=4.0, full=15.0)
    with bench.road(GRPC_GZIP, Corpus(mix="mixed")) as road:
        road.stretch(bench.rate(1_000), 2)
        (file,) = (road.folder / "queue").glob("*.db")
        for rate in (bench.rate(rate) for rate in RATES):
            with Onlooker(file) as onlooker:
                stretch = road.stretch(rate, seconds)
            waited = sorted(onlooker.seconds)
            rows.append(
                {
                    "rate": round(rate),
                    "batches": len(waited),
                    "records_seen_percent": round(100 * onlooker.records / max(1, stretch.published)),
                    **{
                        f"{name}_ms": round(1e3 * waited[min(len(waited) - 1, int(quantile * len(waited)))], 2)
                        for name, quantile in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))
                        if waited
                    },
                }
            )
    return {"rows": rows}
