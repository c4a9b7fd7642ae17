"""SIGTERM, whenever it comes: exit code 0 within the grace period, and everything received is delivered or on disk."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.acceptance.seeds import fresh_seed
from tests.acceptance.terminating import CLOSE_SECONDS, PHASES, Stage, endpoint_frozen, terminate_in
from tests.oracle import held_on_disk, holes
from tests.waiting import eventually


@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_ends_the_bridge_in_time_with_0_and_loses_nothing(tmp_path: Path, phase: str) -> None:
    ended = terminate_in(phase, tmp_path / "stage", random.Random(fresh_seed()))
    assert ended.passed, ended
    assert ended.code == 0 or phase == "launching"


def test_a_second_sigterm_while_draining_ends_it_at_once_and_loses_nothing_either(tmp_path: Path) -> None:
    stage = Stage(tmp_path, random.Random(1))
    try:
        with stage.publisher.going_on():
            endpoint_frozen(stage)
            stage.bridge.process.send(signal.SIGTERM)
            eventually(lambda: stage.bridge.status()["state"] == "draining", why="it drains")
            eventually(lambda: stage.bridge.status()["buffer"]["events"] == 0, why="all that was received is on disk")
            assert stage.bridge.process.insist(CLOSE_SECONDS) == 1
        held = held_on_disk(stage.bridge.queue_directory)
        assert held
        assert holes(stage.publisher, held) == set()
    finally:
        stage.close()
