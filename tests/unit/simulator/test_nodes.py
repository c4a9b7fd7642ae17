from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otelbridge.event import Stream
from otelbridge.simulator import nodes as module
from otelbridge.simulator.nodes import LARGEST_BYTES, NODE_SLOTS, WINDOW_BYTES, Nodes
from otelbridge.simulator.upstream import Relay
from tests.waiting import eventually

A, B = "a", "b"
QUICK = 0.05


@contextmanager
def behind(relay: Relay) -> Iterator[Nodes]:
    with Nodes(relay, (A, B)) as nodes:
        yield nodes


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """With pauses of milliseconds in the place of seconds."""
    monkeypatch.setattr(module, "PING_SECONDS", 6 * QUICK)
    monkeypatch.setattr(module, "RETURN_SECONDS", 5 * QUICK)
    with behind(Relay()) as nodes:
        yield nodes


def publish(nodes: Nodes, node: str, count: int = 1, *, size: int = 100) -> None:
    for _ in range(count):
        nodes.publish(node, Stream.LOGS, b"." * size)


def passed(nodes: Nodes, number: int) -> None:
    eventually(lambda: nodes.counts().passed == number, why=f"{number} passed, not {nodes.counts()}")


def test_what_happens_on_a_node_reaches_the_relay(nodes: Nodes) -> None:
    publish(nodes, A, 3)
    publish(nodes, B, 2)
    passed(nodes, 5)
    assert nodes.counts().lost == 0


def test_a_short_stall_of_the_relay_loses_nothing(nodes: Nodes) -> None:
    nodes.stall()
    publish(nodes, A, 500)
    nodes.resume()
    passed(nodes, 500)
    assert nodes.counts().lost == 0


def test_while_the_relay_stands_still_a_node_holds_its_slots_and_what_the_window_takes(nodes: Nodes) -> None:
    nodes.stall()
    size = 1_000
    fits = NODE_SLOTS + WINDOW_BYTES // size
    publish(nodes, A, fits + 7, size=size)
    assert nodes.counts().lost == 7


def test_a_long_stall_costs_what_waits_in_the_nodes_and_what_happens_until_the_relay_is_back_at_them(
    nodes: Nodes,
) -> None:
    nodes.stall()
    on_its_way, waiting = WINDOW_BYTES // 1_000, 40
    publish(nodes, A, on_its_way + waiting, size=1_000)
    eventually(lambda: nodes.counts().lost == waiting, why="the node drops the relay")
    nodes.resume()
    resumed = time.monotonic()
    publish(nodes, A, 3)
    assert nodes.counts().lost == waiting + 3, "nobody listens to the node yet"
    passed(nodes, on_its_way)

    def is_back() -> bool:
        publish(nodes, A)
        return nodes.counts().passed > on_its_way

    eventually(is_back)
    assert time.monotonic() - resumed >= 5 * QUICK


def test_one_bad_event_costs_its_neighbours_and_five_seconds_of_its_node_alone(nodes: Nodes) -> None:
    nodes.bad_event(A)
    publish(nodes, A, 2)
    publish(nodes, B, 2)
    passed(nodes, 2)
    assert nodes.counts().lost == 3


def test_a_node_that_is_killed_is_tried_every_five_seconds(nodes: Nodes) -> None:
    started = time.monotonic()
    nodes.kill(A, 6 * QUICK)

    def is_back() -> bool:
        publish(nodes, A)
        return nodes.counts().passed > 0

    eventually(is_back)
    assert time.monotonic() - started >= 10 * QUICK


def test_a_frozen_node_is_back_as_soon_as_it_goes_on(nodes: Nodes) -> None:
    nodes.freeze(A, 2 * QUICK)
    publish(nodes, A)
    assert nodes.counts().lost == 1

    def is_back() -> bool:
        publish(nodes, A)
        return nodes.counts().passed > 0

    eventually(is_back)


def test_a_relay_without_nodes_passes_nothing(nodes: Nodes) -> None:
    nodes.lose_all(float("inf"))
    publish(nodes, A, 3)
    publish(nodes, B, 3)
    assert nodes.counts() == (6, 0, 6)


def test_an_event_too_large_for_the_relay_costs_its_node_a_while_and_a_large_one_passes(nodes: Nodes) -> None:
    publish(nodes, A, size=LARGEST_BYTES)
    passed(nodes, 1)
    publish(nodes, A, size=LARGEST_BYTES + 1)
    publish(nodes, A)
    publish(nodes, B)
    passed(nodes, 2)
    assert nodes.counts().lost == 2

    def is_back() -> bool:
        publish(nodes, A)
        return nodes.counts().passed > 2

    eventually(is_back, why="the relay goes back to the node")
