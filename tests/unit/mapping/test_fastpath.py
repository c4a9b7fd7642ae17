from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings, RuleSettings
from otelbridge.mapping.decode import Event, decode
from otelbridge.mapping.fastpath_cache import COMPILED
from otelbridge.mapping.fields import FIELDS, Group
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.process_spans import Told
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import assembler
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.pipeline import EventEncoder
from otelbridge.protobuf import varint
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate
from tests.peers.presence import REQUIRED
from tests.unit.mapping.samples import RECEIVED, STREAMS, sample_events

KINDS: dict[Stream, type[Event]] = {Stream.ALERTS: pb.Alert, Stream.LOGS: pb.Log}
TEXTS = st.one_of(
    st.sampled_from(["", "a", "/", "/usr/bin/x", "x/", "0", "1", "Passed", "Block", "Syscall"]),
    st.sampled_from(["File", "Process", "Network", "Capabilities", "Syscall", "AlertThreshold"]),
    st.text(max_size=6),
    st.text(alphabet="ab/ =|,\0\x7fé\u202e", max_size=200),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(1 << 31), (1 << 31) - 1))


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if not COMPILED:
        reason = "the fast path is not compiled: install gcc and Python's headers, and the package anew"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)


class Pair:
    """Two mappers that have seen the same events, one of them without the fast path."""

    def __init__(self, **settings: Any) -> None:
        self.ordinary = Mapper(MappingSettings(native=False, **settings), version="1")
        self.both = Mapper(MappingSettings(**settings), version="1")
        self.fastpath = {stream: made.map for stream, made in self.both.compiled().items()}

    def map(self, stream: Stream, body: bytes) -> bool:
        """Maps an event by both, which must agree; whether the fast path took it."""
        want = self.ordinary.map(stream, decode(stream, body), RECEIVED)
        got = self.fastpath[stream](body, RECEIVED)
        taken = got is not None
        if not taken:
            got = self.both.map(stream, decode(stream, body), RECEIVED)
        assert got == want
        return taken

    def same_books(self) -> bool:
        one, other = self.ordinary.tally, self.both.tally
        return all(getattr(one, name) == getattr(other, name) for name in one.__slots__)


def usual_events(count: int, seed: int = 7) -> Iterator[tuple[Stream, bytes]]:
    events = generate(seed)
    for number in range(count):
        stream, message = next(events)
        stamp_time(message, 1_785_000_000_000_001_000 + number * 137_000)
        yield stream, message.SerializeToString()


def alert(**fields: Any) -> pb.Alert:
    usual: dict[str, Any] = {
        "Timestamp": 1_785_000_000, "UpdatedTime": "2026-07-25T17:20:00.000001Z", "HostName": "n", "HostPID": 7,
        "PID": 3, "Operation": "File", "Resource": "/etc/passwd", "Data": "syscall=SYS_OPENAT fd=-100",
        "Source": "/bin/cat /etc/passwd", "Result": "Passed", "Type": "MatchedPolicy", "PolicyName": "p",
    }  # fmt: skip
    return pb.Alert(**{**usual, **fields})


def taken(message: Event, **settings: Any) -> bool:
    pair, stream = Pair(**settings), STREAMS[type(message)]
    results = {pair.map(stream, message.SerializeToString()) for _ in range(3)}
    assert len(results) == 1, "the same event is treated alike"
    return results.pop()


def test_every_usual_event_is_taken_and_becomes_what_the_reference_makes_of_it() -> None:
    pair = Pair()
    results = [pair.map(stream, body) for stream, body in usual_events(3000)]
    assert results.count(False) <= 3000 // 50, "what the reference has to map costs four times as much"
    assert pair.same_books()


def said(told: Told) -> list[Any]:
    """The same where the objects are others."""
    place, program, *rest = told
    shown = [program.exec_id, program.executable, program.parent_executable, program.task]
    return [place.name, *shown, *rest]


def test_what_is_taken_tells_the_same_of_its_process() -> None:
    mapper = Mapper(MappingSettings(process_traces=True), version="1")
    fastpath, processes = mapper.compiled(), mapper.processes
    assert processes is not None
    told = 0
    for stream, body in usual_events(500):
        if fastpath[stream].map(body, RECEIVED) is not None:
            assert said(processes.told) == said(processes.read(stream, decode(stream, body).message))
            told += 1
    assert told > 450


def test_samples_from_real_clusters_become_the_same() -> None:
    pair = Pair()
    for _ in range(3):
        for name, message in sample_events():
            stream = STREAMS[type(message)]
            if stream in pair.fastpath:
                assert pair.map(stream, message.SerializeToString()) in {True, False}, name
    assert pair.same_books()


def test_an_ordinary_alert_is_taken() -> None:
    assert taken(alert())
    assert taken(alert(UID=0, HostPID=0, PID=0))
    assert taken(alert(Resource="", Data=""))
    assert taken(alert(Operation="Process", ParentProcessName="/bin/sh", Source="/bin/sh"))
    assert taken(alert(EventData={"Syscall": "SYS_OPENAT"}))
    assert taken(alert(ATags=["NIST", "MITRE_T1036"], Owner=pb.Podowner(Ref="Deployment", Name="d")))
    assert taken(alert(UpdatedTime="2026-07-25T17:20:00.000000Z"))
    assert taken(alert(Timestamp=0))


def test_a_thin_alert_is_taken() -> None:
    assert taken(pb.Alert(UpdatedTime="2026-07-25T17:20:00.123456Z", Operation="Process", Resource="/bin/sh"))


@pytest.mark.parametrize(
    "fields",
    [
        {"Timestamp": 5},
        {"UpdatedTime": "2026-07-25T17:20:00Z"},
        {"UpdatedTime": "2026-07-25 17:20:00.000000Z"},
        {"UpdatedTime": "2026-W30-6T17:20:00.000000Z"},
        {"UpdatedTime": "1970-01-01T00:00:00.000000Z", "Timestamp": 0},
        {"UpdatedTime": "2026-13-25T17:20:00.000001Z"},
        {"UpdatedTime": "2026-07-25\x0017:20:00.000001Z"},
        {"Resource": "/tmp/\x1b[2J"},
        {"Source": "café"},
        {"PodName": "a\0b"},
        {"HostPID": -1},
        {"EventData": {"New": "word"}},
        {"Operation": "AlertThreshold"},
        {"Operation": "Network"},
        {"Operation": "Network", "Data": "syscall=SYS_EXECVE", "ParentProcessName": "/bin/sh"},
        {"ExecEvent": pb.ExecEvent(ExecID="81604378625", ExecutableName="sh")},
        {"Resource": "/" + "x" * 20_000},
        {"Labels": "l=" + "x" * 20_000},
        {"Data": "syscall=" + "x" * 20_000},
        {"Tags": "t," * 10_000},
    ],
)
def test_an_unusual_alert_is_left_to_the_reference(fields: dict[str, Any]) -> None:
    assert not taken(alert(**fields))


def test_a_time_that_is_not_text_is_left_to_the_reference() -> None:
    pair, body = Pair(), alert().SerializeToString()
    assert pair.map(Stream.ALERTS, body)
    assert not pair.map(Stream.ALERTS, body.replace(b"25T17", b"25\xa317"))


def test_a_body_over_its_limit_is_left_to_the_reference() -> None:
    assert taken(alert(Resource="/" + "x" * 300))
    assert not taken(alert(Resource="/" + "x" * 300), max_body_bytes=256)


@pytest.mark.parametrize("settings", [{"body": "map"}, {"keep_raw": False}, {"keep_original": True}, {"native": False}])
def test_settings_beyond_it_leave_everything_to_the_reference(settings: dict[str, Any]) -> None:
    assert Mapper(MappingSettings(**settings), version="1").compiled() == {}


def test_a_field_of_a_newer_kubearmor_is_left_to_the_reference() -> None:
    pair, usual = Pair(), alert().SerializeToString()
    assert pair.map(Stream.ALERTS, usual)
    for field in (varint(99 << 3) + b"\x05", varint(200 << 3 | 2) + b"\x01x", varint(5 << 3) + b"\x07"):
        assert not pair.map(Stream.ALERTS, usual + field)
    assert pair.map(Stream.ALERTS, usual)


def test_a_field_that_is_there_twice_becomes_what_protobuf_makes_of_it() -> None:
    pair, usual = Pair(), alert().SerializeToString()
    for again in (
        alert(Resource="/b"),
        pb.Alert(PodName="b"),
        pb.Alert(HostPID=9),
        pb.Alert(Owner=pb.Podowner(Name="x")),
    ):
        pair.map(Stream.ALERTS, usual + again.SerializeToString())
    assert pair.same_books()


def test_the_order_of_fields_does_not_matter() -> None:
    pair = Pair()
    chooser = random.Random(5)
    for _ in range(50):
        names = [field.name for field, _ in alert().ListFields()]
        chooser.shuffle(names)
        body = b"".join(pb.Alert(**{name: getattr(alert(), name)}).SerializeToString() for name in names)
        assert pair.map(Stream.ALERTS, body)


def test_damaged_bytes_never_become_anything_else_than_in_the_reference() -> None:
    pair, chooser = Pair(), random.Random(11)
    events = list(usual_events(200))
    for _ in range(4000):
        stream, body = chooser.choice(events)
        damaged = bytearray(body)
        for _ in range(chooser.randint(1, 4)):
            match chooser.randrange(4):
                case 0 if damaged:
                    damaged[chooser.randrange(len(damaged))] = chooser.randrange(256)
                case 1 if damaged:
                    del damaged[chooser.randrange(len(damaged)) :]
                case 2:
                    at = chooser.randrange(len(damaged) + 1)
                    damaged[at:at] = chooser.randbytes(chooser.randint(1, 12))
                case _:
                    damaged += chooser.choice(events)[1][: chooser.randrange(40)]
        pair.map(stream, bytes(damaged))
    assert pair.same_books()


def test_an_event_cut_off_anywhere_becomes_the_same() -> None:
    pair = Pair()
    body = alert(Owner=pb.Podowner(Ref="Job", Name="j"), EventData={"Syscall": "SYS_OPENAT"}).SerializeToString()
    pair.map(Stream.ALERTS, body)
    for end in range(len(body)):
        pair.map(Stream.ALERTS, body[:end])
    assert pair.same_books()


def test_every_field_of_the_table_is_known_to_it_or_leaves_the_event_to_the_reference() -> None:
    pair = Pair()
    assert pair.map(Stream.ALERTS, alert().SerializeToString())
    for field in FIELDS:
        name, _, inner = field.name.partition(".")
        described = pb.Alert.DESCRIPTOR.fields_by_name[name]
        message = alert()
        if inner:
            setattr(getattr(message, name), inner, "Job")
        elif described.message_type is not None:
            message.EventData["Syscall"] = "SYS_OPENAT"
        elif described.is_repeated:
            message.ATags.append("t")
        elif described.type == described.TYPE_STRING:
            setattr(message, name, getattr(message, name) or "Job")
        else:
            setattr(message, name, 3 if field.name != "Timestamp" else 1_785_000_000)
        took = pair.map(Stream.ALERTS, message.SerializeToString())
        assert took or field.group is Group.EVENT, field.name
    assert pair.same_books()


WORDS = st.sampled_from(
    ["10.0.0.1", "10.0.0.2", "999.1.1.1", "1.2.3", "1.2.3.4.5", "1234.1.1.1", "::1", "a.example", "a=b", "", "x y"]
)
AFTER = st.sampled_from(
    [" port=80 protocol=TCP", " port=80 protocol=TCP remotehost=pod/shop/cart", " port=8 x", "", " "]
)


@hypothesis_settings(max_examples=200)
@given(
    events=st.lists(
        st.tuples(WORDS, AFTER, st.booleans(), st.sampled_from(["Remoteip", "Domain", "Port", "New"])), max_size=8
    )
)
def test_network_events_become_the_same_whatever_their_one_new_word_is(
    events: list[tuple[str, str, bool, str]],
) -> None:
    pair = Pair()
    for word, after, is_query, key in events:
        if is_query:
            data, resource = f"kfunc=UDP_SENDSKB domain={word} daddr=10.43.0.10 qtype=A{after[:2]}", "sa_family=AF_INET"
        else:
            data, resource = "kprobe=tcp_connect domain=AF_INET", f"remoteip={word}{after}"
        message = alert(Operation="Network", Data=data, Resource=resource, EventData={key: word})
        pair.map(Stream.ALERTS, message.SerializeToString())
    assert pair.same_books()


def test_network_events_of_a_known_template_are_taken() -> None:
    for word in ("10.0.0.1", "192.168.255.254"):
        message = alert(
            Operation="Network", Data="kprobe=tcp_connect domain=AF_INET",
            Resource=f"remoteip={word} port=80 protocol=TCP", EventData={"Remoteip": word, "Port": "80"},
        )  # fmt: skip
        assert taken(message)


@pytest.mark.parametrize("operation", ["Capability", "File", "Process", "Syscall"])
def test_what_reads_like_the_network_in_another_operation_becomes_the_same(operation: str) -> None:
    data, resource = "kprobe=tcp_connect domain=AF_INET", "remoteip=10.0.0.1 port=80 protocol=TCP"
    taken(alert(Operation=operation, Data=data, Resource=resource))


@hypothesis_settings(max_examples=300)
@given(data=st.data(), stream=st.sampled_from([Stream.ALERTS, Stream.LOGS]))
def test_whatever_is_in_an_event_both_agree(data: st.DataObject, stream: Stream) -> None:
    pair = Pair()
    kind: Any = KINDS[stream]
    message = kind(Timestamp=1_785_000_000, UpdatedTime="2026-07-25T17:20:00.000001Z")
    for _ in range(3):
        for field in data.draw(st.lists(st.sampled_from(list(kind.DESCRIPTOR.fields)), max_size=12)):
            if field.message_type is not None:
                if field.name == "EventData":
                    message.EventData[data.draw(TEXTS)] = data.draw(TEXTS)
                else:
                    inner = data.draw(st.sampled_from(list(field.message_type.fields)))
                    setattr(getattr(message, field.name), inner.name, data.draw(TEXTS))
            elif field.is_repeated:
                message.ATags.append(data.draw(TEXTS))
            else:
                value = data.draw(TEXTS if field.type == field.TYPE_STRING else NUMBERS)
                setattr(message, field.name, value)
        pair.map(stream, message.SerializeToString())
    assert pair.same_books()


def test_records_are_of_the_same_kind() -> None:
    pair, body = Pair(), alert().SerializeToString()
    record = pair.fastpath[Stream.ALERTS](body, RECEIVED)
    assert type(record) is Record
    assert record.stream is Stream.ALERTS


@given(
    st.lists(
        st.builds(
            Record,
            st.just(Stream.LOGS),
            st.sampled_from([b"", b"one", b"another" * 20, b"large" * 4000]),
            st.binary(max_size=300) | st.integers(0, 20_000).map(bytes),
            st.just(0),
        ),
        max_size=400,
    )
)
def test_compiled_or_not_a_request_is_put_together_alike(records: list[Record]) -> None:
    assert assembler("1")(records) == assembler("1", native=False)(records)


def test_a_request_of_a_thousand_resources_is_put_together_alike() -> None:
    records = [Record(Stream.LOGS, b"%d" % (number % 999), b"%d" % number, 0) for number in range(3_000)]
    assert assembler("1")(records) == assembler("1", native=False)(records)


@pytest.mark.parametrize("size", range(8192 - 80, 8192 + 80))
def test_a_group_as_large_as_its_buffer_and_larger_becomes_the_same(size: int) -> None:
    """The labels, a few other fields of the group and the tags fill the buffer to its last byte, and beyond."""
    pair = Pair(max_value_bytes=65536)
    body = alert(Labels="l" * size).SerializeToString()
    results = {pair.map(Stream.ALERTS, body) for _ in range(3)}
    assert results == {3 + 4 + size <= 8192}, "the node, the labels' tag and length, the labels"
    assert pair.same_books()


RULES = GateSettings(
    rules=(
        RuleSettings(name="keep secrets", action="keep", namespace=("vault",), operation=("File",)),
        RuleSettings(name="no vault", action="drop", namespace=("vault", "shop-*")),
        RuleSettings(name="no noise", action="drop", outcome=("allowed",), label={"tier": "f*"}),
        RuleSettings(name="nothing", action="drop", policy=("none",), min_severity=9),
    )
)


@hypothesis_settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["vault", "shop-1", "other", ""]),
            st.sampled_from(["File", "Process", "Network"]),
            st.sampled_from(["Passed", "Permission denied", ""]),
            st.sampled_from(["tier=front", "tier=back,app=x", ""]),
            st.sampled_from(["none", "p"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rules_decide_the_same_on_either_way(events: list[tuple[str, str, str, str, str]]) -> None:
    fast = EventEncoder(Gate(RULES), Mapper(MappingSettings(), version="1"))
    slow = EventEncoder(Gate(RULES), Mapper(MappingSettings(native=False), version="1"))
    for namespace, operation, result, labels, policy in events * 3:
        body = alert(
            NamespaceName=namespace, Operation=operation, Result=result, Labels=labels, PolicyName=policy, Severity="9"
        ).SerializeToString()
        event = RawEvent(Stream.ALERTS, body, RECEIVED, "u")
        assert fast.encode(event) == slow.encode(event)
    assert fast.findings.filtered == slow.findings.filtered


def test_the_view_of_the_latest_events_keeps_the_fast_path() -> None:
    latest = RecentEvents(2)
    walk = EventEncoder(Gate(RULES), Mapper(MappingSettings(), version="1"), latest)
    assert walk.has_fastpath
    for number in range(4):
        walk.encode(RawEvent(Stream.ALERTS, alert(Resource=f"/{number}").SerializeToString(), RECEIVED, "u"))
    assert [one.text().split()[1] for one in latest.after(0)] == ["/2", "/3"]
