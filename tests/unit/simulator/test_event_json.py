"""JSON of an event in, KubeArmor's message out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from otelbridge.event import Stream
from otelbridge.simulator.events import EventJsonError, event_from_json

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
RECORDED = [(name, line) for name in ("alerts", "logs") for line in (SAMPLES / f"{name}.json").read_text().splitlines()]


@pytest.mark.parametrize(("name", "line"), RECORDED)
def test_a_recorded_event_goes_to_the_stream_it_was_recorded_from(name: str, line: str) -> None:
    event = event_from_json(line)

    assert event.stream == name
    assert event.unknown_keys == ()


@pytest.mark.parametrize(("name", "line"), RECORDED)
def test_nothing_of_a_recorded_event_is_lost(name: str, line: str) -> None:
    back = json_format.MessageToDict(event_from_json(line).message, preserving_proto_field_name=True)

    for key, value in json.loads(line).items():
        if value not in ("", 0, [], {}, None):
            # protobuf's JSON writes 64-bit numbers as text.
            assert back[key] == (str(value) if key == "Timestamp" else value)


@pytest.mark.parametrize("line", (SAMPLES / "constructed.json").read_text().splitlines())
def test_a_constructed_event_is_what_its_kind_says(line: str) -> None:
    kind = json.loads(line)["_kind"]

    event = event_from_json(line)

    assert event.message.DESCRIPTOR.name.lower() == kind
    assert event.unknown_keys == ()


def test_the_kinds_of_constructed_events_are_mostly_seen_by_their_fields_too() -> None:
    for line in (SAMPLES / "constructed.json").read_text().splitlines():
        document = json.loads(line)
        kind = document.pop("_kind")

        assert event_from_json(json.dumps(document)).message.DESCRIPTOR.name.lower() == kind


def test_a_whole_number_that_went_through_a_float_is_taken() -> None:
    line = (SAMPLES / "odd.json").read_text().splitlines()[2]

    assert event_from_json(line).message.HostPID == 1252628  # type: ignore[union-attr]


def test_whole_numbers_as_text_keep_every_digit() -> None:
    event = event_from_json('{"Timestamp": "9007199254740993", "HostPID": "1e3"}')

    assert event.message.Timestamp == 9007199254740993
    assert event.message.HostPID == 1000  # type: ignore[union-attr]


def test_the_small_first_letters_of_the_log_file_are_understood() -> None:
    for line in (SAMPLES / "file-format.json").read_text().splitlines():
        event = event_from_json(line)

        assert event.message.UpdatedTime
        assert event.message.HostName
        assert event.unknown_keys == ()


def test_unknown_keys_are_ignored_and_named_with_their_path() -> None:
    event = event_from_json('{"Type": "ContainerLog", "Owner": {"Ref": "Pod", "Nickname": "x"}, "Mood": 1}')

    assert event.unknown_keys == ("Owner.Nickname", "Mood")
    assert event.message.Owner.Ref == "Pod"  # type: ignore[union-attr]


def test_null_is_the_same_as_absent() -> None:
    assert (
        event_from_json('{"ATags": null, "PolicyName": "p"}').message == event_from_json('{"PolicyName": "p"}').message
    )


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert event_from_json('{"Source": "a\\ud800b"}').message.Source == "a\ufffdb"  # type: ignore[union-attr]


def test_a_log_of_a_network_policy_without_a_policy_stays_a_log() -> None:
    assert event_from_json('{"Type": "MatchedNetworkPolicy", "Operation": "NetworkFirewall"}').stream is Stream.LOGS
    assert event_from_json('{"Type": "MatchedNetworkPolicy", "PolicyName": "nsp"}').stream is Stream.ALERTS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b'{"Source": "\xff"}', "not JSON"),
        ("[1]", "not a JSON object but [1]"),
        ('{"HostPID": 1.5}', "HostPID must be a whole number of 32 bits, not 1.5"),
        ('{"HostPID": 99999999999}', "HostPID must be a whole number of 32 bits, not 99999999999"),
        ('{"HostPID": true}', "HostPID must be a whole number"),
        ('{"HostPID": NaN}', "HostPID must be a whole number"),
        ('{"HostPID": "twelve"}', 'HostPID must be a whole number of 32 bits, not "twelve"'),
        ('{"Source": ["a"]}', 'Source must be a text, not ["a"]'),
        ('{"Owner": "me"}', 'Owner must be an object, not "me"'),
        ('{"ATags": "a"}', 'ATags must be a list, not "a"'),
        ('{"EventData": {"a": {}}}', "EventData.a must be a text, not {}"),
        ('{"_kind": "alarm", "Type": "x"}', '_kind must be one of alert, log, message, not "alarm"'),
        ('{"_kind": {"a": 1}, "Type": "x"}', "_kind must be one of"),
    ],
)
def test_a_value_that_cannot_be_is_named(text: str, reason: str) -> None:
    with pytest.raises(EventJsonError) as caught:
        event_from_json(text)

    assert reason in str(caught.value)
