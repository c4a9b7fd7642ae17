"""The name of a source in (`samples`, `generated`, or a file of JSON lines), its events out, once or for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.simulator.event_files import BadLine, read_file, sample_events
from otelbridge.simulator.event_json import KubeArmorMessage
from otelbridge.simulator.generator import generate

SAMPLES = "samples"
GENERATED = "generated"
MAX_REMEMBERED = 100
"""Bad lines and unknown keys that are remembered; more are only counted."""


class SourceError(ValueError):
    """The source has nothing to give."""


class SourcedEvent(NamedTuple):
    """An event that may be changed by whoever takes it."""

    stream: Stream
    message: KubeArmorMessage


class EventSource:
    """Events by name; what was wrong with a file is told by the attributes.

    Args:
        name: `samples`, `generated`, or the path of a file with one JSON object per line.
        streams: Only events of these.
        loop: Begin again at the end. What is generated has no end.
        seed: Of what is generated.
    """

    def __init__(self, name: str, *, streams: tuple[Stream, ...], loop: bool = False, seed: int = 1) -> None:
        self.bad_lines: dict[str, BadLine] = {}
        """By place; the first 100."""
        self.bad_line_count = 0
        """Of one round."""
        self.unknown_keys: dict[str, None] = {}
        """In order of appearance; the first 100."""
        self._name = name
        self._streams = streams
        self._loop = loop
        self._seed = seed

    def check(self) -> None:
        """Looks whether there is anything in it; raises what iterating does."""
        next(iter(self))

    def __iter__(self) -> Iterator[SourcedEvent]:
        """Begins.

        Raises:
            SourceError: There is no event of these streams in it.
            OSError: The file cannot be read.
        """
        if self._name == GENERATED:
            for stream, message in generate(self._seed, streams=self._streams):
                yield SourcedEvent(stream, message)
        while True:
            empty = True
            for event in self._one_round():
                empty = False
                yield event
            if empty:
                raise SourceError(f"{self._name} has no event of the streams {', '.join(self._streams)}")
            if not self._loop:
                return

    def _one_round(self) -> Iterator[SourcedEvent]:
        self.bad_line_count = 0
        for event in sample_events() if self._name == SAMPLES else read_file(Path(self._name)):
            if isinstance(event, BadLine):
                self.bad_line_count += 1
                if len(self.bad_lines) < MAX_REMEMBERED:
                    self.bad_lines[event.place] = event
            elif event.stream in self._streams:
                if event.unknown_keys and len(self.unknown_keys) < MAX_REMEMBERED:
                    self.unknown_keys.update(dict.fromkeys(event.unknown_keys))
                yield SourcedEvent(event.stream, event.message)
