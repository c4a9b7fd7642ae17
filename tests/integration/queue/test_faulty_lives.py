"""A system call fails at any place of a queue's life, once or from then on: nothing is lost, nothing stays stuck."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.queue.faulty_lives import LIVES
from tests.peers.faulty_disk import FaultyDisk, Operation

PLACES = 2
"""Of each operation, evenly spread over a life; torture tries every one, more errors, and once."""
ERRORS = (errno.EIO, errno.ENOSPC)
EVERYTHING = "everything that writes"


class Lives:
    """A process on a faulty disk, which lives as often as it is asked to."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.lived = 0

    def live(self, life: str, operation: str, error: int, spared: int, times: int) -> Any:
        """What came of one."""
        self.lived += 1
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps([life, operation, error, spared, times]) + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def wrong(
        self, life: str, places: int, errors: Iterable[int], *, lasting: Iterable[bool] = (True,)
    ) -> list[tuple[str, str, str, str]]:
        """All that went wrong with a fault at so many places of each operation."""
        found = []
        for operation, calls in {EVERYTHING: 1, **self.live(life, "", 0, 0, 0)}.items():
            for spared in range(0, calls, max(1, calls // places)):
                for error in errors:
                    for for_good in lasting:
                        if why := self.live(life, operation, error, spared, 0 if for_good else 1):
                            at = f"{operation} {spared + 1} of {calls}"
                            found.append((at, errno.errorcode[error], "from then on" if for_good else "once", why))
        return found


@contextmanager
def lives(folder: Path) -> Iterator[Lives]:
    disk = FaultyDisk(folder / "faulty", folder / "disk")
    (folder / "faulty").mkdir()
    command = [sys.executable, "-m", "tests.integration.queue.faulty_lives", str(folder / "faulty" / "queue")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **disk.env}
    ) as child:
        yield Lives(child)
        assert child.stdin is not None
        child.stdin.close()
    disk.close()


@pytest.mark.parametrize("life", LIVES)
def test_a_call_that_fails_anywhere_in_a_life_loses_nothing(tmp_path: Path, life: str) -> None:
    with lives(tmp_path) as on_a_faulty_disk:
        assert on_a_faulty_disk.wrong(life, PLACES, ERRORS) == []


def test_every_operation_is_met(tmp_path: Path) -> None:
    with lives(tmp_path) as on_a_faulty_disk:
        calls = [on_a_faulty_disk.live(life, "", 0, 0, 0) for life in ("busy", "salvaged")]
    assert {operation for life in calls for operation, number in life.items() if number} == set(Operation.__members__)
