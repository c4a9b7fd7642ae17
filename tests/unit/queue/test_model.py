from __future__ import annotations

from dataclasses import fields

import pytest

from otelbridge.event import Stream
from otelbridge.queue.model import Change, DeadLetter, Retained, Span
from tests.records import batch_of

SPAN = Span(1, 2)
LETTER = DeadLetter(
    id=1,
    stream=Stream.LOGS,
    request=b"",
    records=1,
    oldest_received_unix_nano=1,
    refused_unix_nano=2,
    code="400",
    why="",
)
KEPT = Retained(stream=Stream.LOGS, request=b"", records=1, oldest_received_unix_nano=1, delivered_unix_nano=2)
PARTS: dict[str, object] = {
    "retain": [(SPAN, 1)],
    "retained": [KEPT],
    "deletes": [SPAN],
    "inserts": {1: batch_of("a")},
    "dead_letters": [LETTER],
    "dead_letter_deletes": [1],
    "notes": {"name": "text"},
}


@pytest.mark.parametrize("name", [one.name for one in fields(Change)])
def test_a_change_is_something_to_write_as_soon_as_one_part_of_it_is(name: str) -> None:
    change = Change()
    assert not change
    change.add(Change(**{name: PARTS[name]}))  # type: ignore[arg-type]
    assert change
    assert getattr(change, name) == PARTS[name]
