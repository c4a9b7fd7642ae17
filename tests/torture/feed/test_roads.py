"""Two roads to the same events at 5,000/s: seeded drops, restarts, and one that is a minute late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.child import Child
from benchmarks.corpus import Corpus, corpus_file
from benchmarks.programs import BUILD, build_programs
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.torture_report import record
from tests.waiting import eventually

RATE = 5_000
POINT = 0.01
DUPLICATES = 0.0001
MEMORY_MIB = 45
"""Of what waits for a road that is late: docs/sizing.md."""


@dataclass
class Scene:
    """Two roads, a bridge, and an endpoint that counts."""

    generator: Child
    sink: Child
    bridge: BridgeProcess
    upstreams: list[str]

    def roads(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.bridge.status()["roads"]["roads"]
        return found

    def resident_mib(self) -> int:
        (line,) = [
            line
            for line in Path(f"/proc/{self.bridge.process.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        ]
        return int(line.split()[1]) // 1024

    def send(self, seconds: float) -> dict[str, Any]:
        return self.generator.ask(f"{RATE} {round(RATE * seconds)}", within_seconds=10 * seconds + 60)

    def settle(self, within_seconds: float) -> None:
        eventually(lambda: self.bridge.status()["roads"]["waiting"] == 0, within_seconds=within_seconds)
        self.bridge.wait_until_delivered(within_seconds=60)


@contextmanager
def scene(folder: Path, *arguments: str, window_seconds: float) -> Iterator[Scene]:
    programs = build_programs()
    if not programs.native:
        pytest.skip("needs Go: the Python relay cannot send 5,000 events/s twice")
    with ExitStack() as stack:
        sink = stack.enter_context(Child(programs.sink, log=folder / "sink.log", talks=True))
        endpoint = sink.hear(60)["grpc"]
        command = (*programs.generator, "--corpus", str(corpus_file(Corpus(), BUILD)), *arguments)
        generator = stack.enter_context(Child(command, log=folder / "generator.log", talks=True))
        upstreams = generator.hear(60)["endpoints"]
        feed = {
            "endpoints": upstreams,
            "roads": True,
            "roads_window_seconds": window_seconds,
            "streams": ["alerts", "logs"],
        }
        bridge = stack.enter_context(running_bridge(folder, feed=feed, send={"endpoint": endpoint}))
        bridge.wait_until_watching()
        generator.hear(60)
        yield Scene(generator, sink, bridge, upstreams)


@pytest.mark.torture
@pytest.mark.parametrize(("shares", "restarts"), [("0,0", 2), ("0,0.01", 2), ("0,0.05", 2), ("0.01,0.05", 0)])
def test_the_union_arrives_once_and_the_metered_loss_is_the_seeded_one(
    tmp_path: Path, shares: str, restarts: int
) -> None:
    # A road that restarts is away for a second: what the other one drops then, nobody brings. So it drops nothing.
    with scene(tmp_path, "-shares", shares, window_seconds=5) as one:
        said = [one.send(20)]
        for _ in range(restarts):
            assert one.generator.ask("restart 1") == {"restarted": 1}
            said.append(one.send(25))
        said.append(one.send(25))
        one.settle(within_seconds=60)
        counts, roads = one.sink.ask("counts"), one.roads()
        doubled = sum(one.bridge.balance(stream)["doubled"] for stream in ("alerts", "logs"))
    published = sum(each["published"] for each in said)
    unseen = sum(each["lost_by_all"] for each in said)
    seeded = [sum(each["lost"][place] + each["dropped_each"][place] for each in said) / published for place in (0, 1)]
    metered = [road["missed"] / max(road["compared"], 1) for road in roads]
    figures: dict[str, object] = {
        "published": published,
        "not_arrived_though_a_road_has_sent_it": published - unseen - counts["distinct"],
        "duplicates": counts["duplicates"],
        "doubled": doubled,
        "compared": [road["compared"] for road in roads],
        "unknown": [road["unknown"] for road in roads],
        "seeded_percent": [round(100 * share, 3) for share in seeded],
        "metered_percent": [round(100 * share, 3) for share in metered],
    }
    off = max(abs(one - other) for one, other in zip(seeded, metered, strict=True))
    passed = (
        counts["distinct"] == published - unseen
        and counts["duplicates"] <= DUPLICATES * published
        and off <= 0.1 * POINT
        and roads[1]["compared"] > published / 4
    )
    record(f"feed: two roads, dropping {shares}, {restarts} restarts", figures, passed)
    assert passed, figures


@pytest.mark.torture
def test_memory_is_bound_and_nothing_comes_twice_while_a_road_is_a_minute_late(tmp_path: Path) -> None:
    with scene(tmp_path, "-shares", "0,0", "-late", "60s", window_seconds=60) as one:
        one.send(5)
        before, most, waited = one.resident_mib(), 0, 0
        began = time.monotonic()
        said = []
        for _ in range(20):
            said.append(one.send(5))
            most = max(most, one.resident_mib())
            waited = max(waited, one.bridge.status()["roads"]["waiting"])
        seconds = time.monotonic() - began
        one.settle(within_seconds=90)
        counts, status = one.sink.ask("counts"), one.bridge.status()
    published = round(RATE * 5) + sum(each["published"] for each in said)
    figures: dict[str, object] = {
        "published": published,
        "seconds": round(seconds, 1),
        "arrived": counts["distinct"],
        "duplicates": counts["duplicates"],
        "most_ids_waiting": waited,
        "shed": status["roads"]["shed"],
        "resident_mib_before_and_most": [before, most],
        "missed": [road["missed"] for road in status["roads"]["roads"]],
    }
    passed = (
        counts["distinct"] == published
        and counts["duplicates"] <= DUPLICATES * published
        and status["roads"]["shed"] == 0
        and waited > 0.9 * RATE * 60
        and most - before <= MEMORY_MIB
    )
    record("feed: two roads, one 60 s late", figures, passed)
    assert passed, figures
