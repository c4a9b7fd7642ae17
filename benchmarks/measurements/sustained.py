"""Events per second that the whole road carries on this machine without loss and without falling behind."""

from __future__ import annotations

from benchmarks.bridges import GRPC_GZIP, HTTP_GZIP, SDK, Bridge
from benchmarks.measurements.bench import Bench, Facts, as_facts

FIRST_RATE = {"otelbridge": 8_000.0, "sdk": 1_200.0}
STEP, QUICK_STEP = 1.25, 1.6
MOST_RATE = 100_000.0
BAR_PER_SECOND = 30_000.0
BAR_SECONDS = 60.0


def measure(bench: Bench) -> Facts:
    """The highest clean rate of each bridge; in the full form, 30,000/s for a minute too."""
    facts: Facts = {"rows": {bridge.name: search(bench, bridge) for bridge in (GRPC_GZIP, SDK)}}
    if not bench.quick:
        facts["bar"] = {bridge.name: attempt(bench, bridge) for bridge in (GRPC_GZIP, HTTP_GZIP)}
    return facts


def search(bench: Bench, bridge: Bridge) -> Facts:
    """Raises the rate step by step until two attempts at one are not clean.

    A stretch that fails may have failed for what else the machine had to do, so each rate has a second chance, on a new
    road: what the first one left behind must not count.
    """
    seconds = bench.pick(quick=2.0, full=4.0)
    rate, best, tried = bench.rate(FIRST_RATE[bridge.kind]), 0.0, []
    while rate <= MOST_RATE:
        for _ in range(2):
            stretch = bench.steady(bridge, rate=rate, seconds=seconds)
            facts = as_facts(stretch)
            tried.append({key: facts[key] for key in ("per_second", "clean", "lost", "lag_seconds", "fullest")})
            tried[-1]["rate"] = round(rate)
            if stretch.clean:
                break
        else:
            break
        best = max(best, stretch.per_second)
        rate *= bench.pick(quick=QUICK_STEP, full=STEP)
    return {"highest_clean_per_second": round(best), "seconds_each": seconds, "tried": tried}


def attempt(bench: Bench, bridge: Bridge) -> Facts:
    """The rate and time that the project asks of itself, whatever comes of it."""
    with bench.road(bridge) as road:
        road.stretch(bench.rate(BAR_PER_SECOND / 3), 2)
        facts = as_facts(road.stretch(bench.rate(BAR_PER_SECOND), BAR_SECONDS))
        facts["dropped_inside"] = road.dropped_inside()
        facts["ledger_residue"] = road.residue()
        facts["peak_mib"] = round(road.bridge.peak_bytes() / 2**20, 1)
        return facts
