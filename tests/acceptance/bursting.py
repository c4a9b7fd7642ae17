"""A burst of events into a bridge whose endpoint is slow: who lost how many, by whose account."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Hang
from otelbridge.simulator.process import SimulatorProcess
from tests.integration.simulator.watching import Watch, channel_to
from tests.peers.bridge import running_bridge
from tests.waiting import eventually

SLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """The accounts after a burst."""

    published: int
    upstream_dropped: int
    """By the relay, because its 1,000 slots were full: the reader was too slow."""
    received: int
    locally_dropped: int
    """By the bridge's own counter."""
    lost_by_gap_records: int
    held: int
    balanced: bool
    peak_memory_bytes: int


def burst(folder: Path, *, per_second: int, seconds: float, handoff_max_events: int = 100_000) -> Burst:
    """Alerts at a rate, from a process of their own, while each export takes a second."""
    with (
        upstream_of(per_second, seconds) as upstream,
        OtlpEndpoint(answers=lambda _: Hang(seconds=SLOW_SECONDS)) as endpoint,
        running_bridge(
            folder,
            bridge={"drain_seconds": 1},
            feed={"endpoints": [upstream.endpoint], "streams": ["alerts"], "handoff_max_events": handoff_max_events},
            send={"endpoint": endpoint.grpc_endpoint},
        ) as bridge,
    ):
        summary = upstream.wait(within_seconds=10 * seconds + 60)["counts"][Stream.ALERTS]
        sent = summary["published"] - summary["unheard"] - summary["dropped"] - summary["discarded"]
        eventually(lambda: bridge.balance("alerts")["received"] == sent, within_seconds=30, why="all sent is accounted")
        eventually(lambda: bridge.status()["handoff"]["events"] == 0, within_seconds=30, why="the hand-off is empty")
        figures = Burst(
            published=summary["published"],
            upstream_dropped=summary["dropped"],
            received=sent,
            locally_dropped=bridge.status()["handoff"]["dropped"],
            lost_by_gap_records=lost(bridge.status()["gaps"]),
            held=bridge.held(),
            balanced=bridge.balances(),
            peak_memory_bytes=bridge.process.peak_memory_bytes(),
        )
        assert bridge.stop() == 0
    return figures


def upstream_of(per_second: int, seconds: float) -> SimulatorProcess:
    """A relay that publishes alerts at that rate for so long once it is subscribed to, and ends."""
    count = str(round(per_second * seconds))
    return SimulatorProcess(
        ("--source", "generated", "--streams", "alerts", "--rate", str(per_second), "--count", count)
    )


def dropped_for_a_bare_reader(*, per_second: int, seconds: float) -> int:
    """What the relay drops for a client that does nothing but read: then the relay is too slow, or the machine."""
    with upstream_of(per_second, seconds) as upstream, channel_to(upstream.endpoint) as channel, Watch(channel):
        return int(upstream.wait(within_seconds=10 * seconds + 60)["counts"][Stream.ALERTS]["dropped"])


def lost(gaps: list[dict[str, int | None]]) -> int:
    """What the overflow's gaps say was lost."""
    return sum(gap["lost_records"] or 0 for gap in gaps)
