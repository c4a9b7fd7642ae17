from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bridges import GO, GRPC_GZIP, HTTP_GZIP, SDK, Bridge
from benchmarks.corpus import Corpus
from benchmarks.programs import FALLBACK, NATIVE, Programs
from benchmarks.rig import Road, open_road
from tests.peers.presence import required
from tests.waiting import eventually

RATE, EVENTS = 300, 300


@pytest.fixture(
    scope="module",
    params=[(FALLBACK, GRPC_GZIP), (FALLBACK, SDK), (NATIVE, GRPC_GZIP), (NATIVE, HTTP_GZIP), (NATIVE, GO)],
    ids=["python, gRPC", "python, SDK bridge", "go, gRPC", "go, HTTP", "go, Go bridge"],
)
def road(request: pytest.FixtureRequest) -> Iterator[Road]:
    programs: Programs
    bridge: Bridge
    programs, bridge = request.param
    if programs.native:
        cure = "python -m benchmarks.programs"
        required(Path(programs.generator[0]), name="the benchmark's generator in Go", cure=cure)
    with open_road(programs, bridge, Corpus(events=200)) as opened:
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


def test_a_stretch_tells_what_the_bridge_takes_of_the_machine(road: Road) -> None:
    stretch = road.send(RATE, EVENTS)

    assert 0 < stretch.core_percent < 400
    assert stretch.wakeups_per_second > 1


def test_the_endpoint_counts_the_bytes_as_they_were_sent(road: Road) -> None:
    if "sink" not in Path(road.sink.argv[0]).name:
        pytest.skip("the Python endpoint sees requests unpacked only")
    stretch = road.send(RATE, EVENTS)

    assert 20 < stretch.wire_bytes_per_record < stretch.bytes_per_record / 2


def test_latencies_are_told_by_stream(road: Road) -> None:
    road.sink.ask("clear")

    road.send(RATE, EVENTS)

    assert set(road.sink.ask("latency")["streams"]) == {"alerts"}, "there is nothing else in this corpus"


def test_the_latencies_are_those_since_the_last_clear(road: Road) -> None:
    road.send(RATE, EVENTS)
    road.sink.ask("clear")
    assert "p50" not in road.sink.ask("latency")

    road.send(RATE, EVENTS)

    found = road.sink.ask("latency")
    assert 0 < found["p50"] <= found["p99"] <= found["most"] < 30


def test_what_an_endpoint_refuses_arrives_once_it_accepts_again(road: Road) -> None:
    if "bridge.yaml" not in " ".join(road.bridge.argv):
        pytest.skip("a bridge without a queue forgets what is refused")
    before = road.sink.ask("counts")["distinct"]
    road.sink.ask("refuse")
    road.generator.ask(f"{RATE} {EVENTS}")
    eventually(lambda: road.held() == EVENTS, why="the bridge holds everything")

    road.sink.ask("accept")

    assert road.wait_until_arrived(before + EVENTS)["distinct"] == before + EVENTS
    assert road.residue() == 0
