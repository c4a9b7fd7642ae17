"""Runs one fuzzing campaign: `python -m tests.fuzz.campaign TARGET [libFuzzer's options and folders]`.

Coverage-guided, with atheris: `make fuzz` runs each target. What was found is kept, as small as it gets, in
`corpus/TARGET`, and tried by every test run.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import FunctionType
from typing import Any

MEMORY = Path("/dev/shm")
LEAST_FREE_BYTES = 64 * 1024 * 1024
INPUT_CPU_SECONDS = 5.0
"""libFuzzer's own bound is by the clock, which runs on where others have the processor: it is for what hangs."""
TARGETS = ("event", "settings", "answers", "queue")


def target_of(name: str) -> Any:
    """The module of a target: its `MODULES` are watched, its `Target` is tried."""
    return importlib.import_module(f"tests.fuzz.{name}")


def main() -> None:
    """Runs libFuzzer in a process of its own, as it ends the process, and removes what it leaves in memory."""
    with tempfile.TemporaryDirectory(dir=MEMORY if has_room(MEMORY) else None) as folder:
        child = os.fork()
        if not child:
            _fuzz(Path(folder))
        _, status = os.waitpid(child, 0)
    sys.exit(abs(os.waitstatus_to_exitcode(status)))


def has_room(folder: Path) -> bool:
    """Whether files can be held there: a container's /dev/shm may have 64 MiB, or none."""
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= LEAST_FREE_BYTES


def _fuzz(folder: Path) -> None:
    atheris = importlib.import_module("atheris")  # not there in the everyday tests
    target = target_of(sys.argv.pop(1))
    for name in target.MODULES:
        module = importlib.import_module(f"otelbridge.{name}")
        for function in [*vars(module).values()]:
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                setattr(module, function.__name__, atheris.instrument_func(function))
    try_one = target.Target(folder).try_one

    def within_bounds(data: bytes) -> None:
        began = time.process_time()
        try_one(data)
        took = time.process_time() - began
        assert took < INPUT_CPU_SECONDS, f"{took:.1f} s of processor time for one input"

    atheris.Setup(sys.argv, within_bounds)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
