"""The hot path: an alert or a log in, its record out, joined from what is remembered and what is new in it.

Every event passes here. Some 45 fields are fetched by five calls; three quarters of the attributes come encoded from
memory (`parts.py` works them out); only numbers, command lines, paths, time and id are encoded anew (`novelty.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from struct import Struct
from typing import Any

from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.mapping.body import as_json, as_map, one_line, sentence
from otelbridge.mapping.details import FORMS, NETWORK, FormKey, Role, find
from otelbridge.mapping.fields import FIELDS
from otelbridge.mapping.model import (
    MICROSECOND,
    SECOND,
    DetailPart,
    Instant,
    Known,
    MappingCounts,
    Memo,
    ProcessPart,
    RulePart,
    TemplatePart,
    TouchedPart,
    V,
    WorkloadPart,
)
from otelbridge.mapping.parts import NO_SESSION, UID_BYTES, Parts, low_half, trace_context, uid
from otelbridge.mapping.request import Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import (
    BODY,
    FOUR_DIGITS_END,
    MAX_RARE_BYTES,
    RECORD_ATTRIBUTE,
    TWO_DIGITS,
    TWO_DIGITS_END,
    TWO_MORE,
    Attribute,
    IntAttributes,
    Value,
    any_value,
    attributes,
    body_heads,
    clip,
    delimited,
    head,
    int_heads,
    tail,
    text_attribute,
    text_heads,
    times,
)

MAX_EVENT_DATA_KEYS = 64
MAX_KEY_BYTES = 64
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_A_KEY = re.compile(r"[^a-z0-9_]+")


def new_event_data(event_data: Iterable[tuple[str, str]], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """The entries that Data and Resource do not tell, sorted: Go writes maps in random order."""
    return sorted((key, text) for key, text in event_data if known.get(key) != text)


def event_data_attributes(entries: Sequence[tuple[str, str]]) -> tuple[list[Attribute], int]:
    """Attributes for the first 64 entries, and the number of those left out."""
    pairs: dict[str, Value] = {}
    for key, text in entries[:MAX_EVENT_DATA_KEYS]:
        wanted = name = "kubearmor.event_data." + snake(key)
        rank = 1
        while name in pairs:
            rank += 1
            name = f"{wanted}_{rank}"
        pairs[name] = text
    return list(pairs.items()), max(0, len(entries) - MAX_EVENT_DATA_KEYS)


def snake(key: str) -> str:
    """`SourceIP` becomes `source_ip`; whatever does not belong into an attribute's key becomes `_`."""
    return clip(_NOT_A_KEY.sub("_", _HUMP.sub("_", key).lower()), MAX_KEY_BYTES) or "_"


# A member of an Enum takes 0.16 µs each time it is looked up by its name (Python 3.11).
_COMMAND, _FILE, _OTHER = Role.COMMAND, Role.FILE, Role.OTHER

NUMBER_KEYS = (
    "process.pid", "process.parent_pid", "process.vpid", "kubearmor.process.parent_vpid", "process.real_user.id"
)  # fmt: skip


class EventFields:
    """Encoders for the fields of the group `event`. Keys of values that had to be cut are appended to `cut`."""

    def __init__(self, settings: MappingSettings, cut: list[str]) -> None:
        limit = settings.max_value_bytes
        self._keep_raw = settings.keep_raw
        self._limit = limit
        self._path_heads, self._name_heads = text_heads("file.path"), text_heads("file.name")
        self._resource_heads = text_heads("kubearmor.resource")
        self._command_line_heads = text_heads("process.command_line")
        self._command_line = text_attribute("process.command_line", limit, cut)
        self._source = text_attribute("kubearmor.source", limit, cut)
        self._resource = text_attribute("kubearmor.resource", limit, cut)
        self._file_path = text_attribute("file.path", limit, cut)
        self._file_name = text_attribute("file.name", limit, cut)
        self._exec_id = text_attribute("kubearmor.exec.id", limit, cut)
        self._session_id = text_attribute("kubearmor.exec.session_id", limit, cut)
        self._numbers = tuple(IntAttributes(key) for key in NUMBER_KEYS)
        self._pid_heads, self._vpid_heads = int_heads("process.pid"), int_heads("process.vpid")
        self._root = attributes(RECORD_ATTRIBUTE, [("process.real_user.id", 0)], limit, [])

    def resource(self, role: Role, resource: str) -> bytes:
        """Resource by the role that it plays, and raw."""
        if not resource:
            return b""
        if role is _FILE:
            return self._file(resource)
        if role is _OTHER:
            return self._resource(resource)
        raw = resource.encode()
        size = len(raw)
        if size > self._limit or not self._keep_raw:
            return self._command_line(resource) + (self._resource(resource) if self._keep_raw else b"")
        return b"".join((self._command_line_heads[size], raw, self._resource_heads[size], raw))

    def _file(self, path: str) -> bytes:
        """Most events are about files, so their path is encoded once for all three attributes."""
        raw = path.encode()
        size = len(raw)
        if size > self._limit or not self._keep_raw:
            name = path.rpartition("/")[2]
            encoded = self._file_path(path) + (self._file_name(name) if name else b"")
            return encoded + self._resource(path) if self._keep_raw else encoded
        heads, raw_heads = self._path_heads[size], self._resource_heads[size]
        name_bytes = raw.rpartition(b"/")[2]
        if not name_bytes:
            return b"".join((heads, raw, raw_heads, raw))
        return b"".join((heads, raw, raw_heads, raw, self._name_heads[len(name_bytes)], name_bytes))

    def source(self, role: Role, source: str, parent: str) -> bytes:
        """Source: the command line, but on exec events the parent, which has an attribute of its own already."""
        if not source:
            return b""
        if role is not _COMMAND:
            return self._command_line(source)
        return b"" if source == parent else self._source(source)

    def numbers(self, numbers: tuple[int, int, int, int, int]) -> bytes:
        """HostPID, HostPPID, PID, PPID and UID. 0 means unknown, but for the UID of a known process: that is root."""
        pid, parent_pid, vpid, parent_vpid, user = numbers
        pids, parent_pids, vpids, parent_vpids, users = self._numbers
        if not (0 < pid < FOUR_DIGITS_END and 0 < vpid < FOUR_DIGITS_END):
            who = (users[user] or self._root) if pid else users[user]
            return b"".join((pids[pid], parent_pids[parent_pid], vpids[vpid], parent_vpids[parent_vpid], who))
        # A process is new with most events, its parent and its user are not. This is `varint`, without the calls.
        first = TWO_DIGITS[pid] if pid < TWO_DIGITS_END else TWO_MORE[pid & 0x3FFF] + TWO_DIGITS[pid >> 14]
        third = TWO_DIGITS[vpid] if vpid < TWO_DIGITS_END else TWO_MORE[vpid & 0x3FFF] + TWO_DIGITS[vpid >> 14]
        return b"".join(
            (
                self._pid_heads[len(first)], first, parent_pids[parent_pid],
                self._vpid_heads[len(third)], third, parent_vpids[parent_vpid], users[user] or self._root,
            )
        )  # fmt: skip

    def session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        return self._exec_id(exec_id) + (b"" if low is None else self._session_id(f"{low:08x}"))


WORKLOADS, WORKLOADS_BYTES = 4096, 8 << 20  # 2,000 pods, with room for their successors
OTHERS, OTHERS_BYTES = 2048, 4 << 20
# Data and peers: many are never seen again, and what is small stays in the CPU's cache.
TEXTS, TEXTS_BYTES = 512, 1 << 20

_EVENT = attrgetter("Timestamp", "UpdatedTime", "Source", "Resource", "Data", "ExecEvent.ExecID", "EventData")
_NUMBERS = attrgetter("HostPID", "HostPPID", "PID", "PPID", "UID")
_UINT64 = Struct("<Q").pack
_COMMAND_GROUP, _PARSED = Role.COMMAND, Role.PARSED  # see novelty.py


class RecordEncoder:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, stream: Stream, kind: type[Message], tally: MappingCounts) -> None:
        self._settings = settings
        self._text_body = settings.body == "text"
        self._stream = stream
        self._is_alerts = stream is Stream.ALERTS
        self.salt = str(stream).encode()
        self._tally = tally
        self.cut: list[str] = []
        """Keys of values that had to be cut, until the record says so."""
        self._instant = Instant()
        self._novelty = EventFields(settings, self.cut)
        parts = Parts(settings, stream, kind, fields=FIELDS, cut=self.cut, tally=tally)
        self._fetch_workload, self._fetch_rule = parts.workload.fetch, parts.rule.fetch
        self._fetch_process = parts.process.fetch
        self._workloads: Memo[Any, WorkloadPart] = Memo(
            parts.make_workload, max_entries=WORKLOADS, max_bytes=WORKLOADS_BYTES
        )
        self._rules: Memo[Any, RulePart] = _memo(parts.make_rule)
        self._processes: Memo[Any, ProcessPart] = _memo(parts.make_process)
        self._details: Memo[Any, DetailPart] = Memo(parts.make_detail, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self._touched: Memo[Any, TouchedPart] = Memo(parts.make_touched, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self._recall_workload, self._recall_rule = self._workloads.recall, self._rules.recall
        self._recall_process, self._recall_detail = self._processes.recall, self._details.recall
        self._recall_touched = self._touched.recall
        self._forms: Memo[Any, TemplatePart] = Memo(parts.make_form, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self._recall_form = self._forms.recall
        self._form_words = {form: text_attribute(form.key, settings.max_value_bytes, self.cut) for form in FORMS}
        self._form_texts = {form: text_attribute(form.raw_key, settings.max_value_bytes, self.cut) for form in FORMS}
        self.uid_head = head(RECORD_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._body_heads = body_heads()

    def unix_nano(self, updated: str, timestamp: int) -> int:
        """The time that the two fields tell, or 0."""
        return self._instant.unix_nano(updated, timestamp)

    def second_unix(self, second: bytes) -> int | None:
        """The Unix time of `2006-01-02T15:04:05.`, or None where it is none."""
        instant = self._instant
        text = second.decode("ascii", "replace")
        if not (second.isascii() and text.isprintable()):
            return None
        return instant.second_unix if instant.unix_nano(text + "000001Z", 0) and instant.second == text else None

    def workload(self, message: Any) -> WorkloadPart:
        """Where it happened."""
        key = self._fetch_workload(message)
        return self._recall_workload(key) or self._workloads.learn(key)

    def rule(self, message: Any) -> RulePart:
        """What KubeArmor says about it."""
        key = self._fetch_rule(message)
        return self._recall_rule(key) or self._rules.learn(key)

    def process(self, message: Any) -> ProcessPart:
        """Who did it."""
        key = self._fetch_process(message)
        return self._recall_process(key) or self._processes.learn(key)

    def detail(self, operation: str, data: str) -> DetailPart:
        """How it was seen."""
        key = (operation, data)
        return self._recall_detail(key) or self._details.learn(key)

    def form(self, key: FormKey) -> TemplatePart:
        """How a Network event of a form was seen."""
        return self._recall_form(key) or self._forms.learn(key)

    def map(self, message: Any, received_unix_nano: int, rare: list[Attribute], dropped: int) -> Record:
        """Maps one event.

        Args:
            message: an Alert or a Log.
            received_unix_nano: when the bridge got it.
            rare: attributes that the caller knows of; the list is the lane's to extend.
            dropped: attributes that the caller had to leave out.
        """
        timestamp, updated, source, resource, data, exec_id, event_data = _EVENT(message)
        workload, rule, process = self.workload(message), self.rule(message), self.process(message)
        role, seen, what, known, identifying = self.seen(rule.operation, data, resource)
        novelty = self._novelty
        numbers = novelty.numbers(_NUMBERS(message))
        who = novelty.source(role, source, process.parent)
        session = b"" if exec_id in NO_SESSION else novelty.session(exec_id)

        instant = self._instant
        if updated[:20] == instant.second and updated[26:] == "Z" and (micros := updated[20:26]).isdecimal():
            # Most events: the layout and the second are those of the event before.
            fraction = int(micros)
            unix_nano = instant.second_unix_nano + fraction * MICROSECOND
            odd = not fraction or timestamp != instant.second_unix
        else:
            unix_nano = instant.unix_nano(updated, timestamp)
            odd = unix_nano // SECOND != timestamp or not unix_nano % SECOND
        if odd:
            rare += instant.odd(updated, timestamp, unix_nano)
        # Attributes are length-delimited and digests of one length, so no two events join to the same bytes.
        identity = [
            self.salt, workload.digest, rule.digest, process.digest, _UINT64(unix_nano), identifying, who, numbers,
            session,
        ]  # fmt: skip
        if rare or self.cut:
            identity.append(repr((rare, updated, source, "" if role is _PARSED else resource)).encode())
        keys, texts = known
        if event_data and (len(event_data) != len(keys) or [*map(event_data.get, keys)] != texts):
            entries = new_event_data(event_data.items(), dict(zip(keys, texts, strict=True)))
            pairs, left_out = event_data_attributes(entries)
            rare += pairs
            dropped += left_out
            identity.append(repr(entries).encode() if entries else b"")

        parts = [
            times(unix_nano, received_unix_nano), rule.head, workload.attributes, rule.attributes, process.attributes,
            seen, what, who, numbers, session, self.uid_head, uid(b"".join(identity)),
            self._line((workload, rule, process), role, resource or data, source)
            if self._text_body
            else self._other_body(message),
        ]  # fmt: skip
        if session and self._settings.exec_session_trace:
            parts.append(trace_context(workload.container, exec_id, message.HostPID))
        if rare or dropped or self.cut or self._settings.keep_original:
            parts.append(self._rest(message, rare, dropped))
        tally = self._tally
        tally.nodes[workload.node] = received_unix_nano
        if self._is_alerts:
            counts, namespace = rule.counts, workload.namespace
            if namespace in counts:
                counts[namespace] += 1
            else:
                tally.count_alert(namespace, rule.kind)
        return tuple.__new__(Record, (self._stream, workload.resource, b"".join(parts), unix_nano))  # see decode.py

    def seen(self, operation: str, data: str, resource: str) -> tuple[Role, bytes, bytes, Known, bytes]:
        """How it was seen, and what was touched.

        Returns:
            The part that Resource plays, the attributes from Data, those from Resource, the EventData that says nothing
            new, and what identifies the two.
        """
        if operation == NETWORK and self._settings.keep_raw:
            found = find(data, resource)
            if found is not None:
                form = found.key[0]
                part = self.form(found.key)
                word = self._form_words[form](found.word)
                keys, texts = part.known
                what = word + self._form_texts[form](found.text)
                return _PARSED, part.attributes, what, (keys, [*texts, found.word]), part.digest + word
        detail = self.detail(operation, data)
        if detail.role is not _PARSED:
            what = self._novelty.resource(detail.role, resource)
            return detail.role, detail.attributes, what, detail.known, detail.digest + what
        pair = (operation, data, resource)
        touched = self._recall_touched(pair) or self._touched.learn(pair, detail)
        return _PARSED, detail.attributes, touched.attributes, touched.known, detail.digest + touched.digest

    def _line(self, parts: tuple[WorkloadPart, RulePart, ProcessPart], role: Role, what: str, source: str) -> bytes:
        """The body as one line. The parts' words are printable already; what is new with this event is made so."""
        workload, rule, process = parts
        if not what.isprintable():
            what = one_line(what)
        by = process.by_parent if role is _COMMAND_GROUP else process.by_executable
        limit = self._settings.max_body_bytes
        if not by and source:
            by = f" by {one_line(source[:limit])}".encode()
        raw = b"".join((rule.before, what.encode(), by, workload.where, rule.after))
        if len(raw) > limit:
            after = b"".join((by, workload.where, rule.after))
            raw = sentence(rule.before.decode(), what, after.decode(), limit).encode()
        return self._body_heads[len(raw)] + raw

    def _other_body(self, message: Message) -> bytes:
        limit = self._settings.max_value_bytes
        content = as_map(message, limit) if self._settings.body == "map" else as_json(message, limit)
        return delimited(BODY, any_value(content))

    def _rest(self, message: Message, rare: list[Attribute], dropped: int) -> bytes:
        """Whatever most events do not have: rare attributes, and the confession that something was cut."""
        if self._settings.keep_original:
            rare = [*rare, ("log.record.original", as_json(message, self._settings.max_value_bytes))]
        encoded = attributes(RECORD_ATTRIBUTE, rare, MAX_RARE_BYTES, self.cut)
        if not self.cut and not dropped:
            return encoded
        self._tally.truncated += 1
        return encoded + tail(self.cut, dropped)


def _memo(make: Callable[..., V]) -> Memo[Any, V]:
    return Memo(make, max_entries=OTHERS, max_bytes=OTHERS_BYTES)
