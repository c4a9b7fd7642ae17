"""Runs one fuzzing campaign: `python -m tests.fuzz.campaign TARGET [libFuzzer's options and folders]`.

Coverage-guided, with atheris: `make fuzz` runs each target. What was found is kept, as small as it gets, in
`corpus/TARGET`, and tried by every test run.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from types import FunctionType
from typing import Any

MEMORY = Path("/dev/shm")
TARGETS = ("event", "settings", "answers", "queue")


def target_of(name: str) -> Any:
    """The module of a target: its `MODULES` are watched, its `Target` is tried."""
    return importlib.import_module(f"tests.fuzz.{name}")


def main() -> None:
    """Runs libFuzzer, which ends the process."""
    atheris = importlib.import_module("atheris")  # not there in the everyday tests
    target = target_of(sys.argv.pop(1))
    for name in target.MODULES:
        module = importlib.import_module(f"otelbridge.{name}")
        for function in [*vars(module).values()]:
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                setattr(module, function.__name__, atheris.instrument_func(function))
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as folder:
        atheris.Setup(sys.argv, target.Target(Path(folder)).try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
