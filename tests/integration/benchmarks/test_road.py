from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.bridges import GRPC_GZIP, HTTP_GZIP, SDK, Bridge
from benchmarks.corpus import Corpus
from benchmarks.programs import FALLBACK
from benchmarks.rig import Road, open_road

RATE, EVENTS = 300, 300


@pytest.fixture(scope="module", params=[GRPC_GZIP, HTTP_GZIP, SDK], ids=lambda bridge: str(bridge.name))
def road(request: pytest.FixtureRequest) -> Iterator[Road]:
    bridge: Bridge = request.param
    with open_road(FALLBACK, bridge, Corpus(events=200)) as opened:
        yield opened


def test_every_event_of_a_stretch_is_found_at_the_endpoint(road: Road) -> None:
    stretch = road.send(RATE, EVENTS)

    assert stretch.published == EVENTS
    assert stretch.arrived == EVENTS
    assert not stretch.lost
    assert not stretch.duplicates


def test_a_stretch_tells_the_cost_of_an_event_in_each_process(road: Road) -> None:
    cost = road.send(RATE, EVENTS).cpu_us

    assert set(cost) == {"bridge", "generator", "sink"}
    assert all(microseconds > 0 for microseconds in cost.values())
    assert road.bridge.peak_bytes() >= road.bridge.resident_bytes() > 0


def test_the_latencies_are_those_since_the_last_clear(road: Road) -> None:
    road.send(RATE, EVENTS)
    road.sink.ask("clear")
    assert road.sink.ask("latency") == {}

    road.send(RATE, EVENTS)

    found = road.sink.ask("latency")
    assert 0 < found["p50"] <= found["p99"] <= found["most"] < 30
