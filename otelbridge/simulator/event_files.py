"""Recorded events in, one JSON object per line (a file, or the samples in this package), parsed events out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from otelbridge.simulator.event_json import EventJsonError, ParsedEvent, event_from_json

SAMPLES = ("alerts", "logs", "constructed", "odd")
"""Recorded from public documents, built by hand after KubeArmor's code, and broken values seen in the wild."""


class BadLine(NamedTuple):
    """A line that is not an event."""

    place: str
    """`file:line`."""
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def parse_lines(lines: Iterable[str | bytes], name: str) -> Iterator[ParsedEvent | BadLine]:
    """Parses line by line, so that it can follow a pipe; empty lines are passed over.

    Args:
        lines: One JSON object each; see `event_from_json`.
        name: What the lines come from, for `BadLine.place`.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield event_from_json(line)
            except EventJsonError as error:
                yield BadLine(f"{name}:{number}", str(error))


def read_file(path: Path) -> Iterator[ParsedEvent | BadLine]:
    """Parses a file of one JSON object per line.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as lines:
        yield from parse_lines(lines, str(path))


def sample_events(names: Iterable[str] = SAMPLES) -> Iterator[ParsedEvent]:
    """The events that come with the package."""
    folder = resources.files("otelbridge.simulator") / "samples"
    for name in names:
        lines = (folder / f"{name}.jsonl").read_bytes().splitlines()
        yield from (event_from_json(line) for line in lines)
