"""A relay with nodes behind it before a bridge with its default settings, and an oracle that compares all events."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.events import stamp_sequence, stamp_time
from otelbridge.simulator.faults import act_of, parse_fault
from otelbridge.simulator.generator import generate
from otelbridge.simulator.nodes import Nodes
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import RELAY, Profile, Relay
from tests.oracle import gap_records, numbers_of, unix_nano
from tests.peers.bridge import BridgeProcess, running_bridge

NAMES = ("node-a.example.internal", "node-b.example.internal")
STREAMS = (Stream.ALERTS, Stream.LOGS)
KUBEARMORS_OWN = "throttled"
"""The generator's events announce such gaps, too."""


class Published(NamedTuple):
    """One event, as the oracle remembers it."""

    number: int
    node: str
    stream: Stream
    unix_nano: int


class Covered(NamedTuple):
    """A gap record, as far as the oracle goes by it."""

    stream: str
    node: str
    started: int
    ended: int
    cause: str

    def covers(self, event: Published, slack_nanos: int) -> bool:
        return (
            self.stream in {event.stream.value, "all"}
            and self.node in {"", event.node}
            and self.started - slack_nanos <= event.unix_nano <= self.ended + slack_nanos
        )


class Stage:
    """Made by `stage`."""

    def __init__(
        self, nodes: Nodes, relay: Relay, line: TcpProxy, endpoint: OtlpEndpoint, bridge: BridgeProcess
    ) -> None:
        self.endpoint = endpoint
        self.bridge = bridge
        self.published: list[Published] = []
        self._happened: list[tuple[int, str]] = []
        self._nodes = nodes
        self._relay = relay
        self._line = line
        self._waiting = threading.Event()

    def pause(self, seconds: float) -> None:
        self._waiting.wait(seconds)

    def happen(self, fault: str) -> None:
        """The fault, from its beginning to its end, as far as it has to be undone."""
        self._happened.append((time.time_ns(), fault))
        parsed = parse_fault(f"{fault}@0s")
        undo = act_of(parsed, self._relay, self._line, self._nodes)()
        if callable(undo):
            self.pause(parsed.ends_after_seconds or 0)
            undo()

    @contextmanager
    def publishing(self, per_second_and_node: float) -> Iterator[None]:
        """Something happens on each node, as often as that."""
        stop = threading.Event()

        def publish() -> None:
            events = generate(1, streams=STREAMS)
            began = time.monotonic()
            for number, name in zip(itertools.count(), itertools.cycle(NAMES), strict=False):
                if stop.wait(max(0.0, began + number / per_second_and_node / len(NAMES) - time.monotonic())):
                    return
                stream, message = next(events)
                message.HostName = name
                now = time.time_ns()
                stamp_time(message, now)
                stamp_sequence(message, number)
                self.published.append(Published(number, name, stream, now))
                self._nodes.publish(name, stream, message.SerializeToString())

        thread = threading.Thread(target=publish, name="publisher")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def gaps(self) -> list[Covered]:
        """All gap records, but those that KubeArmor announces itself."""
        records = self.endpoint.log_records()
        of_gaps = [one for one in records if one.record.event_name == "otelbridge.gap"]
        nodes = [str(attributes(one.resource.attributes).get("k8s.node.name", "")) for one in of_gaps]
        return [
            Covered(
                stream=str(gap["otelbridge.gap.stream"]),
                node=node,
                started=unix_nano(gap["otelbridge.gap.start"]),
                ended=unix_nano(gap["otelbridge.gap.end"]),
                cause=str(gap["otelbridge.gap.cause"]),
            )
            for gap, node in zip(gap_records(records), nodes, strict=True)
            if gap["otelbridge.gap.cause"] != KUBEARMORS_OWN
        ]

    def missing(self) -> list[Published]:
        """Events that did not arrive."""
        arrived = numbers_of(self.endpoint.log_records())
        return [event for event in self.published if event.number not in arrived]

    def silently_missing(self, *, slack_nanos: int = 0) -> list[Published]:
        """Those of them that no gap record covers; with some slack where the machine has other things to do."""
        gaps = self.gaps()
        return [event for event in self.missing() if not any(gap.covers(event, slack_nanos) for gap in gaps)]

    def by_fault(self, events: list[Published]) -> Counter[str]:
        """After which fault they happened, and how many seconds (those of the first and the last)."""
        found: dict[str, list[float]] = {}
        for event in events:
            at, fault = max((one for one in self._happened if one[0] <= event.unix_nano), default=(0, "no fault"))
            found.setdefault(fault, []).append((event.unix_nano - at) / 1e9)
        return Counter({f"{fault} +{min(ats):.1f} to {max(ats):.1f} s": len(ats) for fault, ats in found.items()})


@contextmanager
def stage(folder: Path, profile: Profile = RELAY) -> Iterator[Stage]:
    """Two nodes, a relay, the line to it, a bridge with its default settings, an endpoint."""
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(profile=profile))
        line = stack.enter_context(TcpProxy(relay.endpoint))
        nodes = stack.enter_context(Nodes(relay, NAMES))
        endpoint = stack.enter_context(OtlpEndpoint())
        bridge = stack.enter_context(
            running_bridge(folder, feed={"endpoints": [line.endpoint]}, send={"endpoint": endpoint.grpc_endpoint})
        )
        bridge.wait_until_watching()
        yield Stage(nodes, relay, line, endpoint, bridge)
