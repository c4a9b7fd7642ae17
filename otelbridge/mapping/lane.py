"""The hot path: an alert or a log in, its record out, joined from what is remembered and what is new in it.

Every event passes here. Some 45 fields are fetched by five calls; three quarters of the attributes come encoded from
memory (`parts.py` works them out); only numbers, command lines, paths, time and id are encoded anew (`novelty.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from struct import Struct
from typing import Any

from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.mapping.body import as_json, as_map, one_line, sentence
from otelbridge.mapping.detail import Role
from otelbridge.mapping.fields import FIELDS
from otelbridge.mapping.forms import FORMS, NETWORK, FormKey, find
from otelbridge.mapping.identity import UID_BYTES, uid
from otelbridge.mapping.instant import MICROSECOND, SECOND, Instant
from otelbridge.mapping.leftovers import event_data_attributes, new_event_data
from otelbridge.mapping.memo import Memo, V
from otelbridge.mapping.novelty import Novelty
from otelbridge.mapping.parts import Parts
from otelbridge.mapping.plain import MAX_RARE_BYTES, tail, times
from otelbridge.mapping.remembered import (
    DetailPart,
    FormPart,
    Known,
    ProcessPart,
    RulePart,
    TouchedPart,
    WorkloadPart,
)
from otelbridge.mapping.request import Record
from otelbridge.mapping.session import NO_SESSION, trace_context
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.tally import Tally
from otelbridge.mapping.wire import (
    BODY,
    RECORD_ATTRIBUTE,
    Attribute,
    any_value,
    attributes,
    body_heads,
    delimited,
    head,
    text_attribute,
)

WORKLOADS, WORKLOADS_BYTES = 4096, 8 << 20  # 2,000 pods, with room for their successors
OTHERS, OTHERS_BYTES = 2048, 4 << 20
# Data and peers: many are never seen again, and what is small stays in the CPU's cache.
TEXTS, TEXTS_BYTES = 512, 1 << 20

_EVENT = attrgetter("Timestamp", "UpdatedTime", "Source", "Resource", "Data", "ExecEvent.ExecID", "EventData")
_NUMBERS = attrgetter("HostPID", "HostPPID", "PID", "PPID", "UID")
_UINT64 = Struct("<Q").pack
_COMMAND, _PARSED = Role.COMMAND, Role.PARSED  # see novelty.py


class Lane:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, stream: Stream, kind: type[Message], tally: Tally) -> None:
        self._settings = settings
        self._text_body = settings.body == "text"
        self._stream = stream
        self._is_alerts = stream is Stream.ALERTS
        self.salt = str(stream).encode()
        self._tally = tally
        self.cut: list[str] = []
        """Keys of values that had to be cut, until the record says so."""
        self._instant = Instant()
        self._novelty = Novelty(settings, self.cut)
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
        self._forms: Memo[Any, FormPart] = Memo(parts.make_form, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
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

    def form(self, key: FormKey) -> FormPart:
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
        by = process.by_parent if role is _COMMAND else process.by_executable
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
