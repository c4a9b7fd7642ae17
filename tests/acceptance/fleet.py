"""Several nodes of KubeArmor, each behind a network of its own, with numbered events and every fault of the field."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from otelbridge.simulator.endpoint import ReceivedLog
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import NODE, Relay
from tests.oracle import Publisher, missing_without_a_gap

NUMBERS_PER_NODE = 10_000_000
GRACE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Node:
    """One KubeArmor, and the line to it."""

    relay: Relay
    line: TcpProxy
    publisher: Publisher


class Fleet:
    """Made by `fleet`. A fault method returns when the fault is over."""

    def __init__(self, nodes: list[Node], chance: random.Random) -> None:
        self.nodes = nodes
        self._chance = chance
        self._never = threading.Event()

    @property
    def endpoints(self) -> list[str]:
        return [node.line.endpoint for node in self.nodes]

    def planned_restart(self, node: Node, *, away_seconds: float) -> None:
        """GOAWAY, the end, a pause, and back."""
        node.relay.stop(GRACE_SECONDS)
        self._never.wait(away_seconds)
        node.relay.start()

    def rolling_update(self, *, away_seconds: float) -> None:
        """One node after the other restarts."""
        for node in self.nodes:
            self.planned_restart(node, away_seconds=away_seconds)

    def blink(self, *, seconds: float) -> None:
        """No line carries anything for a while; nothing is lost on them."""
        for node in self.nodes:
            node.line.hold()
        self._never.wait(seconds)
        for node in self.nodes:
            node.line.open()

    def jitter(self, *, turns: int, turn_seconds: float, share: float) -> int:
        """In each turn such a share of the connections is reset; returns how many were."""
        reset = 0
        for _ in range(turns):
            self._never.wait(turn_seconds)
            for node in self.nodes:
                if self._chance.random() < share:
                    reset += node.line.cut()
        return reset

    def silently_lost(self, records: list[ReceivedLog]) -> list[str]:
        """Events of any node that neither arrived nor are covered by a gap record."""
        return [
            lost
            for node in self.nodes
            for lost in missing_without_a_gap(node.publisher, records, upstreams={node.line.endpoint})
        ]


@contextmanager
def fleet(number: int, *, per_second: float, chance: random.Random) -> Iterator[Fleet]:
    """So many nodes."""
    with ExitStack() as stack:
        nodes = []
        for index in range(number):
            relay = stack.enter_context(Relay(profile=NODE))
            line = stack.enter_context(TcpProxy(relay.endpoint))
            publisher = Publisher(relay, per_second=per_second, seed=index, first=index * NUMBERS_PER_NODE)
            nodes.append(Node(relay, line, publisher))
        yield Fleet(nodes, chance)
