"""Until when each upstream's streams were watched, as a note for the next life: how it is written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping

from otelbridge.event import Stream

WATCHING = "watching"
MAX_WATCHED = 3_000  # streams of upstreams; addresses behind a name come and go, the oldest are forgotten

Watched = Mapping[tuple[str, Stream], int]
"""Unix nanoseconds by upstream and stream."""


def note_of(watched: Watched) -> str:
    """The note."""
    latest = sorted(watched.items(), key=lambda item: item[1])[-MAX_WATCHED:]
    return json.dumps([[upstream, stream, until] for (upstream, stream), until in latest])


def read_note(note: str | None) -> dict[tuple[str, Stream], int]:
    """The other way round; empty when there is no note."""
    return {(upstream, Stream(stream)): until for upstream, stream, until in json.loads(note or "[]")}
