"""The layer itself: each fault is met by the calls that it is about, comes and goes, and spares everything else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.faulty_disk import FaultyDisk, Operation

MANY_BYTES = 8192

DEEDS = {
    Operation.CREATE: "os.close(os.open(f'{folder}/made', os.O_CREAT | os.O_WRONLY))",
    Operation.WRITE: "os.pwrite(file, b'x', 0)",
    Operation.COMMIT: "base.execute('INSERT INTO t VALUES (1)')",
    Operation.SYNC: "os.fdatasync(file)",
    Operation.GROW: "os.posix_fallocate(file, 0, 8192)",
    Operation.DELETE: "os.unlink(f'{folder}/file')",
    Operation.OPEN: "os.open(f'{folder}/file', os.O_RDONLY)",
    Operation.READ: "os.pread(file, 1, 0)",
}

CHILD = """
import os, sqlite3, sys
folder = sys.argv[1]
file = os.open(f"{folder}/file", os.O_CREAT | os.O_RDWR)
base = sqlite3.connect(f"{folder}/base", isolation_level=None)
base.execute("PRAGMA journal_mode=WAL")
base.execute("CREATE TABLE t (x)")
print("ready", flush=True)
for deed in sys.stdin:
    try:
        print(eval(deed), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyDisk]:
    (tmp_path / "faulty").mkdir()
    made = FaultyDisk(tmp_path / "faulty", tmp_path / "work")
    yield made
    made.close()


@pytest.fixture
def ask(disk: FaultyDisk, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Lets a process on the faulty disk do something; returns what came of it."""
    command = [sys.executable, "-c", CHILD, str(tmp_path / "faulty")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **disk.env}
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        to, answers = child.stdin, child.stdout
        assert answers.readline() == "ready\n"

        def told(deed: str) -> str:
            to.write(deed + "\n")
            to.flush()
            return answers.readline().strip()

        yield told
        to.close()


@pytest.mark.parametrize("operation", Operation)
def test_a_call_fails_while_it_shall(disk: FaultyDisk, ask: Callable[[str], str], operation: Operation) -> None:
    with disk.failing(operation, error=errno.EIO) as (fault,):
        answer = ask(DEEDS[operation])
        assert "Input/output error" in answer or "disk I/O error" in answer
        assert fault.hits
    assert "rror" not in ask(DEEDS[operation])


@pytest.mark.parametrize("operation", Operation)
def test_a_call_takes_as_long_as_it_shall(disk: FaultyDisk, ask: Callable[[str], str], operation: Operation) -> None:
    with disk.slow(operation, seconds=0.2):
        began = time.monotonic()
        assert "rror" not in ask(DEEDS[operation])
        assert time.monotonic() - began >= 0.2


def test_a_full_disk_takes_the_first_part_of_a_large_write(disk: FaultyDisk, ask: Callable[[str], str]) -> None:
    with disk.failing(Operation.WRITE, error=errno.ENOSPC):
        assert ask(f"os.pwrite(file, b'x' * {MANY_BYTES}, 0)") == str(MANY_BYTES // 2)
        assert "No space left" in ask("os.pwrite(file, b'x', 0)")


def test_other_files_and_other_folders_are_spared(disk: FaultyDisk, ask: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with disk.failing(*Operation, error=errno.EIO, ending="-wal"):
        assert ask(DEEDS[Operation.WRITE]) == "1"
        assert "disk I/O error" in ask(DEEDS[Operation.COMMIT])
    with disk.failing(*Operation, error=errno.EIO):
        assert ask(f"os.open({str(tmp_path / 'elsewhere' / 'made')!r}, os.O_CREAT | os.O_WRONLY)").isdigit()


def test_calls_before_and_after_those_that_shall_fail_are_spared(disk: FaultyDisk, ask: Callable[[str], str]) -> None:
    with disk.failing(Operation.WRITE, error=errno.EIO, spared=2, times=1) as (fault,):
        answers = [ask(DEEDS[Operation.WRITE]) for _ in range(4)]
        assert [answer == "1" for answer in answers] == [True, True, False, True]
        assert fault.hits == len(answers)
