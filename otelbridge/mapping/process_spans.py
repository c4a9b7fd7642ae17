"""Shows the process tree the events that become records, gives the records their span's ids, and encodes the spans.

Field numbers are those of opentelemetry-proto's Span. A span travels as a `Record`: requests of spans are laid out as
those of log records are.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from struct import Struct
from typing import Any

from otelbridge import clamp
from otelbridge.event import Stream, outcome_of
from otelbridge.mapping.parts import UID_BYTES
from otelbridge.mapping.process_tree import Kind, ProcessTree, Sighting, Span, Start
from otelbridge.mapping.request import Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import OPERATION_NAMES, OTHER_OPERATION, THROTTLED_EVENT, THROTTLING_OPERATION
from otelbridge.mapping.wire import (
    MAX_RARE_BYTES,
    Attribute,
    attributes,
    clip,
    delimited,
    head,
    int_heads,
    one_line,
    text_heads,
    varint,
)

SPAN_ATTRIBUTE = b"\x4a"  # Span.attributes = 9
EVENT_ATTRIBUTE = b"\x1a"  # Span.Event.attributes = 3
_TIMES = Struct("<BQBQ").pack  # Span.start_time_unix_nano = 7 and .end_time_unix_nano = 8, each after its tag
_EVENT_TIME = Struct("<BQ").pack  # Span.Event.time_unix_nano = 1
INTERNAL = b"\x30\x01"  # Span.kind = 6
ERROR = b"\x18\x02"  # Status.code = 3
MAX_NAME_BYTES = 128
MAX_TOUCHED_BYTES = 256
"""Of what an event touched; its record has it whole."""
MAX_RULINGS = 2048
ROOT_NAMES = {Kind.EXEC_SESSION: "exec session", Kind.CONTAINER: "container", Kind.HOST: "host"}
UNKNOWN_NAME = "unknown"

_FIELDS = (
    "ClusterName", "HostName", "ContainerID", "ExecEvent.ExecID", "HostPID", "HostPPID", "PID", "PPID",
    "ProcessName", "ParentProcessName", "ExecEvent.ExecutableName", "Operation", "Result", "Source", "Resource", "Data",
)  # fmt: skip
OF_PROCESS = _FIELDS.index("Operation")
"""So many of them are a Sighting's."""
SPAN_KEYS = (
    "otelbridge.trace.root", "process.pid", "process.parent_pid", "process.vpid", "process.executable.path",
    "process.executable.name", "process.command_line", "otelbridge.process.start", "otelbridge.process.end",
    "otelbridge.process.parent", "otelbridge.process.continued", "error.type", "kubearmor.truncated",
)  # fmt: skip
EVENT_KEYS = (
    "kubearmor.outcome", "kubearmor.action", "security_rule.name", "log.record.uid", "kubearmor.resource",
    "kubearmor.truncated",
)  # fmt: skip
"""What spans, and the events on them, can hold."""
TOUCHED_KEY = "kubearmor.resource"
_OBSERVED_AT = slice(1, 9)
"""Where the time of receipt stands in a record that has no other time."""
_of_log: Callable[[Any], tuple[Any, ...]] = attrgetter(*_FIELDS)
_of_alert: Callable[[Any], tuple[Any, ...]] = attrgetter("Action", "PolicyName")


class ProcessSpans:
    """The process tree between events and records. Not thread-safe: it belongs to the encoder's thread.

    Args:
        settings: of the mapping.
        tree: goes on with this one.
    """

    def __init__(self, settings: MappingSettings, tree: ProcessTree | None = None) -> None:
        self.tree = tree or ProcessTree(0)
        self.tree.quiet_seconds = settings.process_quiet_seconds
        self._limit = settings.max_value_bytes
        self._keep_raw = settings.keep_raw
        self._rulings: dict[bool, dict[tuple[str, ...], bytes]] = {False: {}, True: {}}
        """For logs, and for alerts: a member of an Enum takes its time to be a key."""
        self._uid_head = head(EVENT_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._before_touched = text_heads(TOUCHED_KEY, EVENT_ATTRIBUTE)
        self._touched_cut = attributes(EVENT_ATTRIBUTE, [("kubearmor.truncated", [TOUCHED_KEY])], MAX_RARE_BYTES, [])

    def with_ids(self, message: Any, record: Record, now: float) -> Record:
        """Takes in an event, and gives its record the ids of its process' span; as it is where it names no process.

        Args:
            message: the event, as it passed the gate.
            record: what became of it; it ends with the event's id.
            now: of any clock that does not go back, in seconds.
        """
        stream, encoded_resource, encoded, unix_nano = record
        if stream is Stream.MESSAGES or message.HostPID <= 0:
            return record
        fields = _of_log(message)
        is_alert = stream is Stream.ALERTS
        action, policy = _of_alert(message) if is_alert else ("", "")
        operation, result, source, resource, data = fields[OF_PROCESS:]
        is_command = operation == "Process" and not data.startswith("syscall=SYS_PTRACE")
        is_exec = is_command and result == "Passed"
        tree = self.tree
        happened = unix_nano or _observed(encoded)
        process = tree.note(tuple.__new__(Sighting, (*fields[:OF_PROCESS], happened, is_exec)), now, encoded_resource)
        command = resource if is_command else source
        if command and (is_command or not process.command_line):
            tree.set_command_line(process, command[: self._limit + 1])  # what is cut is to be told
        if result != "Passed" and not process.denied and outcome_of(result) == "denied":
            process.denied = result
        uid = encoded[-UID_BYTES:]
        ruling = (operation, result, action, policy)
        event = self._rulings[is_alert].get(ruling) or self._ruling(ruling, is_alert=is_alert)
        touched = self._touched(resource) if resource and not is_command and self._keep_raw else b""
        tree.add_event(process, uid, b"".join((event, _EVENT_TIME(0x09, happened), self._uid_head, uid, touched)))
        return tuple.__new__(Record, (stream, encoded_resource, encoded + process.ids, unix_nano))

    def due(self, now: float, *, all_of_them: bool = False) -> list[Record]:
        """The spans that are complete, as records of the stream `spans`; each is returned once."""
        return [
            Record(Stream.SPANS, span.resource, self._encoded(span), span.start_unix_nano)
            for span in self.tree.due(now, all_of_them=all_of_them)
        ]

    def _ruling(self, ruling: tuple[str, str, str, str], *, is_alert: bool) -> bytes:
        """The name of a span's event, and what KubeArmor says about it."""
        operation, result, action, policy = ruling
        kind = "alert" if is_alert else "telemetry"
        name = f"kubearmor.{kind}.{OPERATION_NAMES.get(operation.lower(), OTHER_OPERATION)}"
        if operation == THROTTLING_OPERATION:
            name = THROTTLED_EVENT
        pairs: list[Attribute] = [
            ("kubearmor.outcome", outcome_of(result)),
            ("kubearmor.action", action),
            ("security_rule.name", policy),
        ]
        known = self._rulings[is_alert]
        if len(known) >= MAX_RULINGS:
            known.clear()
        made = known[ruling] = delimited(b"\x12", name.encode()) + attributes(EVENT_ATTRIBUTE, pairs, self._limit, [])
        return made

    def _touched(self, resource: str) -> bytes:
        raw = resource.encode()
        if len(raw) <= MAX_TOUCHED_BYTES:
            return (self._before_touched.recall(len(raw)) or self._before_touched.learn(len(raw))) + raw
        raw = clip(resource, MAX_TOUCHED_BYTES).encode()
        return self._before_touched.learn(len(raw)) + raw + self._touched_cut

    def _encoded(self, span: Span) -> bytes:
        if span.root_of is not None:
            name, said = ROOT_NAMES[span.root_of], _of_span([("otelbridge.trace.root", str(span.root_of))]) + END
        else:
            file_name = span.executable.rpartition("/")[2]
            name = clip(one_line(file_name), MAX_NAME_BYTES) or UNKNOWN_NAME
            said = self._said(span, file_name)
        start, end = clamp.unix_nano(span.start_unix_nano), clamp.unix_nano(span.end_unix_nano)
        raw = name.encode()
        parts = [
            b"\x0a\x10", span.trace_id, b"\x12\x08", span.span_id,
            b"\x22\x08" + span.parent_span_id if span.parent_span_id else b"",
            b"\x2a", varint(len(raw)), raw, INTERNAL, _TIMES(0x39, start, 0x41, end), said,
        ]  # fmt: skip
        for event in span.events.values():
            parts += (b"\x5a", varint(len(event)), event)
        if span.dropped_events:
            parts.append(b"\x60" + varint(span.dropped_events))
        if span.denied:
            why = delimited(b"\x12", clip(span.denied, MAX_NAME_BYTES).encode())
            parts.append(delimited(b"\x7a", why + ERROR))
        return b"".join(parts)

    def _said(self, span: Span, file_name: str) -> bytes:
        """The attributes of a process' span."""
        cut: list[str] = []
        parts: list[bytes] = []
        for before, number in zip(PID_HEADS, (span.pid, span.parent_pid, span.vpid), strict=True):
            if number > 0:
                digits = varint(number)
                parts += (before[len(digits)], digits)
        for heads, text in zip(TEXT_HEADS, (span.executable, file_name, span.command_line), strict=True):
            raw = text.encode()
            if len(raw) > self._limit:
                cut.append(heads.key)
                raw = clip(text, self._limit).encode()
            if raw:
                parts += (heads.recall(len(raw)) or heads.learn(len(raw)), raw)
        parts += (STARTS[span.start_known], END)
        if span.parent_unknown:
            parts.append(UNKNOWN_PARENT)
        if span.continues:
            parts.append(CONTINUED)
        if span.denied:
            parts.append(DENIED)
        if cut:
            parts.append(_of_span([("kubearmor.truncated", cut)]))
        return b"".join(parts)


def _of_span(pairs: list[Attribute]) -> bytes:
    return attributes(SPAN_ATTRIBUTE, pairs, MAX_RARE_BYTES, [])


PID_HEADS = tuple(int_heads(key, SPAN_ATTRIBUTE) for key in ("process.pid", "process.parent_pid", "process.vpid"))
TEXT_HEADS = tuple(
    text_heads(key, SPAN_ATTRIBUTE)
    for key in ("process.executable.path", "process.executable.name", "process.command_line")
)
STARTS = {start: _of_span([("otelbridge.process.start", str(start))]) for start in Start}
END = _of_span([("otelbridge.process.end", "estimated")])
UNKNOWN_PARENT = _of_span([("otelbridge.process.parent", "unknown")])
CONTINUED = _of_span([("otelbridge.process.continued", True)])
DENIED = _of_span([("error.type", "denied")])


def _observed(encoded: bytes) -> int:
    """When a record was received that says no other time: its first field."""
    return int.from_bytes(encoded[_OBSERVED_AT], "little")
