"""An upstream that goes dumb without a word, a bridge that watches it, and how long the bridge took to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from otelbridge.event import UPSTREAM_STREAMS, GapCause
from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.oracle import gap_records, unix_nano
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.netns import SERVER_ADDRESS, inside, network_pair
from tests.simulated import SimulatorProcess
from tests.waiting import eventually

SIMULATOR = ("--rate", "50", "--loop", "--stay")
"""Events per second, so that the last event dates the gap."""
SECOND = 1_000_000_000
NOTICE_SECONDS = 40.0
RECOVER_SECONDS = 60.0
AWAY_SECONDS = 1.0
"""The upstream stays dumb for so long after the bridge has noticed: an attempt or two fail."""


class Upstream(Protocol):
    """A simulated KubeArmor, and its fault."""

    endpoint: str

    def fail(self) -> None:
        """Goes dumb."""

    def cure(self) -> None:
        """Speaks again."""


class Freeze:
    """SIGSTOP: its kernel still acknowledges."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._simulator = self._stack.enter_context(SimulatorProcess(SIMULATOR))
        self.endpoint = self._simulator.endpoint
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fail(self) -> None:
        self._simulator.freeze()

    def cure(self) -> None:
        self._simulator.thaw()


class Cut:
    """A black hole between two network namespaces. While the context lasts, the calling thread is in the client's."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._pair = self._stack.enter_context(network_pair())
        simulator = SimulatorProcess((*SIMULATOR, "--host", SERVER_ADDRESS), prefix=self._pair.on_server)
        self.endpoint = self._stack.enter_context(simulator).endpoint
        self._stack.enter_context(inside(self._pair.client))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fail(self) -> None:
        self._pair.cut()

    def cure(self) -> None:
        self._pair.mend()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blinded:
    """What a bridge made of it."""

    noticed_seconds: float
    gap_streams: set[object]
    gap_causes: set[object]
    gap_start_off_by_seconds: float
    """Of the gap record that is furthest from the truth, without its sign."""
    recovered_seconds: float
    """From the cure to the end of the last gap."""
    longest_wait_seconds: float
    """The longest pause between attempts that was seen."""
    events_flow_again: bool
    balanced: bool


def blind(
    folder: Path, upstream: Upstream, *, feed: Mapping[str, Any] | None = None, after_seconds: float = 0
) -> Blinded:
    """Watches the upstream, lets it fail, waits until that is noticed, cures it, waits until events flow.

    Args:
        folder: for the bridge.
        upstream: what is watched.
        feed: the bridge's settings.
        after_seconds: of healthy watching; decides where in the heartbeat's interval the fault falls.
    """
    with (
        OtlpEndpoint() as endpoint,
        running_bridge(
            folder,
            feed={"endpoints": [upstream.endpoint], **(feed or {})},
            send={"endpoint": endpoint.grpc_endpoint},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        endpoint.wait_for_records(100, within=20)
        threading.Event().wait(after_seconds)
        upstream.fail()
        failed_at, failed_unix_nano = time.monotonic(), time.time_ns()
        eventually(lambda: state(bridge) not in {"watching", "suspect"}, within_seconds=NOTICE_SECONDS)
        noticed = time.monotonic() - failed_at
        waits = [0.0]
        cure_at = time.monotonic() + AWAY_SECONDS
        eventually(lambda: note_wait(bridge, waits) and time.monotonic() >= cure_at, within_seconds=AWAY_SECONDS + 5)
        upstream.cure()
        cured = time.time_ns()
        eventually(lambda: note_wait(bridge, waits) and state(bridge) == "watching", within_seconds=RECOVER_SECONDS)
        records = endpoint.counts().records
        flowing = bool(eventually(lambda: endpoint.counts().records > records + 50, within_seconds=20))
        eventually(lambda: len(gaps_of(endpoint)) >= len(UPSTREAM_STREAMS), within_seconds=20, why="each stream's gap")
        gaps = gaps_of(endpoint)
        starts = [(unix_nano(gap["otelbridge.gap.start"]) - failed_unix_nano) / SECOND for gap in gaps]
        ends = [(unix_nano(gap["otelbridge.gap.end"]) - cured) / SECOND for gap in gaps]
        balanced = bridge.balances()
        assert bridge.stop() == 0
    return Blinded(
        noticed_seconds=round(noticed, 2),
        gap_streams={gap["otelbridge.gap.stream"] for gap in gaps},
        gap_causes={gap["otelbridge.gap.cause"] for gap in gaps},
        gap_start_off_by_seconds=round(max(abs(start) for start in starts), 2),
        recovered_seconds=round(max(ends), 2),
        longest_wait_seconds=round(max(waits), 2),
        events_flow_again=flowing,
        balanced=balanced,
    )


def gaps_of(endpoint: OtlpEndpoint) -> list[dict[str, object]]:
    """But not those that KubeArmor itself reports (one is among the samples), nor what is only suspected."""
    gaps = gap_records(endpoint.log_records())
    return [
        gap
        for gap in gaps
        if gap["otelbridge.gap.cause"] != GapCause.THROTTLED and not gap.get("otelbridge.gap.suspected")
    ]


def state(bridge: BridgeProcess) -> object:
    return bridge.status()["subscriptions"][0]["state"]


def note_wait(bridge: BridgeProcess, waits: list[float]) -> bool:
    waits.append(bridge.status()["subscriptions"][0]["next_attempt_in_seconds"] or 0.0)
    return True
