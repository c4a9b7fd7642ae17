"""What fuzzing found once is tried each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.event import UPSTREAM_STREAMS
from tests.fuzz.event import Target
from tests.unit.mapping.samples import STREAMS, sample_events

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "event"


@pytest.mark.parametrize("find", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_a_find_is_no_fault_any_more(find: Path) -> None:
    Target().try_one(find.read_bytes())


def test_samples_are_no_fault() -> None:
    target = Target()
    for _, message in sample_events():
        number = UPSTREAM_STREAMS.index(STREAMS[type(message)])
        target.try_one(bytes((number,)) + message.SerializeToString())
