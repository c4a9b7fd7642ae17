"""What fuzzing found once is tried each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.event import UPSTREAM_STREAMS
from tests.fuzz.campaign import TARGETS, target_of
from tests.fuzz.event import Target
from tests.unit.mapping.samples import STREAMS, sample_events

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


@pytest.mark.parametrize("find", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_find_is_no_fault_any_more(find: Path, tmp_path: Path) -> None:
    target_of(find.parent.name).Target(tmp_path).try_one(find.read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


def test_samples_are_no_fault(tmp_path: Path) -> None:
    target = Target(tmp_path)
    for _, message in sample_events():
        number = UPSTREAM_STREAMS.index(STREAMS[type(message)])
        target.try_one(bytes((number,)) + message.SerializeToString())
