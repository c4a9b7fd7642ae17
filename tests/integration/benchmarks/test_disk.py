from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.bridges import GRPC_GZIP
from benchmarks.corpus import Corpus
from benchmarks.measurements.disk import Onlooker
from benchmarks.programs import FALLBACK
from benchmarks.rig import open_road
from tests.waiting import eventually

RATE, EVENTS = 300, 300


def held_in(file: Path) -> dict[int, int]:
    """The records of each batch."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT id, records FROM batches"))


def test_an_onlooker_sees_every_batch_that_is_held_and_how_long_it_took_to_the_disk() -> None:
    with open_road(FALLBACK, GRPC_GZIP, Corpus(events=200)) as road:
        road.sink.ask("refuse")
        (file,) = (road.folder / "queue").glob("*.db")
        with Onlooker(file) as onlooker:
            road.generator.ask(f"{RATE} {EVENTS}")
            eventually(lambda: sum(held_in(file).values()) == EVENTS, why="every record is on the disk")
            eventually(lambda: held_in(file).keys() <= onlooker.batches, why="the onlooker has seen every batch")
            assert onlooker.records >= EVENTS, "what is refused may be split, and its parts are seen again"

        assert onlooker.seconds
        assert all(0 <= seconds < 10 for seconds in onlooker.seconds)
        road.sink.ask("accept")
