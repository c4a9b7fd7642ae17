"""Events are found in the files that people have, and what is none is named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.simulator.events import (
    SAMPLES,
    FoundEvent,
    NotAnEvent,
    opened,
    read_events,
    read_file,
    sample_events,
)

TEST_SAMPLES = Path(__file__).resolve().parents[2] / "samples"
EVENT = {"Type": "MatchedPolicy", "PolicyName": 'p {["', "Owner": {"Ref": "Deployment", "Name": "web"}, "ATags": ["a"]}
TEXT = json.dumps(EVENT)


def found(text: str | bytes) -> list[FoundEvent | NotAnEvent]:
    raw = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return list(read_events(opened(raw), "f"))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_package_has_the_very_samples_that_the_tests_have(name: str) -> None:
    packaged = resources.files("otelbridge.simulator") / "samples" / f"{name}.jsonl"

    assert packaged.read_bytes() == (TEST_SAMPLES / f"{name}.json").read_bytes()


def test_the_samples_are_of_all_three_streams() -> None:
    assert {event.stream for event in sample_events()} == {Stream.ALERTS, Stream.LOGS, Stream.MESSAGES}


WRAPPED = {
    "a line": TEXT,
    "a line with a CR": TEXT + "\r\n",
    "behind a byte order mark": "\ufeff" + TEXT,
    "pretty-printed": json.dumps(EVENT, indent=2),
    "pretty-printed with tabs and CR": json.dumps(EVENT, indent="\t").replace("\n", "\r\n"),
    "an array": f"[{TEXT}]",
    "a pretty-printed array": json.dumps([EVENT], indent=4),
    "kubectl logs --prefix": f"[pod/relay-1/relay] {TEXT}",
    "kubectl logs --timestamps": f"2026-01-02T03:04:05.678901234Z {TEXT}",
    "kubectl logs --prefix --timestamps": f"[pod/relay-1/relay] 2026-01-02T03:04:05Z {TEXT}",
    "containerd's log file": f"2026-01-02T03:04:05.678901234+01:00 stdout F {TEXT}",
    "docker's log file": json.dumps({"log": TEXT + "\n", "stream": "stdout", "time": "2026-01-02T03:04:05Z"}),
    "a prefix inside docker's": json.dumps({"log": f"{TEXT}\n", "kubernetes": {"pod_name": "x"}}),
    "fluent-bit's parsed log": json.dumps({"log": "x", "log_processed": EVENT, "stream": "stdout"}),
    "vector's message": json.dumps({"message": TEXT, "timestamp": "2026-01-02T03:04:05Z", "source_type": "file"}),
    "UTF-16 of a PowerShell": TEXT.encode("utf-16"),
    "UTF-16 of the other order": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-32": TEXT.encode("utf-32"),
    "containerd's log file, in pieces": f"2026-01-02T03:04:05Z stdout P {TEXT[:9]}\n2026-01-02T03:04:05Z stdout P "
    f"{TEXT[9:30]}\n2026-01-02T03:04:05Z stdout F {TEXT[30:]}\n",
    "docker's log file, in pieces": "".join(
        json.dumps({"log": piece, "stream": "stdout", "time": "x"}) + "\n" for piece in (TEXT[:9], TEXT[9:] + "\n")
    ),
    "an Elasticsearch bulk request": json.dumps({"index": {"_index": "x"}}) + "\n" + TEXT,
    "a List": json.dumps({"apiVersion": "v1", "kind": "List", "items": [EVENT]}, indent=4),
    "Loki's answer": json.dumps(
        {"status": "success", "data": {"resultType": "streams", "result": [{"stream": {}, "values": [["1", TEXT]]}]}}
    ),
    "logcli's lines": json.dumps({"labels": {}, "line": TEXT, "timestamp": "2026-01-02T03:04:05Z"}),
    "a JSON text sequence": f"\x1e{TEXT}\n",
    "an Elasticsearch hit": json.dumps({"_index": "kubearmor", "_id": "1", "_source": EVENT}),
    "an Elasticsearch answer": json.dumps({"took": 1, "hits": {"total": 1, "hits": [{"_source": EVENT}]}}, indent=1),
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_event_is_found_however_it_is_wrapped(text: str | bytes, compress: Callable[[bytes], bytes]) -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    expected = found(TEXT)[0]

    assert isinstance(expected, FoundEvent)
    assert [one.event for one in found(compress(raw))] == [expected.event]  # type: ignore[union-attr]


def test_many_pretty_printed_events_follow_one_another() -> None:
    text = "\n".join(json.dumps(EVENT | {"PolicyName": str(number)}, indent=2) for number in range(3))

    assert [one.event.message.PolicyName for one in found(text)] == ["0", "1", "2"]  # type: ignore[union-attr]


def test_a_bad_line_is_named_by_file_and_line_and_the_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"Type": "HostLog"}\n\n{"Type": \n\xff\xfe\n{"Type": "MatchedPolicy"}')

    first, broken, last = read_file(file)

    assert isinstance(first, FoundEvent)
    assert isinstance(last, FoundEvent)
    assert str(broken).startswith(f"{file}:3: not JSON")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('{"a": 1}', "f:1", "none of KubeArmor's fields"),
        ("{}", "f:1", "none of KubeArmor's fields"),
        ('\n\n["x"]', "f:3", "not a JSON object"),
        ("level=info msg=hello", "f:1", "not JSON"),
        ("== Alert / 2026-01-02 03:04:05 ==", "f:1", "karmor logs --json"),
        (TEXT[:-1], "f:1", "not JSON"),
        ("[" * 100_000, "f:1", "not JSON"),
        (json.dumps({"log": "{broken", "stream": "stdout"}), "f:1", "cut off"),
    ],
)
def test_what_is_no_event_is_named_with_its_reason(text: str, place: str, reason: str) -> None:
    (bad,) = found(text)

    assert isinstance(bad, NotAnEvent)
    assert bad.place == place
    assert reason in bad.reason


@pytest.mark.parametrize("between", ["", " ", ",\n", "\n"])
def test_events_may_stand_one_behind_the_other(between: str) -> None:
    three = found(between.join([TEXT] * 3))
    assert [type(one) for one in three] == [FoundEvent] * 3
    pretty = found(between.join([json.dumps(EVENT, indent=2)] * 3))
    assert [type(one) for one in pretty] == [FoundEvent] * 3


def test_lines_of_two_streams_in_pieces_are_not_mixed_up() -> None:
    lines = [("stdout P", TEXT[:20]), ("stderr F", "starting"), ("stdout F", TEXT[20:])]
    bad, good = found("".join(f"2026-01-02T03:04:05Z {kind} {text}\n" for kind, text in lines))
    assert isinstance(bad, NotAnEvent)
    assert isinstance(good, FoundEvent)
    assert (bad.place, good.place) == ("f:2", "f:1")


@pytest.mark.parametrize(
    "text",
    [
        f"2026-01-02T03:04:05Z stdout P {TEXT[:20]}\n",
        json.dumps({"log": TEXT[:20], "stream": "stdout"}),
    ],
)
def test_a_piece_without_its_end_is_no_event(text: str) -> None:
    (bad,) = found(text)
    assert isinstance(bad, NotAnEvent)


@pytest.mark.parametrize(("head", "kind"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "zip")])
def test_what_cannot_be_decompressed_here_is_named(head: bytes, kind: str) -> None:
    with pytest.raises(OSError, match=f"compressed with {kind}"):
        found(head + bytes(100))


def test_damaged_utf_16_is_an_error_that_says_so() -> None:
    with pytest.raises(OSError, match="utf-16"):
        found(TEXT.encode("utf-16")[:-1])


def test_damaged_gzip_is_an_error_that_says_so() -> None:
    with pytest.raises(OSError, match="gzip"):
        found(gzip.compress(TEXT.encode() * 1000)[:-20])


def test_events_are_found_as_their_lines_come() -> None:
    def lines() -> object:
        yield b'{"Type": "HostLog"}\n'
        raise AssertionError("asked for more than was taken")

    assert isinstance(next(iter(read_events(lines(), "pipe"))), FoundEvent)  # type: ignore[arg-type]
