"""The mapping answers the same events as ever; see `tests/on_file.py`, and the golden documents for what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

import pytest

from otelbridge.event import Flood, Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import AlertCount, Instant, MappingCounts, Memo
from otelbridge.mapping.recent_events import MAX_BYTES, RecentEvents
from otelbridge.mapping.settings import MappingSettings
from tests.on_file import assert_on_file, told
from tests.processes import STARTED
from tests.unit.mapping.samples import RECEIVED, STREAMS, sample_events
from tests.unit.mapping.test_process_tree import Traced, event, executed

GOLDEN = Path(__file__).parent / "golden"
SHAPES = (
    MappingSettings(native=False),
    MappingSettings(native=False, keep_raw=False, body="json", resource_granularity="node", max_value_bytes=256),
    MappingSettings(native=False, kubernetes=False, body="map", resource_granularity="pod", keep_original=True),
    MappingSettings(native=False, parse_labels=True, max_value_bytes=257, max_body_bytes=128, cluster_name="mine"),
)


def samples() -> Iterator[str]:
    mappers = [Mapper(shape, version="1.2.3") for shape in SHAPES]
    for name, message in sample_events():
        stream, body = STREAMS[type(message)], message.SerializeToString(deterministic=True)
        requests = [mapper.assemble([mapper.map(stream, decode(stream, body), RECEIVED)]) for mapper in mappers]
        yield told(name, *(f"{crc32(request):08x}" for request in requests))
    for mapper in mappers:
        yield told(crc32(repr(mapper.tally.alert_counts()).encode()), mapper.tally.truncated, mapper.tally.nodes)


def test_what_becomes_of_each_sample() -> None:
    assert_on_file(GOLDEN / "samples.txt", samples())


def odd_bytes() -> Iterator[str]:
    """Samples with fields that nobody knows, zero bytes, what is no UTF-8, and broken off."""
    dice, mapper = Random(1), Mapper(MappingSettings(native=False), version="1")
    unknown = (
        b"\xa0\x3f\x96\x01", b"\xa1\x3f12345678", b"\xa5\x3f1234", b"\xa2\x3f\x02hi", b"\xa2\x3f\x02\xff\x00",
        b"\xa3\x3f\x08\x01\xa4\x3f", b"\x08hi", b"\xff" * 10 + b"\x01", b"\xa0",
    )  # fmt: skip
    for name, message in sample_events():
        stream, body = STREAMS[type(message)], message.SerializeToString(deterministic=True)
        for some in (dice.sample(unknown, 1), dice.sample(unknown[:6], 3)):
            at = dice.randrange(max(1, len(body)))
            changed = body + b"".join(some) if dice.random() < 0.6 else body[:at] + some[0] + body[at + 1 :]
            found = decode(stream, changed)
            record = mapper.map(stream, found, RECEIVED)
            yield told(name, found.how, bool(found.why), found.unknown, found.sanitized,
                       f"{crc32(record.encoded):08x} {crc32(mapper.uid(stream, found)):08x}")  # fmt: skip
    tally = mapper.tally
    yield told(tally.raw, tally.sanitized, tally.unknown_fields, tally.truncated)


def test_what_becomes_of_odd_bytes() -> None:
    assert_on_file(GOLDEN / "odd-bytes.txt", odd_bytes())


def floods() -> Iterator[str]:
    sample = dict(sample_events())["alerts.json:16"].SerializeToString(deterministic=True)
    for shape in SHAPES:
        mapper = Mapper(shape, version="1")
        for resources, examples in ((0, ()), (7, ("/a", "/b")), (300, ("x" * 300,))):
            flood = Flood(
                stream=Stream.ALERTS, kind="alerts/p/ns/w/Process/denied", sample=sample, events=resources + 12,
                started_unix_nano=STARTED, ended_unix_nano=STARTED + 61_000_000_000, processes=1,
                process_examples=("/bin/sh",), resources=resources, resource_examples=examples,
            )  # fmt: skip
            yield f"{crc32(mapper.flood(flood, observed_unix_nano=RECEIVED).encoded):08x}"


def test_what_becomes_of_floods() -> None:
    assert_on_file(GOLDEN / "floods.txt", floods())


def processes(seed: int) -> Iterator[str]:
    """Events in any order, with pids that are used again, sessions, and pauses in which processes fall quiet."""
    dice, traced, at = Random(seed), Traced(), 0.0
    for _ in range(400):
        at += dice.choice(
            (0.001, 0.3, 2.0, 30.0 if dice.random() < 0.1 else 1.0, 4_000.0 if dice.random() < 0.01 else 0.1)
        )
        pid, parent_pid, name = dice.randrange(1, 9), dice.randrange(9), dice.choice("abc")
        ids = dice.choice(("0", "", str(pid << 32 | 7), str(1 << 32 | 7), str(2 << 32 | 7)))
        made = dice.choice((event, executed, executed))(
            pid, parent_pid, name, max(0.0, at - dice.choice((0.0, 0.0, 0.5, 5.0))), parent=dice.choice(("sh", "abc")),
            container=dice.choice(("", "c", "c")), exec_id=ids, PID=dice.choice((0, pid, pid + 1, pid + 2)),
            PPID=dice.choice((0, parent_pid, parent_pid + 1)), task=dice.choice("abc"),
            Result=dice.choice(("Passed", "Passed", "Permission denied")), Resource=f"/bin/{name} {dice.randrange(5)}",
        )  # fmt: skip
        record = traced.note(*made)
        yield record.trace_id[-2:].hex() + record.span_id[-3:].hex()
    for span in traced.spans():
        said = crc32(repr(sorted(pair.SerializeToString() for pair in span.attributes)).encode())
        when = [(one - STARTED) / 1e9 for one in (span.start_time_unix_nano, span.end_time_unix_nano)]
        names = span.trace_id[-2:].hex(), span.span_id[-3:].hex(), span.parent_span_id[-3:].hex()
        events = len(span.events), span.dropped_events_count
        yield told(span.name, *names, *when, *events, span.status.code, f"{said:08x}")
    tree = traced.processes.tree
    yield told(tree.spans, tree.orphans, tree.early, tree.remembered(), len(tree))


@pytest.mark.parametrize("seed", range(3))
def test_what_becomes_of_processes(seed: int) -> None:
    assert_on_file(GOLDEN / f"processes-{seed}.txt", processes(seed))


def test_what_becomes_of_processes_where_there_is_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in {"MAX_OPEN": 6, "MAX_SENT": 5, "MAX_TRACES": 4, "MAX_EVENTS": 3, "MAX_ANCESTORS": 2}.items():
        monkeypatch.setattr(f"otelbridge.mapping.process_tree.{name}", limit)
    assert_on_file(GOLDEN / "processes-little-room.txt", processes(4))


def test_what_becomes_of_processes_with_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.mapping.process_tree.MAX_TEXT_BYTES", 6_000)
    assert_on_file(GOLDEN / "processes-long-texts.txt", processes(5))


class Answer(NamedTuple):
    """What a memo keeps."""

    text: str
    weight: int


def memo() -> Iterator[str]:
    dice, made = Random(1), list[int]()

    def make(key: int) -> Answer:
        made.append(key)
        return Answer(str(key), 0 if key == 3 else 10 + key % 7)

    for entries, size in ((16, 10_000), (1_000, 200), (8, 90)):
        kept = Memo[int, Answer](make, max_entries=entries, max_bytes=size)
        for _ in range(150):
            key = dice.choice((dice.randrange(6), dice.randrange(30), dice.randrange(1_000)))
            made.clear()
            recalled = kept.recall(key)
            yield told(key, recalled is not None, (recalled or kept.learn(key)).text, len(made), len(kept))


def test_what_is_remembered() -> None:
    assert_on_file(GOLDEN / "memo.txt", memo())


TIMES = (
    "2026-07-25T17:20:00.123456Z", "2026-07-25T17:20:00.999999Z", "2026-07-25T17:20:01.000000Z", "2026-07-25T17:20:01Z",
    "2026-07-25T17:20:01.5Z", "2026-07-25T17:20:01.123456789Z", "2026-07-25T17:20:01.1234567891Z",
    "2026-07-25T17:20:01.123456+02:00", "2026-07-25T17:20:01.123456", "1970-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z", "2262-04-11T23:47:16.854775Z", "2300-01-01T00:00:00.000000Z", "", "no time",
    "2026-13-25T17:20:00.123456Z", "2026-07-25T17:20:00,123456Z", "2026-07-25T17:20:00.12345xZ",
)  # fmt: skip


def instants() -> Iterator[str]:
    instant = Instant()
    for text in TIMES:
        for timestamp in (0, 1_785_000_000, 1_785_000_001, -1, 2**62):
            found = instant.unix_nano(text, timestamp)
            yield told(repr(text), timestamp, found, instant.odd(text, timestamp, found), instant.second)


def test_which_times_are_read() -> None:
    assert_on_file(GOLDEN / "instants.txt", instants())


def test_alerts_are_counted_and_uncounted_within_and_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.mapping.model.MAX_ALERT_SERIES", 3)
    counts, kinds = MappingCounts(), [("process", "Block", "denied", policy) for policy in "abcde"]
    for workload in ("w", "x"):
        for kind in kinds:
            counts.count_alert(("ns", workload), kind)
    beyond = ("process", "Block", "denied", "")
    expected = [AlertCount(("ns", "w"), kind, 1) for kind in kinds[:3]]
    assert counts.alert_counts() == [*expected, AlertCount(None, beyond, 7)]
    for kind, left in ((kinds[4], 6), (kinds[0], 6)):
        counts.last = ("node", ("ns", "w"), kind)
        counts.uncount_alert()
        assert counts.overflow == {beyond: left}
    assert counts.alerts[kinds[0]] == {("ns", "w"): 0}


def test_nodes_are_taken_once_and_without_those_that_have_no_name() -> None:
    counts = MappingCounts()
    counts.nodes.update({"": 1, "a": 2})
    assert counts.take_nodes() == {"a": 2}
    assert counts.take_nodes() == {}


def test_the_latest_events_are_kept_within_a_number_and_within_bytes() -> None:
    recent = RecentEvents(3)
    for number in range(1, 6):
        recent.note(Stream.LOGS, number, b"event", b"record")
    assert [noted.number for noted in recent.after(0)] == [3, 4, 5]
    assert [noted.number for noted in recent.after(4)] == [5]
    recent.note(Stream.LOGS, 6, bytes(MAX_BYTES - 11), b"")
    assert [noted.number for noted in recent.after(0)] == [5, 6], "just as many bytes as may be"
    recent.note(Stream.LOGS, 7, b"", b"x")
    assert [noted.number for noted in recent.after(0)] == [6, 7]
    recent.note(Stream.LOGS, 8, bytes(MAX_BYTES), b"more")
    assert [noted.number for noted in recent.after(0)] == [8], "one that is larger alone"
    recent.note(Stream.LOGS, 9, b"", b"")
    assert [noted.number for noted in recent.after(0)] == [9]
