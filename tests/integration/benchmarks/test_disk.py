from __future__ import annotations

from benchmarks.bridges import GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.disk import Onlooker
from benchmarks.programs import FALLBACK
from benchmarks.rig import open_road
from tests.waiting import eventually

RATE, EVENTS = 300, 300


def test_an_onlooker_sees_every_batch_that_is_held_and_how_long_it_took_to_the_disk() -> None:
    with open_road(FALLBACK, GRPC_GZIP, Corpus(events=200)) as road:
        road.sink.ask("refuse")
        (file,) = (road.folder / "queue").glob("*.db")
        with Onlooker(file) as onlooker:
            road.generator.ask(f"{RATE} {EVENTS}")
            eventually(lambda: onlooker.records == EVENTS, why="the onlooker has seen every record")

        assert onlooker.seconds
        assert all(0 <= seconds < 10 for seconds in onlooker.seconds)
        road.sink.ask("accept")
