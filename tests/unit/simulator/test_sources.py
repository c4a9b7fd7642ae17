"""Sources of events by name."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from otelbridge.event import UPSTREAM_STREAMS, Stream, kind_of
from otelbridge.simulator.serve import GENERATED, SAMPLES, EventSource, SourceError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "events.jsonl"
    file.write_text('{"Type": "HostLog", "Mood": 1}\nnonsense\n{"Type": "MatchedPolicy"}\n')
    return file


def test_the_samples_come_once() -> None:
    assert len(list(EventSource(SAMPLES, streams=UPSTREAM_STREAMS))) == 59


def test_the_samples_come_again_and_whoever_changed_them_changed_copies() -> None:
    events = islice(EventSource(SAMPLES, streams=(Stream.MESSAGES,), loop=True), 5)
    texts = []
    for event in events:
        texts.append(event.message.Message)  # type: ignore[union-attr]
        event.message.Message = "changed"  # type: ignore[union-attr]

    assert len(set(texts)) == 2


def test_what_is_generated_never_ends() -> None:
    assert len(list(islice(EventSource(GENERATED, streams=(Stream.ALERTS,)), 500))) == 500


@pytest.mark.parametrize(("name", "kinds"), [("flood", 1), ("flood:20", 20)])
def test_a_flood_is_the_same_kinds_over_and_over_with_rare_alerts_strewn_in(name: str, kinds: int) -> None:
    events = islice(EventSource(name, streams=UPSTREAM_STREAMS), 2_000)
    counted = Counter(str(kind_of(event.stream, event.message)) for event in events)

    assert [count for kind, count in counted.items() if "/rare-" in kind] == [1] * 4
    floods = [count for kind, count in counted.items() if "/flood-" in kind]
    assert len(floods) == kinds
    assert sum(floods) == 1_996
    assert min(floods) > 1_900 // kinds


def test_a_flood_has_alerts_only() -> None:
    with pytest.raises(SourceError, match="alerts only"):
        EventSource("flood", streams=(Stream.LOGS,)).check()


def test_a_file_tells_its_bad_lines_and_unknown_keys_once_however_often_it_is_read(file: Path) -> None:
    source = EventSource(str(file), streams=UPSTREAM_STREAMS, loop=True)

    assert len(list(islice(source, 10))) == 10

    assert list(source.bad_lines) == [f"{file}:2"]
    assert source.bad_line_count == 1
    assert list(source.unknown_keys) == ["Mood"]


def test_only_the_streams_asked_for_come(file: Path) -> None:
    assert [event.stream for event in EventSource(str(file), streams=(Stream.ALERTS,))] == [Stream.ALERTS]


def test_a_source_without_an_event_is_an_error_not_an_endless_loop(file: Path) -> None:
    with pytest.raises(SourceError, match="has no event of the streams messages"):
        EventSource(str(file), streams=(Stream.MESSAGES,), loop=True).check()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        EventSource(str(tmp_path / "nowhere.jsonl"), streams=UPSTREAM_STREAMS).check()
