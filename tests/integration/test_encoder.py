"""The walk from the buffer into the queue, with the real components on both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge import pipeline
from otelbridge.event import Gap, GapCause, RawEvent, Stream
from otelbridge.feed.buffer import BUFFER_FULL
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import FloodSettings, GateSettings, RuleSettings
from otelbridge.mapping.decode import Decoded
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.pipeline import IDLE_SECONDS, REST_SECONDS, GapSink, Pipeline
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.packing import joined, packed, unpacked
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.endpoint import attributes
from otelbridge.telemetry.events import Event, EventDamaged, GapEnded
from tests.buffers import OpenBuffer
from tests.records import gaps_told_by
from tests.waiting import eventually

DROP_THE_SHOP = GateSettings(rules=(RuleSettings(name="no shop", action="drop", namespace=("shop",)),))
FLOOD = GateSettings(flood=FloodSettings(rate_per_second=0.001, burst=1))
EVENTS_OF_THE_SMALLEST_BUFFER = 1000
MIB = 1024 * 1024


class FaultyMapper(Mapper):
    """Has a bug that one event finds."""

    def map(self, stream: Stream, decoded: Decoded, received_unix_nano: int, event_uid: bytes = b"") -> Record:
        if decoded.how == "strict" and decoded.message.HostName == "unlucky":
            raise KeyError("unlucky")
        return super().map(stream, decoded, received_unix_nano, event_uid)


@dataclass
class Walk:
    """An encoder between a buffer and a queue."""

    queue: DurableQueue
    told: list[Event] = field(default_factory=list)
    mapper: type[Mapper] = Mapper

    def __post_init__(self) -> None:
        self.buffer = OpenBuffer(EVENTS_OF_THE_SMALLEST_BUFFER, MIB)

    def carry(self, *events: RawEvent, gate: GateSettings | None = None, gaps: tuple[Gap, ...] = ()) -> list[LogRecord]:
        """Walks the events through and returns what is in the queue afterwards."""
        encoder = self.encoder(gate or GateSettings(), gaps)
        for event in events:
            self.buffer.offer(event)
        encoder.start()
        assert encoder.drain()
        records = []
        while lease := self.queue.take(max_bytes=MIB, max_records=MIB):
            for per_resource in ExportLogsServiceRequest.FromString(unpacked(joined(lease.parts))).resource_logs:
                records += [record for per_scope in per_resource.scope_logs for record in per_scope.log_records]
        return records

    def encoder(self, gate: GateSettings, gaps: tuple[Gap, ...] = ()) -> Pipeline:
        """Not started; the gaps wait for it."""
        sink = GapSink(self.told.append, self.buffer.wake)
        for gap in gaps:
            sink.record(gap)
        return Pipeline(
            buffer=self.buffer,
            gate=Gate(gate),
            mapper=self.mapper(MappingSettings(), version="1"),
            queue=self.queue,
            gaps=sink,
            tell=self.told.append,
        )

    def account(self, stream: Stream, account: Account) -> int:
        ledger, held = self.queue.balance()
        assert not any(ledger.residue(held).values())
        return ledger.total(stream, account)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    told: list[Event] = []
    queue = DurableQueue.open(QueueSettings(directory=tmp_path), tell=told.append, record_gap=gaps_told_by(told.append))
    yield Walk(queue, told)
    queue.close()


def event(stream: Stream, body: bytes) -> RawEvent:
    return RawEvent(stream, body, time.time_ns(), "relay:32767")


def log(**fields: str) -> RawEvent:
    return event(Stream.LOGS, pb.Log(**fields).SerializeToString())  # type: ignore[arg-type]  # strings only


def test_what_a_rule_drops_is_on_the_rules_account(walk: Walk) -> None:
    records = walk.carry(
        log(NamespaceName="shop"), log(NamespaceName="bank"), log(NamespaceName="shop"), gate=DROP_THE_SHOP
    )
    assert len(records) == 1
    assert walk.account(Stream.LOGS, Account.RECEIVED) == 3
    assert walk.account(Stream.LOGS, Account.FILTERED) == 2
    assert [p.reason for p in walk.queue.ledger().postings() if p.account is Account.FILTERED] == ["no shop"]


def test_damaged_events_travel_on_and_are_told_once_per_turn_with_their_number(walk: Walk) -> None:
    records = walk.carry(*[event(Stream.ALERTS, b"\xff\xff\xff")] * 40)
    assert len(records) == 40
    damaged = [told for told in walk.told if isinstance(told, EventDamaged)]
    assert sum(told.events for told in damaged) == 40
    assert len(damaged) < 40


def test_a_fault_of_the_mapping_in_one_event_costs_no_event(walk: Walk) -> None:
    walk.mapper = FaultyMapper
    records = walk.carry(log(HostName="n1"), log(HostName="unlucky"), log(HostName="n2"))
    assert len(records) == 3
    assert [told.why for told in walk.told if isinstance(told, EventDamaged)] == [
        "a fault of the bridge: KeyError('unlucky')"
    ]
    assert b"unlucky" in b"".join(record.SerializeToString() for record in records)


def test_a_fault_of_the_mapping_does_not_bring_back_what_was_blacked_out(walk: Walk) -> None:
    walk.mapper = FaultyMapper
    redact = GateSettings(redact_common_secrets=True)
    (record,) = walk.carry(log(HostName="unlucky", Source="mysql --password=hunter2"), gate=redact)
    assert b"unlucky" in record.SerializeToString()
    assert b"hunter2" not in record.SerializeToString()


def test_a_fault_of_the_gate_costs_no_event_and_shows_nothing_that_it_would_have_hidden(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("gate")

    redact = GateSettings(redact_common_secrets=True)
    monkeypatch.setattr(Gate, "decide", fail)
    (hidden,) = walk.carry(log(Source="mysql --password=hunter2"), gate=redact)
    assert b"hunter2" not in hidden.SerializeToString()
    assert b"KeyError" in hidden.SerializeToString()
    monkeypatch.setattr(Gate, "without_secrets", fail)
    (empty,) = walk.carry(log(Source="mysql --password=hunter2"), gate=redact)
    assert b"hunter2" not in empty.SerializeToString()
    monkeypatch.undo()
    monkeypatch.setattr(Gate, "decide", fail)
    (shown,) = walk.carry(log(Source="mysql --password=hunter2"), gate=DROP_THE_SHOP)
    assert b"hunter2" in shown.SerializeToString()


class HopelessMapper(FaultyMapper):
    """Cannot even make a raw record of that event."""

    def map(self, stream: Stream, decoded: Decoded, received_unix_nano: int, event_uid: bytes = b"") -> Record:
        if b"unlucky" in decoded.body:
            raise KeyError("unlucky")
        return super().map(stream, decoded, received_unix_nano, event_uid)


@pytest.mark.parametrize("step", ["mapping", "packing"])
def test_a_fault_that_leaves_nothing_to_send_is_counted_and_harms_no_other_event(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(request: bytes, *, least_bytes: int) -> bytes:
        if b"unlucky" in request:
            raise KeyError("unlucky")
        return packed(request, least_bytes=least_bytes)

    if step == "packing":
        monkeypatch.setattr(pipeline, "packed", fail)
    else:
        walk.mapper = HopelessMapper
    records = walk.carry(log(HostName="n1"), log(HostName="unlucky"), log(HostName="n2"), gate=DROP_THE_SHOP)
    assert len(records) == 2
    assert walk.account(Stream.LOGS, Account.DROPPED) == 1
    assert [(told.how, told.events) for told in walk.told if isinstance(told, EventDamaged)] == [("dropped", 1)]


def test_a_fault_in_keeping_a_flood_is_told_and_costs_no_count(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.pipeline.pack_originals", raising(KeyError("unlucky")))
    verbatim, summary = sorted(
        walk.carry(log(PodName="p"), log(PodName="p"), log(PodName="p"), gate=FLOOD),
        key=lambda record: record.event_name,
    )
    assert (verbatim.event_name, summary.event_name) == ("kubearmor.telemetry.other", "otelbridge.flood")
    assert attributes(summary.attributes)["otelbridge.flood.events"] == 2
    assert walk.account(Stream.LOGS, Account.SUMMARISED) == 2
    (told,) = [told for told in walk.told if isinstance(told, EventDamaged)]
    assert (told.how, told.events, told.why) == ("not kept", 2, "a fault of the bridge: KeyError('unlucky')")


@pytest.mark.parametrize(("rare", "flooded"), [(0, True), (4, False)])
def test_readers_are_told_of_a_flood_of_which_nearly_all_is_only_counted(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, rare: int, flooded: bool
) -> None:
    finish: Callable[..., None] = Pipeline._finish
    found: list[bool] = []

    def look(*args: Any) -> None:
        found.append(walk.buffer.flooded)
        finish(*args)

    monkeypatch.setattr(Pipeline, "_finish", look)
    events = [log(PodName="p") for _ in range(20)] + [log(PodName=f"rare {number}") for number in range(rare)]
    walk.carry(*events, gate=FLOOD)
    assert (found[0], found[-1]) == (flooded, False)


def raising(fault: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise fault

    return fail


@pytest.mark.parametrize("step", ["_count_events", "_summarise_floods", "_encode_own"])
def test_a_turn_with_a_flood_that_fails_in_the_middle_counts_once(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    whole: Callable[..., None] = getattr(Pipeline, step)
    faults = [OSError("once"), MemoryError("and once more")]

    def faulty(pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        whole(pipeline, *args, **kwargs)
        if faults:
            raise faults.pop()

    monkeypatch.setattr(Pipeline, step, faulty)
    records = walk.carry(*[log(PodName="p", Resource=str(number)) for number in range(50)], gate=FLOOD)
    (summary,) = [attributes(one.attributes) for one in records if one.event_name == "otelbridge.flood"]
    assert not faults
    assert len(records) - 1 + int(str(summary["otelbridge.flood.events"])) == 50
    assert summary["otelbridge.flood.resources"] == summary["otelbridge.flood.events"]
    assert walk.account(Stream.LOGS, Account.RECEIVED) == 50
    assert walk.account(Stream.LOGS, Account.SUMMARISED) == summary["otelbridge.flood.events"]


def test_a_gap_of_which_no_record_can_be_made_is_counted_and_harms_no_other(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Mapper.gap

    def fail(mapper: Mapper, gap: Gap, *, observed_unix_nano: int) -> Record:
        if gap.upstream == "unlucky":
            raise OverflowError
        return whole(mapper, gap, observed_unix_nano=observed_unix_nano)

    monkeypatch.setattr(Mapper, "gap", fail)
    gap = Gap(
        stream=Stream.ALERTS, upstream="unlucky", cause=GapCause.DISCONNECT, started_unix_nano=1, ended_unix_nano=2
    )
    records = walk.carry(gaps=(gap, replace(gap, upstream="relay:32767")))
    assert len(records) == 1
    assert walk.account(Stream.GAPS, Account.DROPPED) == 1


def test_a_gap_that_meets_a_fault_once_is_said_all_the_same(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, met = Mapper.gap, list[Gap]()

    def fail_once(mapper: Mapper, gap: Gap, *, observed_unix_nano: int) -> Record:
        met.append(gap)
        if len(met) == 1:
            raise MemoryError
        return whole(mapper, gap, observed_unix_nano=observed_unix_nano)

    monkeypatch.setattr(Mapper, "gap", fail_once)
    gap = Gap(
        stream=Stream.LOGS,
        upstream="relay:1",
        cause=GapCause.DISCONNECT,
        started_unix_nano=1,
        ended_unix_nano=2,
        pod="p",
    )
    (record,) = walk.carry(gaps=(gap,))
    assert record.event_name == "otelbridge.gap"
    assert [tried.pod for tried in met] == ["p", ""]


def test_an_overflow_of_the_buffer_is_counted_and_becomes_a_gap(walk: Walk) -> None:
    over = 250
    records = walk.carry(*[log(HostName="n1")] * (EVENTS_OF_THE_SMALLEST_BUFFER + over))
    assert len([record for record in records if record.event_name != "otelbridge.gap"]) == EVENTS_OF_THE_SMALLEST_BUFFER
    assert walk.account(Stream.LOGS, Account.RECEIVED) == EVENTS_OF_THE_SMALLEST_BUFFER + over
    assert walk.account(Stream.LOGS, Account.DROPPED) == over
    assert {p.reason for p in walk.queue.ledger().postings() if p.account is Account.DROPPED} == {BUFFER_FULL}
    gaps = [told.gap for told in walk.told if isinstance(told, GapEnded)]
    assert sum(gap.lost_records or 0 for gap in gaps) == over
    assert {gap.cause for gap in gaps} == {GapCause.OVERFLOW}


def test_a_gap_takes_the_durable_road_and_has_its_own_account(walk: Walk) -> None:
    gap = Gap(
        stream=Stream.ALERTS, upstream="relay:32767", cause=GapCause.DISCONNECT, started_unix_nano=1, ended_unix_nano=2
    )
    (record,) = walk.carry(gaps=(gap,))
    assert record.event_name == "otelbridge.gap"
    assert attributes(record.attributes)["otelbridge.gap.cause"] == "disconnect"
    assert walk.account(Stream.GAPS, Account.RECEIVED) == 1


def test_kubearmors_own_throttling_becomes_a_gap_with_its_known_window(walk: Walk) -> None:
    alert = pb.Alert(
        UpdatedTime="2026-07-25T17:20:00.123456Z",
        Type="SystemEvent",
        Operation="AlertThreshold",
        MaxAlertsPerSec=10,
        DroppingAlertsInterval=30,
        NamespaceName="shop",
        PodName="cart-0",
        ContainerName="cart",
    )
    walk.carry(event(Stream.ALERTS, alert.SerializeToString()))
    (gap,) = [told.gap for told in walk.told if isinstance(told, GapEnded)]
    assert (gap.cause, gap.namespace, gap.pod, gap.container) == (GapCause.THROTTLED, "shop", "cart-0", "cart")
    assert gap.ended_unix_nano - gap.started_unix_nano == 30 * 1_000_000_000
    assert gap.started_unix_nano == 1785000000123456000


class NotingBuffer(OpenBuffer):
    """Notes for how long the encoder would wait."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events, max_bytes)
        self.waits: list[float] = []

    def take(self, max_events: int, timeout_seconds: float) -> list[RawEvent]:
        self.waits.append(timeout_seconds)
        return super().take(max_events, timeout_seconds)


def test_where_nothing_comes_the_encoder_rests_and_an_event_ends_that(walk: Walk) -> None:
    walk.buffer = buffer = NotingBuffer(EVENTS_OF_THE_SMALLEST_BUFFER, MIB)
    encoder = walk.encoder(GateSettings())
    encoder.start()
    eventually(lambda: REST_SECONDS in buffer.waits, why="two turns have found nothing")
    assert buffer.waits[:2] == [IDLE_SECONDS, IDLE_SECONDS]
    buffer.offer(log(NamespaceName="shop"))
    eventually(lambda: walk.account(Stream.LOGS, Account.RECEIVED) == 1, within_seconds=0.8 * REST_SECONDS)
    eventually(lambda: buffer.waits[-1] == IDLE_SECONDS, why="others may follow")
    assert encoder.drain()


def test_two_bridges_with_different_settings_give_an_event_the_same_id(walk: Walk) -> None:
    secret = log(HostName="n1", NamespaceName="bank", Source="mysql --password=hunter2", Labels="a=b")
    redact = GateSettings(redact_common_secrets=True)
    uids = set()
    for gate in (GateSettings(), redact, DROP_THE_SHOP):
        (record,) = walk.carry(secret, gate=gate)
        uids.add(attributes(record.attributes)["log.record.uid"])
    assert len(uids) == 1
    (raw,), (hidden,) = (
        walk.carry(event(Stream.LOGS, b"\xff --password=hunter2"), gate=gate) for gate in (GateSettings(), redact)
    )
    assert attributes(raw.attributes)["log.record.uid"] == attributes(hidden.attributes)["log.record.uid"]
    assert b"hunter2" not in hidden.SerializeToString()
