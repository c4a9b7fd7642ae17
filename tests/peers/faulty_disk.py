"""A file layer that is slow or fails, under a whole process: built from C, loaded before the C library, told by a file.

The process sees errors of the system calls themselves, so everything between them and the queue is the real thing:
SQLite, its locks, the threads that wait. Faults come and go while it runs.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from tests.peers.presence import required

SOURCE = Path(__file__).with_name("faulty_disk.c")
RULES = 16
FOLDER_BYTES = 256
RULE = struct.Struct("=iiiiqq40s")
HITS_OFFSET = 16
VARIABLE = "FAULTY_DISK"


class Operation(IntEnum):
    """What a rule is about; the numbers are those of `enum op` in the C source."""

    CREATE = 1
    """Making a file."""
    WRITE = 2
    COMMIT = 3
    """The write that ends a transaction in SQLite's log."""
    SYNC = 4
    GROW = 5
    """Setting a file's size, reserving space."""
    DELETE = 6
    """Removing or renaming a file."""
    OPEN = 7
    """Opening a file that is there."""
    READ = 8


WRITING = tuple(operation for operation in Operation if operation < Operation.OPEN)
"""All that changes something."""


class FaultyDisk:
    """The layer over one folder: give `env` to the process, then turn faults on and off.

    Args:
        folder: whose files it is about; need not exist yet.
        work: a folder for the built library and the control file.
        platter: a folder that gets a copy of each file whenever it is synced: what a power cut is sure to leave.
    """

    def __init__(self, folder: Path, work: Path, *, platter: Path | None = None) -> None:
        compiler = shutil.which("cc")
        required(Path(compiler) if compiler else None, name="a C compiler", cure="install gcc or clang")
        work.mkdir(parents=True, exist_ok=True)
        library = work / "faulty_disk.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
        control = work / "faulty_disk.control"
        folders = [os.fsencode(folder.resolve()), os.fsencode(platter.resolve()) if platter else b""]
        control.write_bytes(b"".join(name.ljust(FOLDER_BYTES, b"\0") for name in folders) + bytes(RULES * RULE.size))
        self._control = _mapped(control)
        self.env: Mapping[str, str] = {"LD_PRELOAD": str(library), VARIABLE: str(control)}

    @classmethod
    def of_this_process(cls) -> FaultyDisk:
        """The layer that this process was started on."""
        disk = cls.__new__(cls)
        disk.env = {}
        disk._control = _mapped(Path(os.environ[VARIABLE]))
        return disk

    def close(self) -> None:
        """Gives up the mapping; the process keeps its own."""
        self._control.close()

    @contextmanager
    def slow(self, operation: Operation, *, seconds: float, ending: str = "") -> Iterator[Fault]:
        """While the context lasts, such calls take so much longer."""
        with self._rule(operation, error=0, milliseconds=round(1000 * seconds), ending=ending) as fault:
            yield fault

    @contextmanager
    def failing(
        self, *operations: Operation, error: int, ending: str = "", spared: int = 0, times: int = 0
    ) -> Iterator[list[Fault]]:
        """While the context lasts, such calls fail.

        Args:
            operations: which.
            error: a number of `errno`; a large write that fails with ENOSPC is done in part. 0: they are counted only.
            ending: of the names of the files; all of the folder by default.
            spared: so many calls of each operation go well before.
            times: so many calls of each fail; 0 for all.
        """
        faults = [
            self._put(operation, error=error, milliseconds=0, ending=ending, spared=spared, times=times)
            for operation in operations
        ]
        try:
            yield faults
        finally:
            for fault in faults:
                fault.end()

    @contextmanager
    def _rule(self, operation: Operation, *, error: int, milliseconds: int, ending: str) -> Iterator[Fault]:
        fault = self._put(operation, error=error, milliseconds=milliseconds, ending=ending)
        try:
            yield fault
        finally:
            fault.end()

    def _put(
        self,
        operation: Operation,
        *,
        error: int,
        milliseconds: int,
        ending: str,
        spared: int = 0,
        times: int = 0,
    ) -> Fault:
        for offset in range(2 * FOLDER_BYTES, len(self._control), RULE.size):
            if RULE.unpack_from(self._control, offset)[0] == 0:
                # The operation last: it is what puts the rule in force.
                RULE.pack_into(self._control, offset, 0, error, milliseconds, times, 0, spared, ending.encode())
                struct.pack_into("=i", self._control, offset, operation)
                return Fault(self._control, offset, operation)
        raise AssertionError(f"no more than {RULES} rules at once")


def _mapped(control: Path) -> mmap.mmap:
    with control.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


class Fault:
    """A rule that is in force."""

    def __init__(self, control: mmap.mmap, offset: int, operation: Operation) -> None:
        self._control, self._offset = control, offset
        self.operation = operation

    @property
    def hits(self) -> int:
        """Calls that it has met so far."""
        return int(struct.unpack_from("=q", self._control, self._offset + HITS_OFFSET)[0])

    def end(self) -> None:
        """From now on such calls are as they were."""
        struct.pack_into("=i", self._control, self._offset, 0)
