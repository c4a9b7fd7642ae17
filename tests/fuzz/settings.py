"""Fuzzes the settings: a file, a variable of OpenTelemetry's or of ours, a flag; taken, or refused with every problem.

The first byte of an input chooses which, the second the variable or setting, the rest is its text.
"""

from __future__ import annotations

import json
from pathlib import Path

from otelbridge.settings.environment import SDK_VARIABLES, STANDARD_VARIABLES
from otelbridge.settings.load import Loaded, load
from otelbridge.settings.show import shown
from otelbridge.settings.tree import SettingsError, leaves

MODULES = ("net.address", *(f"settings.{name}" for name in ("load", "environment", "yaml_file", "tree", "checks")))
MAX_PROBLEM_CHARS = 20_000


class Target:
    """Loads whatever it is given."""

    def __init__(self, folder: Path) -> None:
        self._standard = sorted(row.name for row in (*STANDARD_VARIABLES, *SDK_VARIABLES))
        self._leaves = sorted(leaves(), key=lambda leaf: leaf.path)
        self._file = folder / "otelbridge.yaml"

    def try_one(self, data: bytes) -> None:
        """Carries one input through; anything but a refusal in words is a fault."""
        kind, number = (data + b"\0\0")[:2]
        raw = data[2:]
        text = raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
        leaf = self._leaves[number % len(self._leaves)]
        try:
            loaded = self._load(kind % 4, self._standard[number % len(self._standard)], leaf.path, raw, text)
        except SettingsError as refused:
            _check(refused)
        else:
            json.dumps(shown(loaded)).encode(errors="strict")

    def _load(self, kind: int, standard: str, path: str, raw: bytes, text: str) -> Loaded:
        environment: dict[str, str] = {}
        if kind == 0:
            self._file.write_bytes(raw)
            return load(file=self._file, environment=environment)
        if kind == 1:
            environment[standard] = text
        elif kind == 2:
            environment[f"OTELBRIDGE_{path.upper().replace('.', '__')}"] = text
        return load(environment=environment, flags={"--set": [f"{path}={text}"]} if kind > 2 else {})


def _check(refused: SettingsError) -> None:
    assert refused.problems
    for problem in refused.problems:
        assert 0 < len(str(problem)) < MAX_PROBLEM_CHARS
        str(problem).encode(errors="strict")
