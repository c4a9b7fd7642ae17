"""Shows the process tree the events that become records, gives the records their span's ids, and encodes the spans.

Field numbers are those of opentelemetry-proto's Span. A span travels as a `Record`: requests of spans are laid out as
those of log records are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any

from otelbridge.event import Stream, outcome_of
from otelbridge.mapping.parts import UID_BYTES
from otelbridge.mapping.process_tree import Place, Process, ProcessTree, Program, Sighting, Start, TraceKind
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import OPERATION_NAMES, OTHER_OPERATION, THROTTLED_EVENT, THROTTLING_OPERATION
from otelbridge.mapping.wire import (
    MAX_RARE_BYTES,
    MAX_UTF8_BYTES,
    Attribute,
    Record,
    attributes,
    attributes_encoder,
    clip,
    head,
    one_line,
    text_heads,
)
from otelbridge.protobuf import delimited, varint

try:
    from otelbridge.mapping import fastpath_wire
except ImportError:  # it was installed where there is no C compiler
    fastpath_wire = None  # type: ignore[assignment]

SPAN_ATTRIBUTE = b"\x4a"  # Span.attributes = 9
EVENT_ATTRIBUTE = b"\x1a"  # Span.Event.attributes = 3
_TIMES = Struct("<BQBQ").pack  # Span.start_time_unix_nano = 7 and .end_time_unix_nano = 8, each after its tag
_ID = Struct("<Q").pack
_PARENT_ID = Struct("<2sQ").pack  # Span.parent_span_id = 4
_EVENT_TIME = Struct("<BQ").pack  # Span.Event.time_unix_nano = 1
EVENT_BYTES = 9 + UID_BYTES
"""Of the time and the id of a Span.Event."""
ERROR = b"\x18\x02"  # Status.code = 3
MAX_NAME_BYTES = 128
MAX_TOUCHED_BYTES = 256
"""Of what an event touched; its record has it whole."""
MAX_ACTS = 2048
SPANS = Stream.SPANS  # a member that is asked of its class costs a third of what a span does
MAX_NAMED = 1024
ROOT_NAMES = {TraceKind.EXEC_SESSION: "exec session", TraceKind.CONTAINER: "container", TraceKind.HOST: "host"}
UNKNOWN_NAME = "unknown"
TRACING = "syscall=SYS_PTRACE"
"""A Process event that executes nothing."""

COMMAND_LINE = "process.command_line"
KEYS = tuple(
    delimited(b"\x0a", key.encode()) for key in ("process.pid", "process.parent_pid", "process.vpid", COMMAND_LINE)
)
"""Encoded, of what `span` adds."""
TOUCHED_KEY = "kubearmor.resource"
_OBSERVED_AT = slice(1, 9)
"""Where the time of receipt stands in a record that has no other time."""
_place: Callable[[Any], tuple[Any, ...]] = attrgetter("ClusterName", "HostName", "ContainerID")
_of_record: Callable[[Record], tuple[bytes, bytes, int]] = itemgetter(1, 2, 3)
_told: Callable[[Any], tuple[Any, ...]] = attrgetter("HostPID", "HostPPID", "PID", "PPID", "Source", "Resource", "Data")


class Act:
    """What was done, and what KubeArmor says about it."""

    __slots__ = ("denial", "event", "is_command", "passed")

    def __init__(self, operation: str, result: str, denial: str, event: bytes) -> None:
        self.is_command, self.passed = operation == "Process", result == "Passed"
        self.denial = denial
        """KubeArmor's words, where it was denied."""
        self.event = event
        """The name of a span's event, and attributes of it."""


Told = tuple[Place, Program, Act, int, int, int, int, str, str, str]
"""What an event tells of its process: HostPID, HostPPID, PID, PPID, Source, Resource and Data come last."""


class ProcessSpans:
    """The process tree between events and records. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, tree: ProcessTree | None = None) -> None:
        self.tree = tree or ProcessTree(0, self._span)
        self.tree.quiet_seconds, self.tree.finish = settings.process_quiet_seconds, self._span
        self.told: Told
        """Of the event that the fast path has mapped last; it puts it here."""
        self._limit = settings.max_value_bytes
        self._surely_short = self._limit // MAX_UTF8_BYTES
        self._keep_raw = settings.keep_raw
        self._attributes = attributes_encoder(native=settings.native)
        is_compiled = settings.native and fastpath_wire is not None
        self._event = fastpath_wire.span_event if is_compiled else span_event
        self._in_span = fastpath_wire.in_span if is_compiled else in_span
        self._encoded = fastpath_wire.span if is_compiled else span
        self._record = partial(fastpath_wire.record, Record) if is_compiled else Record
        self._seen = Sighting(Place("", "", ""), Program("", "", "", ""))
        """Of the event at hand; the tree keeps none."""
        self._acts: dict[tuple[str, ...], Act] = {}
        self._named: dict[str, bytes] = {}
        self._uid_head = head(EVENT_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._before_touched = text_heads(TOUCHED_KEY, EVENT_ATTRIBUTE)
        self._touched_cut = attributes(EVENT_ATTRIBUTE, [("kubearmor.truncated", [TOUCHED_KEY])], MAX_RARE_BYTES, [])

    # --- what an event tells: the fast path keeps the first three with its parts ---

    def read(self, stream: Stream, message: Any) -> Told:
        """What an Alert or a Log tells of its process."""
        return (self.place(message), self.program(message), self.act(stream, message), *_told(message))

    def place(self, message: Any) -> Place:
        """From fields of the group `workload`."""
        return Place(*_place(message))

    def program(self, message: Any) -> Program:
        """From fields of the group `process`."""
        execution = message.ExecEvent
        return Program(execution.ExecID, message.ProcessName, message.ParentProcessName, execution.ExecutableName)

    def act(self, stream: Stream, message: Any) -> Act:
        """From fields of the group `rule`."""
        alert = (message.Action, message.PolicyName) if stream is Stream.ALERTS else ()
        said = (message.Operation, message.Result, *alert)
        return self._acts.get(said) or self._act(*said)

    def _act(self, operation: str, result: str, action: str | None = None, policy: str = "") -> Act:
        kind = "telemetry" if action is None else "alert"
        name = f"kubearmor.{kind}.{OPERATION_NAMES.get(operation.lower(), OTHER_OPERATION)}"
        if operation == THROTTLING_OPERATION:
            name = THROTTLED_EVENT
        outcome = outcome_of(result)
        pairs: list[Attribute] = [
            ("kubearmor.outcome", outcome),
            ("kubearmor.action", action or ""),
            ("security_rule.name", policy),
        ]
        if len(self._acts) >= MAX_ACTS:
            self._acts.clear()
        event = delimited(b"\x12", name.encode()) + attributes(EVENT_ATTRIBUTE, pairs, self._limit, [])
        act = Act(operation, result, result if outcome == "denied" else "", event)
        said = (operation, result) if action is None else (operation, result, action, policy)
        self._acts[said] = act
        return act

    # --- events in, records and spans out ---

    def with_ids(self, told: Told, record: Record, now: float) -> Record:
        """Takes in what an event tells, and gives its record its process' span; as it is where it names no process.

        The record ends with the event's id. The time is of any clock that does not go back, in seconds.
        """
        place, program, act, pid, parent_pid, vpid, parent_vpid, source, resource, data = told
        if pid <= 0:
            return record
        encoded_resource, encoded, unix_nano = _of_record(record)  # quicker, compiled, than to unpack it
        is_command = act.is_command and not data.startswith(TRACING)
        happened = unix_nano or int.from_bytes(encoded[_OBSERVED_AT], "little")
        seen = self._seen
        seen.place, seen.program, seen.unix_nano, seen.is_exec = place, program, happened, is_command and act.passed
        seen.pid, seen.parent_pid, seen.vpid, seen.parent_vpid = pid, parent_pid, vpid, parent_vpid
        tree = self.tree
        process = tree.note(seen, now, encoded_resource)
        command = (resource if is_command else process.command_line or source) or process.command_line
        if act.denial and not process.denied:
            process.denied = act.denial
        touched = self._touched(resource) if resource and not is_command and self._keep_raw else b""
        event = self._event(happened, act.event, self._uid_head, encoded, touched)
        if len(command) > self._limit:
            command = command[: self._limit + 1]  # what is cut is to be told
        tree.add_event(process, event, command)
        return self._in_span(record, process.trace.of_record, process.span_id)

    def due(self, now: float, *, all_of_them: bool = False) -> list[Record]:
        """The spans that are complete, as records of the stream `spans`; each is returned once."""
        return self.tree.due(now, all_of_them=all_of_them)

    def _touched(self, resource: str) -> bytes:
        raw = resource.encode()
        if len(raw) <= MAX_TOUCHED_BYTES:
            return (self._before_touched.recall(len(raw)) or self._before_touched.learn(len(raw))) + raw
        raw = clip(resource, MAX_TOUCHED_BYTES).encode()
        return self._before_touched.learn(len(raw)) + raw + self._touched_cut

    def _span(self, process: Process) -> Record:
        """The span of a process, or of a trace's root."""
        trace, parent, command_line = process.trace, process.parent, process.command_line
        named, said = b"", []
        above = process.own_id if process.continues else parent.own_id if parent is not None else 0
        if process.pid:
            cut: list[str] = []
            named = self._named.get(process.executable) or self._name_it(process.executable, cut)
            if len(command_line) > self._surely_short:
                command_line = clip(command_line, self._limit)
                if command_line != process.command_line:
                    cut.append(COMMAND_LINE)
            said = self._said(process, cut)
        else:
            named = ROOTS[trace.kind]
        if process.events is not None:
            said += process.events
        if process.dropped_events:
            said.append(b"\x60" + varint(process.dropped_events))
        if process.denied:
            why = delimited(b"\x12", clip(process.denied, MAX_NAME_BYTES).encode())
            said.append(delimited(b"\x7a", why + ERROR))
        encoded = self._encoded(
            trace.of_span, process.span_id, above, process.start, process.end, named, KEYS,
            process.pid, process.parent_pid, process.vpid, command_line, said,
        )  # fmt: skip
        return self._record(SPANS, trace.resource, encoded, process.start)

    def _said(self, process: Process, cut: list[str]) -> list[bytes]:
        """What is known of a process, and how."""
        said = [STARTS[process.start_known]]
        if process.continues:
            said.append(CONTINUED)
        elif process.is_orphan():
            said.append(UNKNOWN_PARENT)
        if process.denied:
            said.append(DENIED)
        if cut:
            said.append(_of_span([("kubearmor.truncated", cut)]))
        return said

    def _name_it(self, executable: str, cut: list[str]) -> bytes:
        """A span's name, and what it says of the executable."""
        file_name = executable.rpartition("/")[2]
        name = _name(clip(one_line(file_name), MAX_NAME_BYTES) or UNKNOWN_NAME)
        pairs: list[Attribute] = [("process.executable.path", executable), ("process.executable.name", file_name)]
        named = name + self._attributes(SPAN_ATTRIBUTE, pairs, self._limit, cut)
        if len(executable) <= MAX_NAME_BYTES and not cut:
            if len(self._named) >= MAX_NAMED:
                self._named.clear()
            self._named[executable] = named
        return named


def span_event(unix_nano: int, act: bytes, uid_head: bytes, encoded: bytes, touched: bytes) -> bytes:
    """The field Span.events = 11: its time, name and attributes; a record's id is what it ends with."""
    size, uid = EVENT_BYTES + len(act) + len(uid_head) + len(touched), encoded[-UID_BYTES:]
    return b"".join((b"\x5a", varint(size), _EVENT_TIME(0x09, unix_nano), act, uid_head, uid, touched))


def in_span(record: Record, of_record: bytes, span_id: int) -> Record:
    """A record with the ids of its process' span."""
    return record._replace(encoded=b"".join((record.encoded, of_record, _ID(span_id))))


def span(  # noqa: PLR0917  # keywords would cost more than what it saves
    of_span: bytes,
    span_id: int,
    above: int,
    start: int,
    end: int,
    named: bytes,
    keys: tuple[bytes, ...],
    pid: int,
    parent_pid: int,
    vpid: int,
    command_line: str,
    said: list[bytes],
) -> bytes:
    """A Span.

    Args:
        of_span: what stands before its id.
        span_id: its own.
        above: its parent's; 0 for none.
        start: in Unix nanoseconds.
        end: the same.
        named: its name, and attributes.
        keys: of the attributes that follow.
        pid: left out, as the next two, where it is not positive.
        parent_pid: in the node's numbering, too.
        vpid: in the container's.
        command_line: left out where it is empty.
        said: all other fields.
    """
    parts = [of_span, _ID(span_id), _TIMES(0x39, start, 0x41, end)]
    if above:
        parts.append(_PARENT_ID(b"\x22\x08", above))
    parts.append(named)
    values = [b"\x18" + varint(number) if number > 0 else b"" for number in (pid, parent_pid, vpid)]
    values.append(delimited(b"\x0a", command_line.encode()) if command_line else b"")
    parts += [
        delimited(SPAN_ATTRIBUTE, key + delimited(b"\x12", value))
        for key, value in zip(keys, values, strict=True)
        if value
    ]
    return b"".join((*parts, *said))


def _of_span(pairs: list[Attribute]) -> bytes:
    return attributes(SPAN_ATTRIBUTE, pairs, MAX_RARE_BYTES, [])


def _name(text: str) -> bytes:
    """The fields Span.name = 5 and .kind = 6, which is INTERNAL."""
    return delimited(b"\x2a", text.encode()) + b"\x30\x01"


END = _of_span([("otelbridge.process.end", "estimated")])
STARTS = {start: _of_span([("otelbridge.process.start", str(start))]) + END for start in Start}
UNKNOWN_PARENT = _of_span([("otelbridge.process.parent", "unknown")])
CONTINUED = _of_span([("otelbridge.process.continued", True)])
DENIED = _of_span([("error.type", "denied")])
ROOTS = {
    kind: _name(name) + _of_span([("otelbridge.trace.root", str(kind))]) + END for kind, name in ROOT_NAMES.items()
}
"""The name of a trace's root, and its attributes."""
