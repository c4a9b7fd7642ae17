"""The hot path: an alert or a log in, its encoded LogRecord out, joined from remembered parts and what is new in it.

Every event passes here, so this file trades some beauty for speed: about 45 fields are fetched by four calls, three
quarters of the attributes come encoded from memory, and only process ids, command lines, paths, time and id are encoded
anew. What the parts say is worked out in `parts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.mapping.body import as_json, as_map, one_line, sentence
from otelbridge.mapping.detail import Role
from otelbridge.mapping.fields import FIELDS
from otelbridge.mapping.identity import SEPARATOR, UID_BYTES, uid
from otelbridge.mapping.instant import SECOND, Instant
from otelbridge.mapping.leftovers import event_data_attributes, new_event_data
from otelbridge.mapping.memo import Memo, V
from otelbridge.mapping.parts import DetailPart, Parts, ProcessPart, RulePart, TouchedPart, WorkloadPart
from otelbridge.mapping.plain import MAX_RARE_BYTES, tail, times
from otelbridge.mapping.request import Record
from otelbridge.mapping.session import NO_SESSION, low_half, trace_context
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.tally import Tally
from otelbridge.mapping.wire import (
    BODY,
    RECORD_ATTRIBUTE,
    Attribute,
    any_value,
    attributes,
    delimited,
    head,
    int_attributes,
    text_attribute,
    text_body,
)

WORKLOADS, WORKLOADS_BYTES = 4096, 8 << 20  # 2,000 pods, with room for their successors
OTHERS, OTHERS_BYTES = 4096, 4 << 20

_UID_SEPARATORS = 9  # in the text that an event's id is made of
_EVENT = attrgetter("Timestamp", "UpdatedTime", "Source", "Resource", "Data", "ExecEvent.ExecID", "EventData")
_NUMBERS = attrgetter("HostPID", "HostPPID", "PID", "PPID", "UID")
NUMBER_KEYS = (
    "process.pid", "process.parent_pid", "process.vpid", "kubearmor.process.parent_vpid", "process.real_user.id"
)  # fmt: skip


def _memo(make: Callable[..., V]) -> Memo[Any, V]:
    return Memo(make, max_entries=OTHERS, max_bytes=OTHERS_BYTES)


class Lane:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, stream: Stream, kind: type[Message], tally: Tally) -> None:
        limit = settings.max_value_bytes
        self._settings = settings
        self._stream = stream
        self._name = str(stream)  # formatting an enum's member costs as much as a look-up
        self._tally = tally
        self._cut: list[str] = []
        self._instant = Instant()
        parts = Parts(settings, stream, kind, FIELDS, self._cut, tally.admit_node)
        self._fetch_workload, self._fetch_rule = parts.workload.fetch, parts.rule.fetch
        self._fetch_process = parts.process.fetch
        self._workloads: Memo[Any, WorkloadPart] = Memo(
            parts.make_workload, max_entries=WORKLOADS, max_bytes=WORKLOADS_BYTES
        )
        self._rules: Memo[Any, RulePart] = _memo(parts.make_rule)
        self._processes: Memo[Any, ProcessPart] = _memo(parts.make_process)
        self._details: Memo[Any, DetailPart] = _memo(parts.make_detail)
        self._touched: Memo[Any, TouchedPart] = _memo(parts.make_touched)
        self._recall_workload, self._recall_rule = self._workloads.recall, self._rules.recall
        self._recall_process, self._recall_detail = self._processes.recall, self._details.recall
        self._recall_touched = self._touched.recall
        self._numbers = int_attributes(NUMBER_KEYS)
        self._root = attributes(RECORD_ATTRIBUTE, [("process.real_user.id", 0)], limit, [])
        self._command_line = text_attribute("process.command_line", limit, self._cut)
        self._source = text_attribute("kubearmor.source", limit, self._cut)
        self._resource = text_attribute("kubearmor.resource", limit, self._cut)
        self._file_path = text_attribute("file.path", limit, self._cut)
        self._file_name = text_attribute("file.name", limit, self._cut)
        self._exec_id = text_attribute("kubearmor.exec.id", limit, self._cut)
        self._session_id = text_attribute("kubearmor.exec.session_id", limit, self._cut)
        self._uid_head = head(RECORD_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._body = text_body()

    def unix_nano(self, updated: str, timestamp: int) -> int:
        """The time that the two fields tell, or 0."""
        return self._instant.unix_nano(updated, timestamp)

    def map(self, message: Any, received_unix_nano: int, rare: list[Attribute], dropped: int) -> Record:
        """Maps one event.

        Args:
            message: an Alert or a Log.
            received_unix_nano: when the bridge got it.
            rare: attributes that the caller knows of; the list is the lane's to extend.
            dropped: attributes that the caller had to leave out.
        """
        settings = self._settings
        timestamp, updated, source, resource, data, exec_id, event_data = _EVENT(message)
        numbers = _NUMBERS(message)
        key = self._fetch_workload(message)
        workload = self._recall_workload(key) or self._workloads.learn(key)
        key = self._fetch_rule(message)
        rule = self._recall_rule(key) or self._rules.learn(key)
        key = self._fetch_process(message)
        process = self._recall_process(key) or self._processes.learn(key)
        key = (rule.operation, data)
        detail = self._recall_detail(key) or self._details.learn(key)
        role, known, identifying = detail.role, detail.known, resource
        parts = [b"", rule.head, b"", workload.attributes, rule.attributes, process.attributes, detail.attributes]
        add = parts.append
        if role is Role.PARSED:
            key = (rule.operation, data, resource)
            touched = self._recall_touched(key) or self._touched.learn(key, detail)
            add(touched.attributes)
            known, identifying = touched.known, touched.identifying
        elif resource:
            if role is Role.FILE:
                add(self._file_path(resource))
                name = resource.rpartition("/")[2]
                if name:
                    add(self._file_name(name))
            elif role is Role.COMMAND:
                add(self._command_line(resource))
            if settings.keep_raw or role is Role.OTHER:
                add(self._resource(resource))
        if role is not Role.COMMAND:
            by = process.by_executable
            if source:
                add(self._command_line(source))
        else:
            by = process.by_parent
            if source and source != process.parent:
                add(self._source(source))
        add(self._numbers(numbers))
        host_pid, host_ppid, pid, ppid, user_id = numbers
        if host_pid and not user_id:
            add(self._root)
        if exec_id not in NO_SESSION:
            add(self._session(exec_id, workload.container, host_pid))

        unix_nano = self._instant.unix_nano(updated, timestamp)
        seconds, rest = divmod(unix_nano, SECOND)
        if seconds != timestamp or not rest:
            rare += self._instant.odd(updated, timestamp, unix_nano)
        parts[0] = times(unix_nano, received_unix_nano)

        text = (
            f"{self._name}\x1f{workload.digest}\x1f{rule.digest}\x1f{process.digest}\x1f"
            f"{timestamp},{host_pid},{host_ppid},{pid},{ppid},{user_id}\x1f"
            f"{updated}\x1f{source}\x1f{identifying}\x1f{data}\x1f{exec_id}"
        )
        if text.count(SEPARATOR) != _UID_SEPARATORS:  # a value holds one: make it unmistakable
            text += repr((updated, source, identifying, data, exec_id))
        if event_data and (len(event_data) != len(known) or [*map(event_data.get, known)] != [*known.values()]):
            entries = new_event_data(event_data.items(), known)
            pairs, left_out = event_data_attributes(entries)
            rare += pairs
            dropped += left_out
            text += repr(entries) if entries else ""
        add(self._uid_head + uid(text))

        if settings.body == "text":
            what = resource or data
            if not what.isprintable():
                what = one_line(what)
            before, after = f"{rule.before} ", f"{by or self._by(source)}{workload.where}{rule.after}"
            raw = f"{before}{what}{after}".encode()
            if len(raw) > settings.max_body_bytes:
                raw = sentence(before, what, after, settings.max_body_bytes).encode()
            parts[2] = self._body(raw)
        else:
            parts[2] = self._other_body(message)
        if rare or dropped or self._cut or settings.keep_original:
            self._finish(parts, message, rare, dropped)

        tally = self._tally
        tally.nodes[workload.node] = received_unix_nano
        if self._stream is Stream.ALERTS:
            tally.count_alert((workload.namespace, rule.counted))
        return Record(self._stream, workload.resource, b"".join(parts), unix_nano)

    def _finish(self, parts: list[bytes], message: Any, rare: list[Attribute], dropped: int) -> None:
        """Whatever is not there on most events: rare attributes, and the confession that something was cut."""
        if self._settings.keep_original:
            rare = [*rare, ("log.record.original", as_json(message, self._settings.max_value_bytes))]
        parts.append(attributes(RECORD_ATTRIBUTE, rare, MAX_RARE_BYTES, self._cut))
        if self._cut or dropped:
            self._tally.truncated += 1
            parts.append(tail(self._cut, dropped))

    def _session(self, exec_id: str, container: tuple[str, str, str], host_pid: int) -> bytes:
        low = low_half(exec_id)
        if low is None:
            return self._exec_id(exec_id)
        encoded = self._exec_id(exec_id) + self._session_id(f"{low:08x}")
        if self._settings.exec_session_trace:
            encoded += trace_context(container, low, host_pid)
        return encoded

    def _by(self, source: str) -> str:
        return f" by {one_line(source[: self._settings.max_body_bytes])}" if source else ""

    def _other_body(self, message: Any) -> bytes:
        limit = self._settings.max_value_bytes
        content = as_map(message, limit) if self._settings.body == "map" else as_json(message, limit)
        return delimited(BODY, any_value(content))
