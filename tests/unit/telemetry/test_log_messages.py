from __future__ import annotations

import json

import pytest

from otelbridge.event import ConnectStep, Stream
from otelbridge.telemetry import events as e
from otelbridge.telemetry.log import MESSAGES, Level, as_json, as_text, event_name, line_of
from tests.unit.telemetry.examples import TYPES, example

NOW = 1_795_000_000_123_000_000


@pytest.mark.parametrize("kind", TYPES)
def test_every_happening_has_its_sentence(kind: type) -> None:
    assert kind in MESSAGES


@pytest.mark.parametrize("kind", TYPES)
def test_every_happening_is_told_in_both_formats(kind: type) -> None:
    line = line_of(example(kind))

    assert json.loads(as_json(line, NOW, 0))["body"] == line.sentence
    assert as_text(line, NOW, 0).startswith("2026-11-18T")


@pytest.mark.parametrize("row", [row for rows in MESSAGES.values() for row in rows], ids=lambda row: row.sentence)
def test_sentences_begin_with_a_capital_and_end_with_a_full_stop(row: object) -> None:
    sentence = row.sentence  # type: ignore[attr-defined]

    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "{" not in sentence, "values are fields, not part of the sentence"


@pytest.mark.parametrize(("kind", "rows"), MESSAGES.items())
def test_rows_name_only_fields_that_there_are(kind: type, rows: tuple[object, ...]) -> None:
    gap_fields = {"stream", "upstream", "cause"} if kind is e.GapEnded else set()
    names = set(kind.__dataclass_fields__) | gap_fields  # type: ignore[attr-defined]

    for row in rows:
        assert set(row.reason) | set(row.hidden) <= names  # type: ignore[attr-defined]


def test_an_attempt_is_told_by_how_it_ended() -> None:
    assert line_of(example(e.ConnectionAttempted, status_code="OK")).level is Level.INFO
    assert line_of(example(e.ConnectionAttempted, error_class="transient")).level is Level.WARNING
    assert line_of(example(e.ConnectionAttempted, error_class="configuration")).level is Level.ERROR


def test_an_accepted_batch_is_worth_a_line_only_if_records_were_rejected() -> None:
    assert line_of(example(e.BatchAccepted, rejected=0)).level is Level.DEBUG
    assert line_of(example(e.BatchAccepted, rejected=1)).level is Level.WARNING


def test_a_gap_is_laid_open_and_its_length_said() -> None:
    fields = line_of(example(e.GapEnded)).fields

    assert (fields["cause"], fields["seconds"], fields["namespace"]) == ("throttled", 2.5, "shop")


def test_a_happening_without_a_row_is_told_all_the_same() -> None:
    line = line_of(example(ConnectStep))

    assert line.sentence == "ConnectStep."


def test_names_of_happenings_become_event_names() -> None:
    assert event_name(e.StreamLost) == "otelbridge.stream_lost"


def test_a_line_cannot_be_forged_by_what_it_tells() -> None:
    hostile = 'x" level=error\n2026-01-01T00:00:00.000Z ERROR Forged.\x1b[2J\u202e'
    line = line_of(example(e.StreamLost, detail=hostile))

    text = as_text(line, NOW, 3)
    assert "\n" not in text
    assert text.isprintable()
    assert 'detail="x\\" level=error\\n2026' in text
    assert text.endswith("more=3")
    record = as_json(line, NOW, 3)
    assert record.isprintable()
    assert json.loads(record)["attributes"]["more"] == 3


def test_the_json_line_has_the_keys_of_the_log_data_model() -> None:
    record = json.loads(as_json(line_of(example(e.StreamLost, stream=Stream.ALERTS)), NOW, 0))

    assert record["severity_text"] == "WARN"
    assert record["severity_number"] == 13
    assert record["event_name"] == "otelbridge.stream_lost"
    assert record["attributes"]["stream"] == "alerts"
    assert record["timestamp"] == "2026-11-18T11:06:40.123Z"
