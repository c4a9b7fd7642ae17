"""Copies by another road on the walk from the buffer into the queue: of every kind of event, one record."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge.event import Gap, RawEvent, Stream
from otelbridge.feed.roads import SLICES, Roads
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import FloodSettings, GateSettings, RuleSettings
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import MappingCounts
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.pipeline import GapSink, Pipeline
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.packing import joined, unpacked
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.events import sample_events, stamp_sequence, stamp_time
from otelbridge.simulator.generator import generate
from tests.buffers import OpenBuffer
from tests.records import gaps_told_by
from tests.roads import as_relayed

A, B = "relay-a:32767", "relay-b:32767"
MIB = 1 << 20
NOT_PROTOBUF = b"\xff\xff\xff"
NOT_UTF8 = pb.Alert(HostName="n1", Resource="QQ").SerializeToString().replace(b"QQ", b"\xff\xfe")
UNKNOWN_FIELD = pb.Log(HostName="n1").SerializeToString() + b"\xa2\x3e\x01x"


@dataclass
class Walk:
    """A pipeline with two roads."""

    queue: DurableQueue
    mapping: MappingSettings = field(default_factory=MappingSettings)
    tally: MappingCounts = field(default_factory=lambda: MappingCounts(keeps_last=True))
    latest: RecentEvents = field(default_factory=lambda: RecentEvents(100))
    gaps: list[Gap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roads = Roads((A, B), 60, blind=set, now=time.monotonic())

    def carry(self, *events: RawEvent, gate: GateSettings | None = None) -> list[LogRecord]:
        """Walks the events through and returns what is in the queue afterwards."""
        buffer = OpenBuffer(10_000, 64 * MIB)
        sink = GapSink(lambda told: self.gaps.append(told.gap) if hasattr(told, "gap") else None, buffer.wake)
        self.pipeline = Pipeline(
            buffer=buffer,
            gate=Gate(gate or GateSettings()),
            mapper=Mapper(self.mapping, version="1", tally=self.tally),
            queue=self.queue,
            gaps=sink,
            tell=lambda told: self.gaps.append(told.gap) if hasattr(told, "gap") else None,
            latest=self.latest,
            roads=self.roads,
        )
        for event in events:
            buffer.offer(event)
        self.pipeline.start()
        assert self.pipeline.drain()
        records: list[LogRecord] = []
        while lease := self.queue.take(max_bytes=MIB, max_records=MIB):
            for per_resource in ExportLogsServiceRequest.FromString(unpacked(joined(lease.parts))).resource_logs:
                records += [record for per_scope in per_resource.scope_logs for record in per_scope.log_records]
        return records

    def account(self, account: Account) -> int:
        ledger, held = self.queue.balance()
        assert not any(ledger.residue(held).values())
        return sum(ledger.total(stream, account) for stream in Stream if stream is not Stream.GAPS)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    queue = DurableQueue.open(QueueSettings(directory=tmp_path), tell=lambda _: None, record_gap=gaps_told_by(print))
    yield Walk(queue)
    queue.close()


def by(upstream: str, stream: Stream, body: bytes) -> RawEvent:
    return RawEvent(stream, body, time.time_ns(), upstream)


def by_both(stream: Stream, body: bytes) -> list[RawEvent]:
    return [by(A, stream, body), by(B, stream, body)]


def alert(**fields: Any) -> bytes:
    message = pb.Alert(HostName="n1", NamespaceName="shop", PodName="web", PolicyName="p", Operation="File", **fields)
    stamp_time(message, time.time_ns())
    return message.SerializeToString()


@pytest.mark.parametrize(
    "mapping",
    [
        MappingSettings(),
        MappingSettings(native=False),
        MappingSettings(body="json", keep_original=True),
        MappingSettings(body="map", keep_raw=False),
    ],
    ids=["compiled", "python", "json", "map"],
)
def test_every_sample_comes_once_though_each_relay_writes_it_its_own_way(walk: Walk, mapping: MappingSettings) -> None:
    walk.mapping = mapping
    generated = itertools.islice(generate(5, streams=(Stream.ALERTS, Stream.LOGS)), 500)
    sent = [(sample.stream, sample.message) for sample in sample_events()] + list(generated)
    chance, events = random.Random(3), []
    for number, (stream, message) in enumerate(sent):
        stamp_time(message, time.time_ns())
        stamp_sequence(message, number)
        events += [by(road, stream, as_relayed(message, chance)) for road in (A, B)]
    records = walk.carry(*events)
    assert len([record for record in records if record.event_name != "otelbridge.gap"]) == len(sent)
    assert walk.account(Account.DOUBLED) == len(sent)
    assert walk.roads.waiting == 0


@pytest.mark.parametrize(
    ("stream", "body"),
    [
        (Stream.ALERTS, NOT_PROTOBUF),
        (Stream.ALERTS, NOT_UTF8),
        (Stream.LOGS, UNKNOWN_FIELD),
        (Stream.MESSAGES, pb.Message(HostName="n1", Message="hello").SerializeToString()),
        (Stream.MESSAGES, NOT_PROTOBUF),
        (Stream.LOGS, b""),
    ],
    ids=["raw", "lenient", "unknown field", "message", "raw message", "empty"],
)
def test_odd_events_come_once_too(walk: Walk, stream: Stream, body: bytes) -> None:
    assert len(walk.carry(*by_both(stream, body))) == 1
    assert walk.account(Account.DOUBLED) == 1
    assert walk.roads.waiting == 0


@pytest.mark.parametrize("native", [True, False])
def test_the_copy_of_an_alert_is_not_counted_and_not_shown(walk: Walk, native: bool) -> None:
    walk.mapping = MappingSettings(native=native)
    walk.carry(*by_both(Stream.ALERTS, alert(Resource="x")), by(A, Stream.ALERTS, alert(Resource="y")))
    assert sum(count.alerts for count in walk.tally.alert_counts()) == 2
    assert len(walk.latest.after(0)) == 2


def test_alerts_beyond_those_counted_apart_are_not_counted_twice_either(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otelbridge.mapping.model.MAX_ALERT_SERIES", 0)
    walk.carry(*by_both(Stream.ALERTS, alert(Resource="x")))
    assert sum(count.alerts for count in walk.tally.alert_counts()) == 1


def test_a_secret_is_blacked_out_of_the_one_that_passes_and_the_copies_match(walk: Walk) -> None:
    redact = GateSettings(redact_common_secrets=True)
    (record,) = walk.carry(*by_both(Stream.ALERTS, alert(Source="mysql --password=hunter2")), gate=redact)
    assert b"hunter2" not in record.SerializeToString()
    assert walk.pipeline.redacted == 1


def test_a_container_that_is_throttled_is_one_gap(walk: Walk) -> None:
    throttled = pb.Alert(HostName="n1", Operation="AlertThreshold", MaxAlertsPerSec=1, DroppingAlertsInterval=30)
    stamp_time(throttled, time.time_ns())
    records = walk.carry(*by_both(Stream.ALERTS, throttled.SerializeToString()))
    assert sorted(record.event_name == "otelbridge.gap" for record in records) == [False, True]
    assert len(walk.gaps) == 1


def test_what_a_rule_drops_is_dropped_on_each_road(walk: Walk) -> None:
    drop = GateSettings(rules=(RuleSettings(name="no shop", action="drop", namespace=("shop",)),))
    assert walk.carry(*by_both(Stream.ALERTS, alert()), gate=drop) == []
    assert walk.account(Account.FILTERED) == 2
    assert walk.roads.waiting == 0


def test_copies_are_not_part_of_a_flood(walk: Walk) -> None:
    flood = GateSettings(flood=FloodSettings(rate_per_second=0.001, burst=3))
    events = [event for number in range(3) for event in by_both(Stream.ALERTS, alert(Resource=str(number)))]
    assert len(walk.carry(*events, gate=flood)) == 3
    assert walk.account(Account.SUMMARISED) == 0


@pytest.mark.parametrize("waited", [True, False], ids=["in the buffer", "on the way"])
def test_a_copy_is_late_by_its_receipt_and_not_by_the_disk_that_stood_meanwhile(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, waited: bool
) -> None:
    body = alert(Resource="x")
    assert len(walk.carry(by(A, Stream.ALERTS, body))) == 1
    walk.roads.begin(time.monotonic() + 60 / SLICES)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 100, time_ns=lambda: time.time_ns() + 100_000_000_000)
    monkeypatch.setattr("otelbridge.pipeline.time", later)
    received = time.time_ns() if waited else later.time_ns()
    found = walk.carry(
        RawEvent(Stream.ALERTS, alert(Resource="y"), received, B), RawEvent(Stream.ALERTS, body, received, B)
    )
    assert len(found) == (1 if waited else 2)


@pytest.mark.parametrize("step", ["_count_overflows", "_encode_own"])
def test_a_turn_that_fails_in_the_middle_loses_and_doubles_nothing(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    whole: Callable[..., None] = getattr(Pipeline, step)
    faults = [OSError("once"), MemoryError("and once more")]

    def fail(*arguments: Any) -> None:
        if faults:
            raise faults.pop()
        whole(*arguments)

    monkeypatch.setattr(Pipeline, step, fail)
    bodies = [alert(Resource=str(number)) for number in range(100)]
    events = [by(A, Stream.ALERTS, body) for body in bodies] + [by(B, Stream.ALERTS, body) for body in bodies[10:]]
    assert len(walk.carry(*events)) == 100
    assert not faults
    assert walk.account(Account.DOUBLED) == 90
    assert walk.roads.waiting == 10
