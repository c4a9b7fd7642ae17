"""Readings: the mirrors, the ledger and the process go in, what the observable instruments show comes out."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.telemetry import names as n
from otelbridge.telemetry.ledger import Account, Posting
from otelbridge.telemetry.states import NANOSECONDS, States

Observed = Iterable[tuple[int | float, Mapping[str, str | int]]]
Reading = Callable[[], Observed]
"""What `Telemetry.observe` binds: called when metrics are collected, from any thread; must not block."""


def of_states(states: States) -> dict[str, Reading]:
    """The instruments that the mirrors feed."""
    return {
        "otelbridge.source.state": lambda: _states(
            ((s.upstream, s.state) for s in states.subscriptions()), n.SUBSCRIPTION_STATES
        ),
        "otelbridge.source.blind.time": lambda: [
            (
                0.0
                if s.blind_since_unix_nano is None
                else max(0.0, (time.time_ns() - s.blind_since_unix_nano) / NANOSECONDS),
                n.server(s.upstream),
            )
            for s in states.subscriptions()
        ],
        "otelbridge.source.stream.active": lambda: [
            (int(stream in s.streams), {n.STREAM: stream, **n.server(s.upstream)})
            for s in states.subscriptions()
            for stream in n.WATCH
        ],
        "otelbridge.delivery.state": lambda: _states(
            ((d.endpoint, d.state) for d in states.deliveries()), n.DELIVERY_STATES
        ),
        "otelbridge.delivery.delay": lambda: [(d.delay_seconds, n.server(d.endpoint)) for d in states.deliveries()],
    }


def _states(now: Iterable[tuple[str, str]], known: tuple[str, ...]) -> Observed:
    for address, state in now:
        for name in known:
            yield int(name == state), {**n.server(address), n.STATE: name}


def of_ledger(postings: Iterable[Posting], residue: Mapping[Stream, int]) -> dict[str, Observed]:
    """What the ledger's three instruments show; the queue's owner binds them, under its lock.

    Args:
        postings: the sums, from `Ledger.postings`.
        residue: from `Ledger.residue`.
    """
    sums = list(postings)
    return {
        "otelbridge.ledger.records": [
            (records, {n.STREAM: stream.value, n.ACCOUNT: account.value, **({n.REASON: reason} if reason else {})})
            for stream, account, reason, records in sums
        ],
        "otelbridge.ledger.residue": [(left, {n.STREAM: stream.value}) for stream, left in residue.items()],
        "otelbridge.event.dropped": [
            (records, {n.STREAM: stream.value, n.DROP_REASON: reason})
            for stream, account, reason, records in sums
            if account is Account.DROPPED
        ],
    }


def of_process() -> dict[str, Reading]:
    """CPU, memory, threads and file descriptors of this process, from the kernel."""
    page_bytes = resource.getpagesize()
    own = Path("/proc/self")

    def cpu() -> Observed:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [(used.ru_utime, {"cpu.mode": "user"}), (used.ru_stime, {"cpu.mode": "system"})]

    def memory() -> Observed:
        # statm: total and resident size in pages, see proc(5).
        return [(int((own / "statm").read_text(encoding="ascii").split()[1]) * page_bytes, {})]

    return {
        "process.cpu.time": cpu,
        "process.memory.usage": memory,
        "process.thread.count": lambda: [(sum(1 for _ in (own / "task").iterdir()), {})],
        "process.unix.file_descriptor.count": lambda: [(sum(1 for _ in (own / "fd").iterdir()), {})],
    }
