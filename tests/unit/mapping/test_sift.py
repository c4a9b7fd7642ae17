"""Events of floods are counted by the fast path as by the reference: the same pass, the same is kept and told."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from otelbridge.event import RawEvent, Stream
from otelbridge.flood_window import Distinct, hash_of
from otelbridge.gate.flood import Floods
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import FloodSettings, GateSettings, RuleSettings
from otelbridge.mapping.fastpath_cache import COMPILED
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.record_encoder import OTHERS_BYTES
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.pipeline import EventEncoder, Findings
from otelbridge.simulator.generator import flood
from tests.unit.mapping.samples import RECEIVED, STREAMS, sample_events
from tests.unit.mapping.test_fastpath import NUMBERS, TEXTS, alert, usual_events

fastpath: Any = pytest.importorskip("otelbridge.mapping.fastpath") if COMPILED else None
pytestmark = pytest.mark.skipif(not COMPILED, reason="the fast path is not compiled")


class Side:
    """An encoder that counts floods, and everything that it says."""

    def __init__(self, *, native: bool, gate: GateSettings) -> None:
        self.mapper = Mapper(MappingSettings(native=native), version="1")
        self.floods = Floods(gate.flood)
        self.encoder = EventEncoder(Gate(gate), self.mapper, None, self.floods)
        assert self.encoder.sifts is native

    def turn(self, events: Sequence[RawEvent], now: float) -> list[Record]:
        self.floods.begin(now)
        self.encoder.findings = self.findings = Findings()
        pieces = self.encoder.sift(list(events)) if self.encoder.sifts else [events]
        records, self.sifted = [], len(events)
        for event in chain.from_iterable(pieces):
            records.append(self.encoder.encode(event))
            self.sifted -= 1
        return [record for record in records if record is not None]

    def told(self) -> dict[str, Any]:
        tally = self.mapper.tally
        return {
            "findings": self.findings,
            "kept": list(self.floods.originals()),
            "windows": {kind: _window(flow) for kind, flow in self.floods.windows.items()},
            "nodes": tally.nodes,
            "alerts": {one[:2]: one.alerts for one in tally.alert_counts()},
        }


def _window(flow: Any) -> tuple[Any, ...]:
    distinct: tuple[Distinct, ...] = (flow.processes, flow.resources)
    sketches = [(one.known(), one.examples) for one in distinct]
    return flow.sample, flow.total, flow.events, flow.first, flow.last, sketches


class Both:
    """The same events by the fast path and by the reference."""

    def __init__(self, **settings: Any) -> None:
        gate = GateSettings(flood=FloodSettings(rate_per_second=0.01, burst=2), **settings)
        self.sides = [Side(native=native, gate=gate) for native in (True, False)]
        self.now = 10.0

    def turn(self, events: Sequence[RawEvent]) -> int:
        """Carries a turn, in which both must agree; returns how many events the fast path has counted."""
        self.now += 0.1
        fast, slow = [side.turn(events, self.now) for side in self.sides]
        assert fast == slow
        assert self.sides[0].told() == self.sides[1].told()
        for side in self.sides:
            side.floods.commit(side.floods.stage())
        return self.sides[0].sifted


def raw(stream: Stream, body: bytes) -> RawEvent:
    return RawEvent(stream, body, RECEIVED, "relay")


def test_a_flood_is_counted_by_the_fast_path_as_by_the_reference() -> None:
    both, events = Both(), usual_events(3_000)
    counted = sum(both.turn([raw(*next(events)) for _ in range(300)]) for _ in range(10))
    assert counted > 2_000


def test_what_rules_drop_is_of_no_flood() -> None:
    both, events = Both(rules=(RuleSettings(name="r", action="drop", operation=("File",)),)), usual_events(1_000)
    assert both.turn([raw(*next(events)) for _ in range(1_000)]) > 300
    assert both.sides[0].findings.filtered


def test_samples_and_what_is_made_of_them_are_treated_alike() -> None:
    both, chance = Both(), random.Random(5)
    bodies = [(STREAMS[type(message)], message.SerializeToString()) for _, message in sample_events() for _ in range(4)]
    events = []
    for stream, body in bodies * 3:
        changed = bytearray(body)
        if body and chance.random() < 2 / 3:
            changed[chance.randrange(len(body))] = chance.randrange(256)
        events.append(raw(stream, bytes(changed)))
    both.turn(events)
    both.turn(events)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional={
    "PolicyName": TEXTS, "PodName": TEXTS, "Operation": TEXTS, "Result": TEXTS, "ProcessName": TEXTS, "Resource": TEXTS,
    "Data": TEXTS, "Source": TEXTS, "Labels": TEXTS, "HostPID": NUMBERS, "Timestamp": NUMBERS, "UpdatedTime": TEXTS,
    "EventData": st.dictionaries(TEXTS, TEXTS, max_size=3), "ATags": st.lists(TEXTS, max_size=2),
}), min_size=1, max_size=5))  # fmt: skip
def test_any_alerts_are_treated_alike(fields: list[dict[str, Any]]) -> None:
    both = Both()
    events = [raw(Stream.ALERTS, alert(**one).SerializeToString()) for one in fields]
    both.turn(events * 4)
    both.turn(events * 2)


@pytest.mark.parametrize(
    "message",
    [
        alert(EventData={"k": "é"}),
        alert(EventData={"k" * 200: "v"}),
        alert(EventData={"": ""}),
        alert(Resource="x" * 9_000),
        pb.Alert(Operation="AlertThreshold", DroppingAlertsInterval=5),
        pb.Alert(),
    ],
)
def test_unusual_alerts_are_counted_too(message: pb.Alert) -> None:
    both = Both()
    both.turn([raw(Stream.ALERTS, message.SerializeToString())] * 20)
    assert sum(flow.total for flow in both.sides[0].floods.windows.values()) == 18


def test_an_event_that_cannot_be_read_passes_always() -> None:
    both = Both()
    broken = alert(EventData={"k": "v"}).SerializeToString().replace(b"\x0a\x01k\x12\x01v", b"\x0a\x01k\x12\x02v")
    events = [raw(Stream.ALERTS, alert(EventData={"k": "v"}).SerializeToString()), raw(Stream.ALERTS, broken)]
    both.turn(events * 20)
    assert sum(flow.total for flow in both.sides[0].floods.windows.values()) == 18


def test_flows_that_were_forgotten_are_not_counted_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.gate.flood.MAX_KINDS", 40)
    both, alerts = Both(), flood(1, 60, rare_every=7)
    events = [raw(stream, message.SerializeToString()) for stream, message in (next(alerts) for _ in range(1_000))]
    for start in range(0, 1_000, 100):
        both.turn(events[start : start + 100])
    assert both.sides[0].floods.generation > 1


@pytest.mark.parametrize("most_kinds", [20, 90, 4_096])
def test_with_more_kinds_than_are_remembered_records_and_originals_stand_for_each_counted_event(
    monkeypatch: pytest.MonkeyPatch, most_kinds: int
) -> None:
    monkeypatch.setattr("otelbridge.gate.flood.MAX_KINDS", most_kinds)
    chance, turns = random.Random(most_kinds), 15
    side = Side(native=True, gate=GateSettings(flood=FloodSettings(rate_per_second=0.01, burst=2)))
    passed = counted = summarised = 0
    for turn in range(turns):
        alerts = [alert(PolicyName=f"p{chance.randrange(80)}", Resource=f"/{turn}") for _ in range(640)]
        passed += len(side.turn([raw(Stream.ALERTS, one.SerializeToString()) for one in alerts], 10 + turn / 10))
        assert sum(len(kept) for _, kept, _ in side.floods.originals()) == sum(f.events for f in side.floods.touched)
        counted += sum(flow.events for flow in side.floods.touched)
        staged = side.floods.stage(close_all=turn == turns - 1)
        summarised += sum(flow.flood().events for flow in staged.closed)
        side.floods.commit(staged)
    assert passed + counted == turns * 640
    assert summarised == counted


def test_processes_with_long_names_that_never_come_again_fill_no_more_memory_than_is_said() -> None:
    side = Side(native=True, gate=GateSettings(flood=FloodSettings(rate_per_second=0.01, burst=1)))
    for turn in range(20):
        names = [f"/{turn}-{number}-{'x' * 3_000}" for number in range(200)]
        alerts = [alert(ProcessName=name, ParentProcessName=name) for name in names]
        side.turn([raw(Stream.ALERTS, one.SerializeToString()) for one in alerts], 10 + turn / 10)
        side.floods.commit(side.floods.stage())
    entries = [one for one in gc.get_objects() if isinstance(one, fastpath.Entry)]
    assert sum(one.weight for one in entries) < OTHERS_BYTES + (9 << 20)


@given(st.binary(max_size=300))
def test_hashes_of_different_lengths_and_beginnings_differ(content: bytes) -> None:
    numbers = {hash_of(content), hash_of(content + b"\0"), hash_of(b"\0" + content), hash_of(content + b"1")}
    assert len(numbers) == (4 if content.strip(b"\0") else 3)
