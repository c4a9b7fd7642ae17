"""What becomes of processes that events speak of: the rules of docs/decisions/process-traces.md, one by one."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1 import trace_pb2

from otelbridge.event import Stream
from otelbridge.mapping import process_tree
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.process_spans import ProcessSpans
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import Record
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.events import stamp_time
from tests.contract import process_span_breaches
from tests.processes import SECOND, STARTED, Event, said_by, session, tree_of
from tests.unit.mapping.samples import STREAMS, sample_events

SETTINGS = MappingSettings(process_traces=True)


class Traced:
    """A mapper with a process tree behind it; the clock is the events' own."""

    def __init__(self, settings: MappingSettings = SETTINGS) -> None:
        self._mapper = Mapper(settings, version="1")
        self.processes = ProcessSpans(settings)
        self.now = 0.0
        self.done: list[Record] = []

    def note(self, stream: Stream, message: pb.Alert | pb.Log) -> LogRecord:
        """Takes in one event; returns its record."""
        decoded = decode(stream, message.SerializeToString())
        record = self._mapper.map(stream, decoded, STARTED)
        self.now = max(self.now, record.time_unix_nano / SECOND)
        self.done += self.processes.due(self.now)
        told = self.processes.read(stream, decoded.message)
        return LogRecord.FromString(self.processes.with_ids(told, record, self.now).encoded)

    def note_all(self, events: Iterable[Event]) -> list[LogRecord]:
        return [self.note(*event) for event in events]

    def spans(self) -> list[trace_pb2.Span]:
        """All spans, those of open processes too."""
        self.done += self.processes.due(self.now, all_of_them=True)
        spans = [trace_pb2.Span.FromString(record.encoded) for record in self.done]
        assert not [breach for span in spans for breach in process_span_breaches(span)]
        return spans

    def named(self, name: str) -> list[trace_pb2.Span]:
        return [span for span in self.spans() if span.name == name]


def event(pid: int, parent_pid: int, name: str, at: float, **fields: str | int) -> Event:
    """A log of a host process; `parent`, `task`, `exec_id`, `container` and KubeArmor's own fields may be given."""
    log = pb.Log(Type="HostLog", HostName="node-1", Operation="File", Result="Passed", Resource="/tmp/x")
    log.HostPID = log.PID = pid
    log.HostPPID = log.PPID = parent_pid
    log.ProcessName = f"/bin/{name}"
    log.Source = f"/bin/{name} -x"
    log.Data = "syscall=SYS_OPENAT fd=-100"
    log.ParentProcessName = f"/bin/{fields.pop('parent', 'sh')}"
    log.ExecEvent.ExecutableName = str(fields.pop("task", name))
    log.ExecEvent.ExecID = str(fields.pop("exec_id", "0"))
    log.ContainerID = str(fields.pop("container", ""))
    for key, value in fields.items():
        setattr(log, key, value)
    stamp_time(log, STARTED + round(at * SECOND))
    return Stream.LOGS, log


def executed(pid: int, parent_pid: int, name: str, at: float, **fields: str | int) -> Event:
    """The same, of an exec."""
    fields = {"task": str(fields.get("parent", "sh")), **fields}
    stream, log = event(pid, parent_pid, name, at, **fields)
    log.Operation, log.Data, log.Source = "Process", "syscall=SYS_EXECVE", log.ParentProcessName
    log.Resource = str(fields.get("Resource", f"/bin/{name} -x"))
    return stream, log


@pytest.mark.parametrize("depth", range(1, 13))
@pytest.mark.parametrize("low_half", [0, 0xBEEF1234])
def test_the_tree_is_the_one_that_was_made_up(depth: int, low_half: int) -> None:
    made = session(depth, depth=depth, processes=depth if depth == 1 else 200, low_half=low_half)
    traced = Traced()
    records = traced.note_all(made.events())
    spans = traced.spans()
    assert tree_of(spans) == made.tree()
    assert len({span.trace_id for span in spans}) == 1
    assert {span.span_id for span in spans} >= {record.span_id for record in records}


@pytest.mark.parametrize("seed", range(12))
def test_what_is_lost_leaves_orphans_at_the_marked_root(seed: int) -> None:
    made = session(seed, depth=1 + seed % 12, processes=200 if seed % 12 else 1, loss=0.01, low_half=seed)
    traced = Traced()
    traced.note_all(made.events())
    assert tree_of(traced.spans()) == made.tree()


@pytest.mark.parametrize("seed", range(3))
def test_events_that_arrive_out_of_order_make_the_same_tree(seed: int) -> None:
    made = session(seed, depth=8, low_half=1)
    chance = random.Random(seed)
    late = sorted(made.events(), key=lambda one: one[1].UpdatedTime + f"{chance.random()}")
    jittered = [
        batch
        for start in range(0, len(late), 5)
        for batch in chance.sample(late[start : start + 5], len(late[start : start + 5]))
    ]
    traced = Traced()
    traced.note_all(jittered)
    assert tree_of(traced.spans()) == made.tree()


@pytest.mark.parametrize("seed", range(3))
def test_one_stream_that_lags_behind_the_other_makes_the_same_tree(seed: int) -> None:
    made = session(seed, depth=8, low_half=1)
    alerts = [one for one in made.events() if one[0] is Stream.ALERTS]
    logs = [one for one in made.events() if one[0] is Stream.LOGS]
    traced = Traced(replace(SETTINGS, process_quiet_seconds=60))
    ahead, rest = logs[:30], logs[30:]
    traced.note_all([*ahead, *(one for pair in itertools.zip_longest(rest, alerts) for one in pair if one)])
    assert tree_of(traced.spans()) == made.tree()


def test_each_record_points_at_the_span_that_holds_its_event() -> None:
    made = session(3, low_half=7)
    traced = Traced()
    records = traced.note_all(made.events())
    holder = {said_by(one)["log.record.uid"]: span for span in traced.spans() for one in span.events}
    for record in records:
        uid = next(pair.value.string_value for pair in record.attributes if pair.key == "log.record.uid")
        assert (holder[uid].trace_id, holder[uid].span_id) == (record.trace_id, record.span_id)


def test_two_bridges_give_the_same_ids() -> None:
    made = session(4, low_half=9)
    one, other = Traced(), Traced(replace(SETTINGS, native=False, body="json"))
    ids = [(record.trace_id, record.span_id) for record in one.note_all(made.events())]
    assert ids == [(record.trace_id, record.span_id) for record in other.note_all(made.events())]
    assert sorted(span.SerializeToString() for span in one.spans()) == sorted(
        span.SerializeToString() for span in other.spans()
    )


def as_it_is_written(name: str) -> ModuleType:
    """A module of the mapping from its Python source, whether it is compiled or not."""
    source = Path(process_tree.__file__).with_name(f"{name}.py")
    spec = spec_from_file_location(f"otelbridge.mapping.{name}", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(4))
def test_compiled_or_not_the_same_events_give_the_same_bytes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = session(seed, depth=6, loss=0.05, low_half=seed % 2 * 9).events()
    here = Traced(replace(SETTINGS, max_value_bytes=40))
    records = here.note_all(events)
    monkeypatch.setitem(sys.modules, "otelbridge.mapping.process_tree", as_it_is_written("process_tree"))
    spans_module = as_it_is_written("process_spans")
    written = Traced(replace(SETTINGS, max_value_bytes=40, native=False))
    written.processes = spans_module.ProcessSpans(replace(SETTINGS, max_value_bytes=40, native=False))
    assert written.note_all(events) == records
    here.spans(), written.spans()
    assert written.done == here.done


def test_a_process_stays_known_when_the_one_that_had_its_pid_before_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = Traced()
    traced.note(*executed(10, 5, "cat", 0, PID=3, container="c"))
    traced.note(*event(99, 98, "other", 10, container="d"))  # the first one is quiet: its span was sent
    again = traced.note(*executed(10, 5, "ls", 11, PID=4, container="c"))
    monkeypatch.setattr(process_tree, "MAX_SENT", 0)
    traced.note(*event(99, 98, "other", 11.5, container="d"))
    later = traced.note(*event(10, 5, "ls", 12, PID=4, container="c"))
    assert later.span_id == again.span_id
    assert len({one.span_id for one in traced.named("ls")}) == len(traced.named("ls")) == 1


def test_forks_share_the_low_half_of_the_session_and_another_session_does_not() -> None:
    low = 0x80001111
    traced = Traced()
    leader, forked = (
        executed(10, 1, "sh", 0, exec_id=str(5 << 32 | low), container="c"),
        executed(11, 10, "curl", 1, exec_id=str(11 << 32 | low), container="c"),
    )
    again = executed(20, 1, "sh", 100, exec_id=str(6 << 32 | low), container="c")
    its_fork = executed(21, 20, "ls", 101, exec_id=str(21 << 32 | low), container="c")
    elsewhere = executed(11, 10, "curl", 1, exec_id=str(11 << 32 | low), container="d")
    traces = [record.trace_id for record in traced.note_all([leader, forked, again, its_fork, elsewhere])]
    assert traces[0] == traces[1]
    assert traces[2] == traces[3]
    assert len(set(traces)) == 3


@pytest.mark.parametrize("exec_id", ["no", "-1", "1.5", "\u0663", "9" * 21])
def test_an_exec_id_that_is_no_number_of_64_bits_is_none(exec_id: str) -> None:
    traced = Traced()
    made = [traced.note(*event(7, 1, "sh", 0, container="c", exec_id=one)) for one in ("0", exec_id)]
    assert made[0].trace_id == made[1].trace_id


def test_an_event_without_an_exec_id_belongs_to_its_process_session() -> None:
    traced = Traced()
    first = executed(11, 10, "sh", 0, exec_id=str(11 << 32 | 5), container="c")
    preset = event(11, 10, "sh", 1, exec_id="", container="c")
    other = event(12, 10, "sh", 1, exec_id="", container="c")
    found = [record.trace_id for record in traced.note_all([first, preset, other])]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("later", "same"),
    [
        (executed(10, 5, "ls", 3, task="cat"), True),  # it executed something else itself
        (executed(10, 5, "ls", 3), False),  # forked from sh: the task's name before the exec says so
        (executed(10, 6, "ls", 3), False),  # of another parent
        (executed(10, 5, "cat", 0.001), True),  # the same exec, seen twice
        (executed(10, 5, "cat", 3), False),  # the same program again, forked from sh
        (event(10, 1, "cat", 3, parent="systemd"), True),  # its parent has ended
        (event(10, 6, "ls", 3), False),
        (executed(10, 5, "ls", 60, task="cat"), False),  # after so long
    ],
)
def test_the_same_pid_again(later: Event, same: bool) -> None:
    traced = Traced()
    ids = [record.span_id for record in traced.note_all([executed(10, 5, "cat", 0), later])]
    assert (ids[0] == ids[1]) == same


def test_a_pid_in_the_container_tells_processes_apart() -> None:
    traced = Traced()
    first = executed(10, 5, "cat", 0, PID=3, container="c")
    second = executed(10, 5, "cat", 0.5, PID=4, container="c")
    late = event(10, 5, "cat", 0.4, PID=3, container="c")
    ids = [record.span_id for record in traced.note_all([first, second, late])]
    assert ids[0] == ids[2] != ids[1]


def test_a_pid_in_the_container_that_is_used_again_is_another_process() -> None:
    traced = Traced()
    made = [executed(10, 5, "cat", 3 * n, PID=vpid, container="c") for n, vpid in enumerate((67, 68, 69, 67))]
    assert len({record.span_id for record in traced.note_all(made)}) == len(made)


def test_whoever_had_a_pid_before_is_not_in_the_id_of_a_process_that_the_container_tells_apart() -> None:
    lives = [
        [executed(10, 5, "cat", 3 * n, PID=vpid, container="c") for n, vpid in enumerate(vpids)]
        for vpids in ((69, 67, 68), (69, 68))
    ]
    last = [Traced().note_all(made)[-1].span_id for made in lives]
    assert last[0] == last[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_new_life_gives_processes_that_the_container_tells_apart_the_ids_that_they_had(seed: int) -> None:
    events = session(seed, depth=6, low_half=seed).events()
    patient = replace(SETTINGS, process_quiet_seconds=600)  # no span goes on in another
    whole, later = Traced(patient), Traced(patient)
    before = whole.note_all(events)
    half = len(events) // 2
    assert [one.span_id for one in later.note_all(events[half:])] == [one.span_id for one in before[half:]]


def test_a_parent_that_only_its_child_speaks_of_is_not_who_had_its_pid_before() -> None:
    traced = Traced()
    before = executed(10, 5, "cat", 0, PID=3, container="c")
    child = executed(12, 10, "ls", 3, PID=9, PPID=8, parent="bash", container="c")
    traced.note_all([before, child])
    assert traced.named("ls")[0].parent_span_id == traced.named("bash")[0].span_id


def test_a_late_event_goes_on_a_span_of_its_own_below_its_process() -> None:
    traced = Traced()
    first, late = traced.note_all([executed(10, 5, "cat", 0), event(10, 5, "cat", 30)])
    spans = traced.named("cat")
    assert [said_by(span).get("otelbridge.process.continued", False) for span in spans] == [False, True]
    assert [first.span_id, late.span_id] == [span.span_id for span in spans]
    assert spans[1].parent_span_id == spans[0].span_id


def test_spans_that_go_on_at_the_same_moment_have_their_own_ids() -> None:
    traced = Traced()
    traced.note(*executed(10, 5, "cat", 0))
    for _ in range(3):
        traced.note(*event(99, 98, "other", traced.now - STARTED / SECOND + 100))
        traced.note(*event(10, 5, "cat", 3))
    assert len({span.span_id for span in traced.named("cat")}) == 4


def test_processes_that_had_one_pid_at_the_same_moment_have_their_own_ids() -> None:
    traced = Traced()
    events = [executed(10, parent, name, 1, task=name) for parent, name in ((5, "a"), (6, "b"), (7, "c"), (8, "d"))]
    assert len({record.span_id for record in traced.note_all(events)}) == 4


def test_a_pid_in_the_container_that_was_used_before_needs_an_id_of_its_own() -> None:
    """Those above 31 were remembered as others where it is compiled."""
    traced = Traced()
    vpids = (33, 34, 33, 40, 34)
    events = [executed(10, 5, "cat", 10 * at, PID=vpid, container="c") for at, vpid in enumerate(vpids)]
    assert len({record.span_id for record in traced.note_all(events)}) == 5


def test_a_process_that_was_forgotten_goes_on_below_its_first_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "MAX_SENT", 0)
    traced = Traced()
    first = traced.note(*executed(10, 5, "sh", 0, container="c"))
    traced.note(*event(99, 98, "other", 30, container="c"))
    later = traced.note(*event(10, 7, "sh", 31, container="c"))  # it has lost its parent meanwhile
    traced.note(*event(99, 98, "other", 61, container="c"))
    again = traced.note(*event(10, 7, "sh", 31, container="c"))
    child = traced.note(*executed(11, 10, "ls", 62, container="c"))
    spans = {span.span_id: span for span in traced.spans()}
    assert spans[later.span_id].parent_span_id == spans[again.span_id].parent_span_id == first.span_id
    assert spans[child.span_id].parent_span_id == first.span_id
    assert len([span for span in spans.values() if "otelbridge.trace.root" in said_by(span)]) == 1
    assert len(spans) == len(traced.done)


def test_a_child_of_a_process_whose_span_was_sent_hangs_below_it() -> None:
    traced = Traced()
    traced.note_all([executed(10, 5, "sh", 0), executed(11, 10, "curl", 40)])
    assert traced.named("curl")[0].parent_span_id == traced.named("sh")[0].span_id
    assert len(traced.named("sh")) == 2  # 5, of whom only its child speaks, and 10


def test_a_process_that_is_never_quiet_becomes_spans_all_the_same() -> None:
    traced = Traced()
    traced.note_all([event(10, 5, "busy", at) for at in range(0, 200, 5)])
    assert len(traced.named("busy")) == 4
    assert sum(len(span.events) for span in traced.named("busy")) == 40


def test_processes_whose_parent_is_unknown_are_counted_once_each() -> None:
    traced = Traced()
    traced.note_all([executed(10, 5, "sh", 0), event(10, 5, "sh", 30), event(5, 0, "init", 31)])
    unknown = [span for span in traced.spans() if "otelbridge.process.parent" in said_by(span)]
    assert len(unknown) == traced.processes.tree.orphans == 1
    assert len(traced.spans()) == traced.processes.tree.spans == 5


def test_a_span_holds_the_first_events_and_counts_the_others() -> None:
    traced = Traced()
    traced.note_all([event(10, 5, "busy", number / 100, Resource=f"/tmp/{number}") for number in range(200)])
    (span,) = traced.named("busy")
    assert (len(span.events), span.dropped_events_count) == (128, 72)


def test_a_denied_exec_is_an_error() -> None:
    traced = Traced()
    traced.note_all(
        [
            executed(10, 5, "sh", 0, parent="runc", container="c"),
            executed(11, 10, "payload", 1, container="c", Result="Permission denied"),
        ]
    )
    (span,) = traced.named("payload")
    assert span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert span.status.message == "Permission denied"
    assert said_by(span)["error.type"] == "denied"
    assert {said_by(one)["kubearmor.outcome"] for one in span.events} == {"denied"}


def test_a_path_that_is_tried_in_vain_makes_no_second_process() -> None:
    traced = Traced()
    tried = executed(10, 5, "no/curl", 0, Result="No such file or directory")
    ids = [record.span_id for record in traced.note_all([tried, executed(10, 5, "curl", 0.001)])]
    assert ids[0] == ids[1]
    assert said_by(traced.named("curl")[0])["otelbridge.process.start"] == "exec"


def test_start_and_end_say_how_they_are_known() -> None:
    traced = Traced()
    traced.note_all([executed(10, 5, "sh", 1, parent="init"), event(11, 10, "cat", 2)])
    said = {span.name: said_by(span) for span in traced.spans()}
    assert {name: one.get("otelbridge.process.start") for name, one in said.items()} == {
        "sh": "exec", "cat": "first_event", "init": "child", "host": None,
    }  # fmt: skip
    assert {one["otelbridge.process.end"] for one in said.values()} == {"estimated"}
    (sh,) = traced.named("sh")
    assert (sh.start_time_unix_nano, sh.end_time_unix_nano) == (STARTED + SECOND, STARTED + 2 * SECOND)


def test_processes_that_claim_to_be_each_others_parents_make_no_circle() -> None:
    traced = Traced()
    traced.note_all([event(10, 11, "a", 0), event(11, 10, "b", 1), event(12, 12, "c", 2)])
    spans = {span.span_id: span for span in traced.spans()}
    for span in spans.values():
        above, steps = span, 0
        while above.parent_span_id:
            above, steps = spans[above.parent_span_id], steps + 1
            assert steps < len(spans)


@pytest.mark.parametrize("limits", [{}, {"MAX_OPEN": 3, "MAX_SENT": 4, "MAX_TRACES": 2}])
@pytest.mark.parametrize("seed", [1, 2, 3, 7])
def test_whatever_order_reuse_and_clocks_come_to_no_span_is_its_own_ancestor(
    seed: int, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in limits.items():  # what was forgotten comes back
        monkeypatch.setattr(process_tree, name, limit)
    chance = random.Random(seed)
    traced = Traced()
    for _ in range(1000):
        pid, parent_pid, name = chance.randrange(1, 12), chance.randrange(12), chance.choice("abc")
        ids = chance.choice(["0", "", str(chance.randrange(3) << 32 | 7), str(2**64)])
        made = chance.choice([event, executed])(
            pid, parent_pid, name, chance.uniform(0, 200), container=chance.choice(["", "c"]), exec_id=ids,
            PID=chance.choice([0, 1, 2, 35, 40]), PPID=chance.choice([0, 1, 2, 35, 40]),
        )  # fmt: skip
        traced.note(*made)
    spans = traced.spans()
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        above, steps = span, 0
        while above.parent_span_id:
            above, steps = by_id[above.trace_id, above.parent_span_id], steps + 1
            assert steps < len(spans)


def test_events_that_name_no_process_get_no_ids() -> None:
    traced = Traced()
    firewall = pb.Alert(Type="MatchedNetworkPolicy", Operation="NetworkFirewall", Resource="INGRESS")
    assert not traced.note(Stream.ALERTS, firewall).trace_id
    assert not traced.spans()


def test_every_sample_gives_a_valid_trace() -> None:
    for _, message in sample_events():
        stream = STREAMS[type(message)]
        if isinstance(message, pb.Message):
            continue
        traced = Traced()
        record = traced.note(stream, message)
        spans = traced.spans()
        if message.HostPID <= 0:
            assert not record.trace_id
            continue
        by_id = {span.span_id: span for span in spans}
        assert record.span_id in by_id
        assert [span for span in spans if not span.parent_span_id] == [by_id[tree_root(spans)]]
        for span in spans:
            assert (len(span.trace_id), len(span.span_id)) == (16, 8)
            assert span.trace_id == record.trace_id
            assert not span.parent_span_id or span.parent_span_id in by_id
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.name


def tree_root(spans: list[trace_pb2.Span]) -> bytes:
    (root,) = [span.span_id for span in spans if "otelbridge.trace.root" in said_by(span)]
    return root


def test_memory_is_bounded_whatever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "MAX_OPEN", 100)
    monkeypatch.setattr(process_tree, "MAX_SENT", 50)
    monkeypatch.setattr(process_tree, "MAX_TRACES", 20)
    traced = Traced()
    for number in range(1000):
        ids = str(number << 32 | number // 3)
        traced.note(*executed(number + 1, number, "x", number / 1e6, container=f"c{number % 7}", exec_id=ids))
        assert len(traced.processes.tree) <= 104
    tree = traced.processes.tree
    traced.spans()
    assert len(tree) == 0
    assert tree.remembered() <= 50


def test_texts_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "MAX_TEXT_BYTES", 1 << 20)
    traced = Traced()
    for number in range(300):
        traced.note(*executed(number + 10, 5, "x", number / 1e6, Resource="y" * 30_000))
        assert len(traced.processes.tree) < 130


def test_an_hour_is_a_trace_of_the_node() -> None:
    traced = Traced()
    hours = traced.note_all([event(10, 5, "d", at) for at in (0, 1, 3600)])
    assert [a.trace_id == b.trace_id for a, b in itertools.pairwise(hours)] == [True, False]
