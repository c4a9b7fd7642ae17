"""Files of events, and the samples that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.simulator.events import SAMPLES, BadLine, ParsedEvent, parse_lines, read_file, sample_events

TEST_SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.mark.parametrize("name", SAMPLES)
def test_the_package_has_the_very_samples_that_the_tests_have(name: str) -> None:
    packaged = resources.files("otelbridge.simulator") / "samples" / f"{name}.jsonl"

    assert packaged.read_bytes() == (TEST_SAMPLES / f"{name}.json").read_bytes()


def test_the_samples_are_of_all_three_streams() -> None:
    assert {event.stream for event in sample_events()} == {Stream.ALERTS, Stream.LOGS, Stream.MESSAGES}


def test_a_bad_line_is_named_by_file_and_line_and_the_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"Type": "HostLog"}\n\n{"Type": \n\xff\xfe\n{"Type": "MatchedPolicy"}')

    first, broken, binary, last = read_file(file)

    assert isinstance(first, ParsedEvent)
    assert isinstance(last, ParsedEvent)
    assert str(broken).startswith(f"{file}:3: not JSON")
    assert isinstance(binary, BadLine)
    assert binary.place == f"{file}:4"


def test_lines_are_parsed_as_they_come() -> None:
    def lines() -> object:
        yield '{"Type": "HostLog"}'
        raise AssertionError("asked for more than was taken")

    assert isinstance(next(iter(parse_lines(lines(), "pipe"))), ParsedEvent)  # type: ignore[arg-type]
