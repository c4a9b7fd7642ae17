"""What the mapping makes of samples, odd bytes and processes, on file: see `tests/on_file.py`.

Checksums tell that an encoding has changed; test_golden.py has whole documents that show how.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.event import Flood, Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import AlertCount, Instant, MappingCounts, Memo
from otelbridge.mapping.recent_events import MAX_BYTES, RecentEvents
from otelbridge.mapping.settings import MappingSettings
from tests.on_file import Row, assert_on_file
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


def samples() -> Iterator[Row]:
    mappers = [Mapper(shape, version="1.2.3") for shape in SHAPES]
    for name, message in sample_events():
        stream, body = STREAMS[type(message)], message.SerializeToString(deterministic=True)
        requests = [mapper.assemble([mapper.map(stream, decode(stream, body), RECEIVED)]) for mapper in mappers]
        yield name, *(f"{crc32(request):08x}" for request in requests)
    tallies = [mapper.tally for mapper in mappers]
    yield "alert counts", *(f"{crc32(repr(tally.alert_counts()).encode()):08x}" for tally in tallies)
    yield "truncated", *(tally.truncated for tally in tallies)
    yield "nodes", *(len(tally.nodes) for tally in tallies)


def test_what_becomes_of_each_sample() -> None:
    assert_on_file(
        GOLDEN / "samples.txt",
        "Checksums of the requests made of each sample, by settings.",
        "sample, default, JSON body by node, no kubernetes by pod, labels and short values",
        samples(),
    )


UNKNOWN = {
    "varint": b"\xa0\x3f\x96\x01", "fixed64": b"\xa1\x3f12345678", "fixed32": b"\xa5\x3f1234",
    "text": b"\xa2\x3f\x02hi", "bytes": b"\xa2\x3f\x02\xff\x00", "group": b"\xa3\x3f\x08\x01\xa4\x3f",
    "known number": b"\x08hi", "endless tag": b"\xff" * 10 + b"\x01", "cut tag": b"\xa0",
}  # fmt: skip
"""Fields of number 1012, which no message has, and what is none."""


def odd_bytes() -> Iterator[Row]:
    dice, mapper = Random(1), Mapper(MappingSettings(native=False), version="1")
    for name, message in sample_events():
        stream, body = STREAMS[type(message)], message.SerializeToString(deterministic=True)
        for some in (dice.sample(list(UNKNOWN), 1), dice.sample(list(UNKNOWN)[:6], 3)):
            at = dice.randrange(max(1, len(body)))
            if dice.random() < 0.6:
                how, changed = " and ".join(some), body + b"".join(UNKNOWN[one] for one in some)
            else:
                value = UNKNOWN[some[0]][0]
                how, changed = f"byte {at} is {value:#x}", body[:at] + bytes([value]) + body[at + 1 :]
            found = decode(stream, changed)
            record = mapper.map(stream, found, RECEIVED)
            yield (name, how, found.how, bool(found.why), " ".join(found.unknown), found.sanitized,
                   f"{crc32(record.encoded):08x}", f"{crc32(mapper.uid(stream, found)):08x}")  # fmt: skip
    tally = mapper.tally
    yield "counted", "", f"{tally.raw} raw", "", tally.unknown_fields, tally.sanitized, f"{tally.truncated} cut", ""


def test_what_becomes_of_odd_bytes() -> None:
    assert_on_file(
        GOLDEN / "odd-bytes.txt",
        "Samples with fields that nobody knows behind them, or with a changed byte; the last two are checksums.",
        "sample, change, decoded, says why, unknown fields, sanitized, record, id",
        odd_bytes(),
    )


def floods() -> Iterator[Row]:
    sample = dict(sample_events())["alerts.json:16"].SerializeToString(deterministic=True)
    mappers = [Mapper(shape, version="1") for shape in SHAPES]
    for resources, examples in ((0, ()), (7, ("/a", "/b")), (300, ("x" * 300,))):
        flood = Flood(
            stream=Stream.ALERTS, kind="alerts/p/ns/w/Process/denied", sample=sample, events=resources + 12,
            started_unix_nano=STARTED, ended_unix_nano=STARTED + 61_000_000_000, processes=1,
            process_examples=("/bin/sh",), resources=resources, resource_examples=examples,
        )  # fmt: skip
        encoded = [mapper.flood(flood, observed_unix_nano=RECEIVED).encoded for mapper in mappers]
        yield resources, *(f"{crc32(one):08x}" for one in encoded)


def test_what_becomes_of_floods() -> None:
    assert_on_file(
        GOLDEN / "floods.txt",
        "Checksums of a flood's record, by settings.",
        "resources, default, JSON body by node, no kubernetes by pod, labels and short values",
        floods(),
    )


class Names(dict[bytes, str]):
    """`p1`, `p2` ... for spans, `t1`, `t2` ... for traces, in the order in which they are met."""

    def of(self, one: LogRecord | Span) -> str:
        for kind, key in (("p", one.span_id), ("t", one.trace_id)):
            self.setdefault(key, f"{kind}{sum(name[0] == kind for name in self.values()) + 1}")
        return f"{self[one.span_id]} in {self[one.trace_id]}"


def processes(seed: int, number: int) -> Iterator[Row]:
    """Events in any order, with pids that are used again, sessions, and pauses in which processes fall quiet."""
    dice, traced, at, names = Random(seed), Traced(), 0.0, Names()
    for _ in range(number):
        at += dice.choice(
            (0.001, 0.3, 2.0, 30.0 if dice.random() < 0.1 else 1.0, 4_000.0 if dice.random() < 0.01 else 0.1)
        )
        pid, parent_pid, name = dice.randrange(1, 9), dice.randrange(9), dice.choice("abc")
        ids = dice.choice(("0", "", str(pid << 32 | 7), str(1 << 32 | 7), str(2 << 32 | 7)))
        make = dice.choice((event, executed, executed))
        when = max(0.0, at - dice.choice((0.0, 0.0, 0.5, 5.0)))
        made = make(
            pid, parent_pid, name, when, parent=dice.choice(("sh", "abc")),
            container=dice.choice(("", "c", "c")), exec_id=ids, PID=dice.choice((0, pid, pid + 1, pid + 2)),
            PPID=dice.choice((0, parent_pid, parent_pid + 1)), task=dice.choice("abc"),
            Result=dice.choice(("Passed", "Passed", "Permission denied")), Resource=f"/bin/{name} {dice.randrange(5)}",
        )  # fmt: skip
        record, log = traced.note(*made), made[1]
        session = f"{int(ids or 0) >> 32}" if int(ids or 0) else ""
        what = f"{'exec' if make is executed else 'event'}{' denied' if log.Result != 'Passed' else ''}"
        yield (f"{when:.3f}", what, f"{pid} of {parent_pid}", f"{log.PID} of {log.PPID}", name, log.ParentProcessName,
               log.ExecEvent.ExecutableName, log.ContainerID, session, log.Resource,
               names.of(record))  # fmt: skip
    spans = sorted(traced.spans(), key=lambda span: span.start_time_unix_nano)
    for span in spans:
        names.of(span)
    for span in spans:
        from_, until = ((one - STARTED) / 1e9 for one in (span.start_time_unix_nano, span.end_time_unix_nano))
        said = {
            pair.key: pair.value.string_value or str(pair.value.int_value or pair.value.bool_value)
            for pair in span.attributes
        }
        pids = [
            " of ".join(filter(None, (said.pop(one, "") for one in pair)))
            for pair in (("process.pid", "process.parent_pid"), ("process.vpid", "kubearmor.process.parent_vpid"))
        ]
        command = said.pop("process.command_line", "")
        said = {key: value for key, value in said.items() if not key.startswith("process.executable.")}
        parent = f" under {names.get(span.parent_span_id, '?')}" if span.parent_span_id else ""
        dropped = f", {span.dropped_events_count} more" if span.dropped_events_count else ""
        others = " ".join(
            f"{key.removeprefix('otelbridge.').removeprefix('process.')}={said[key]}" for key in sorted(said)
        )
        yield (f"{from_:.3f}", f"to {until:.3f}", *pids, span.name, f"events {len(span.events)}{dropped}", "", "",
               "failed" if span.status.code else "", command,
               f"{names.of(span)}{parent}: {others}")  # fmt: skip
    tree = traced.processes.tree
    counts = (
        f"{tree.spans} spans, {tree.orphans} orphans, {tree.early} early, {tree.remembered()} kept, {len(tree)} open"
    )
    yield "end", counts, *[""] * 9


PROCESSES = "second, what, pid, in container, name, parent, task, container, session, resource, span and trace"


@pytest.mark.parametrize("seed", range(3))
def test_what_becomes_of_processes(seed: int) -> None:
    assert_on_file(
        GOLDEN / f"processes-{seed}.txt", "Events of processes, then the spans.", PROCESSES, processes(seed, 70)
    )


def test_what_becomes_of_processes_where_there_is_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in {"MAX_OPEN": 6, "MAX_SENT": 5, "MAX_TRACES": 4, "MAX_EVENTS": 3, "MAX_ANCESTORS": 2}.items():
        monkeypatch.setattr(f"otelbridge.mapping.process_tree.{name}", limit)
    title = "Events of processes where six are kept, then the spans."
    assert_on_file(GOLDEN / "processes-little-room.txt", title, PROCESSES, processes(4, 110))


def test_what_becomes_of_processes_with_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.mapping.process_tree.MAX_TEXT_BYTES", 2_000)
    title = "Events of processes where 2,000 bytes of texts are kept, then the spans."
    assert_on_file(GOLDEN / "processes-long-texts.txt", title, PROCESSES, processes(5, 110))


class Answer(NamedTuple):
    """What a memo keeps."""

    text: str
    weight: int


def memo(entries: int, size: int, questions: int) -> Iterator[Row]:
    dice, made = Random(entries), list[int]()

    def make(key: int) -> Answer:
        made.append(key)
        return Answer(str(key), 0 if key == 3 else 10 + key % 7)

    kept = Memo[int, Answer](make, max_entries=entries, max_bytes=size)
    for _ in range(questions):
        key = dice.choice((dice.randrange(6), dice.randrange(30), dice.randrange(1_000)))
        made.clear()
        recalled = kept.recall(key)
        answer = recalled or kept.learn(key)
        yield key, answer.weight, "recalled" if recalled else "made" if made else "from the old", len(kept)


@pytest.mark.parametrize(("entries", "size", "questions"), [(16, 10_000, 50), (1_000, 200, 50), (8, 90, 50)])
def test_what_is_remembered(entries: int, size: int, questions: int) -> None:
    assert_on_file(
        GOLDEN / f"memo-{entries}.txt",
        f"A memo of {entries} entries and {size} bytes a generation; what weighs nothing is not kept.",
        "key, weight, answer, kept",
        memo(entries, size, questions),
    )


TIMES = (
    "2026-07-25T17:20:00.123456Z", "2026-07-25T17:20:00.999999Z", "2026-07-25T17:20:01.000000Z", "2026-07-25T17:20:01Z",
    "2026-07-25T17:20:01.5Z", "2026-07-25T17:20:01.123456789Z", "2026-07-25T17:20:01.1234567891Z",
    "2026-07-25T17:20:01.123456+02:00", "2026-07-25T17:20:01.123456", "1970-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z", "2262-04-11T23:47:16.854775Z", "2300-01-01T00:00:00.000000Z", "", "no time",
    "2026-13-25T17:20:00.123456Z", "2026-07-25T17:20:00,123456Z", "2026-07-25T17:20:00.12345xZ",
)  # fmt: skip


def instants() -> Iterator[Row]:
    instant = Instant()
    for text in TIMES:
        for timestamp in (0, 1_785_000_001) if text else (0, 1_785_000_001, -1, 2**62):
            found = instant.unix_nano(text, timestamp)
            also = ", ".join(f"{key}={value}" for key, value in instant.odd(text, timestamp, found))
            yield text, timestamp, found, also, instant.second


def test_which_times_are_read() -> None:
    assert_on_file(
        GOLDEN / "instants.txt",
        "What time an event tells; of what does not fit, attributes are made.",
        "UpdatedTime, Timestamp, nanoseconds, attributes, second of the cache",
        instants(),
    )


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
