"""Encodes an alert or a log as a LogRecord, joined from what is remembered of its groups and what is new in it.

This is the reference: `fastpath.pyx` does the same for usual events, compiled, from the same plan (`record_plan.py`).
Three quarters of the attributes come encoded from memory (`parts.py` works them out); only numbers, command lines,
paths, time and id are encoded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any, TypeAlias

from google.protobuf.message import Message

from otelbridge.event import MAX_PARSED_CHARS, Stream
from otelbridge.mapping.decode import as_json, as_map
from otelbridge.mapping.details import (
    NETWORK,
    TEMPLATES,
    UINT32,
    event_data_attributes,
    find,
    without_remote_host,
)
from otelbridge.mapping.fields import FIELDS
from otelbridge.mapping.model import (
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
from otelbridge.mapping.parts import NO_SESSION, UID_BYTES, Parts, low_half, uid
from otelbridge.mapping.record_plan import (
    COMMAND,
    IDENTITY_NUMBERS,
    IDENTITY_TEXTS,
    NUMBER_KEYS,
    ORDER,
    PARENT_KEY,
    PARSED,
    RAW_RESOURCE,
    RESOURCE_KEYS,
    SOURCE_KEY,
)
from otelbridge.mapping.request import Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import (
    BODY,
    MAX_RARE_BYTES,
    RECORD_ATTRIBUTE,
    Attribute,
    IntAttributes,
    any_value,
    attributes,
    body_heads,
    clip,
    delimited,
    head,
    one_line,
    tail,
    text_attribute,
    text_heads,
    times,
)

WORKLOADS, WORKLOADS_BYTES = 4096, 8 << 20  # 2,000 pods, with room for their successors
OTHERS, OTHERS_BYTES = 2048, 4 << 20
# Data and peers: many are never seen again, and what is small stays in the CPU's cache.
TEXTS, TEXTS_BYTES = 512, 1 << 20
NOTHING_SAID = {Stream.ALERTS: b"An alert that says nothing.", Stream.LOGS: b"A log that says nothing."}
ELLIPSIS = "…"
MIN_SUBJECT_BYTES = 32  # of what was touched, even where the words around it are long

_in_order = itemgetter(*ORDER)
_numbers_of = attrgetter(*IDENTITY_NUMBERS)
_texts_of = attrgetter(*IDENTITY_TEXTS, "EventData")
_identity_numbers = Struct(f"<{len(IDENTITY_NUMBERS)}q").pack
_identity_sizes = Struct(f"<{len(IDENTITY_TEXTS)}I").pack

Groups: TypeAlias = tuple[WorkloadPart, RulePart, ProcessPart]
"""What is remembered of an event's groups of fields. Plain tuples: to make a named one takes 0.4 µs more."""
Seen: TypeAlias = tuple[str, bytes, bytes, Known]
"""The role that Resource plays, attributes from Data, those from Resource, and the EventData that says nothing new."""


class RecordEncoder:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, stream: Stream, kind: type[Message], tally: MappingCounts) -> None:
        self._settings = settings
        self.stream = stream
        self.salt = str(stream).encode()
        self._tally = tally
        self.cut: list[str] = []
        """Keys of values that had to be cut, until the record says so."""
        self.instant = Instant()
        self.parts = parts = Parts(settings, stream, kind, fields=FIELDS, cut=self.cut, tally=tally)
        self._workloads: Memo[Any, WorkloadPart] = _memo(parts.make_workload, WORKLOADS, WORKLOADS_BYTES)
        self._rules: Memo[Any, RulePart] = _memo(parts.make_rule, OTHERS, OTHERS_BYTES)
        self._processes: Memo[Any, ProcessPart] = _memo(parts.make_process, OTHERS, OTHERS_BYTES)
        self._details: Memo[Any, DetailPart] = _memo(parts.make_detail, TEXTS, TEXTS_BYTES)
        self._touched: Memo[Any, TouchedPart] = _memo(parts.make_touched, TEXTS, TEXTS_BYTES)
        self._templates: Memo[Any, TemplatePart] = _memo(parts.make_template, TEXTS, TEXTS_BYTES)
        self.uid_head = head(RECORD_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._body_heads = body_heads()

        def text(key: str) -> Callable[[str], bytes]:
            return text_attribute(key, settings.max_value_bytes, self.cut)

        self._words = {template: (text(template.key), text(template.raw_key)) for template in TEMPLATES}
        self._resource = {
            role: [
                (text_heads(key), text(key), last_name)
                for key, last_name in keys
                if settings.keep_raw or key != RAW_RESOURCE or len(keys) == 1
            ]
            for role, keys in RESOURCE_KEYS.items()
        }
        self._source, self._parent = text(SOURCE_KEY), text(PARENT_KEY)
        self._exec_id, self._session_id = text("kubearmor.exec.id"), text("kubearmor.exec.session_id")
        self._numbers = tuple(IntAttributes(key) for key in NUMBER_KEYS.values())
        self._root = attributes(RECORD_ATTRIBUTE, [(NUMBER_KEYS["UID"], 0)], settings.max_value_bytes, [])

    def map(
        self,
        message: Any,
        received_unix_nano: int,
        rare: list[Attribute],
        dropped: int = 0,
        *,
        marks: str = "",
        event_uid: bytes = b"",
    ) -> Record:
        """Maps one event.

        Args:
            message: an Alert or a Log.
            received_unix_nano: when the bridge got it.
            rare: attributes that the caller knows of; the list is the encoder's to extend.
            dropped: attributes that the caller had to leave out.
            marks: what else tells the event from others.
            event_uid: its `uid`, where the message was changed since it was received.
        """
        groups = workload, rule, process = self._groups(message)
        numbers, texts = _numbers_of(message), _texts_of(message)
        updated, source, resource, data, exec_id, event_data = texts
        role, detail, touched, known = self._seen(rule.operation, data, resource)
        entries = _new_entries(event_data, known) if event_data else []
        unix_nano = self.instant.unix_nano(updated, numbers[0])
        if unix_nano // SECOND != numbers[0] or not unix_nano % SECOND:
            rare += self.instant.odd(updated, numbers[0], unix_nano)
        # Without the raw texts EventData is the only place left for what is not parsed, so all of it is kept.
        told = entries if self._settings.keep_raw else sorted(event_data.items())
        if told:
            rare += event_data_attributes(told)
        if self._settings.body == "text":
            body = self._line(groups, role, resource or data, source)
        else:
            body = self._structured_body(message)
        found = {
            "times": times(unix_nano, received_unix_nano),
            "head": rule.head,
            "workload": workload.attributes,
            "rule": rule.attributes,
            "process": process.attributes,
            "detail": detail,
            "resource": touched,
            "source": self._encode_source(role, source, process.parent) if source else b"",
            "numbers": self.encode_numbers(numbers),
            "session": b"" if exec_id in NO_SESSION else self._encode_session(exec_id),
            "uid": self.uid_head + (event_uid or self._uid(groups, numbers, texts, entries, marks)),
            "body": body,
            "rest": b"",
        }
        if rare or dropped or self.cut or self._settings.keep_original:  # the last: it tells of all that was cut
            found["rest"] = self._rest(message, rare, dropped)
        self._tally.nodes[workload.node] = received_unix_nano
        if self._tally.keeps_last:
            self._tally.last = (workload.node, workload.workload, rule.kind)
        if self.stream is Stream.ALERTS:
            self._tally.count_alert(workload.workload, rule.kind)
        return Record(self.stream, workload.resource, b"".join(_in_order(found)), unix_nano)

    def uid(self, message: Any, marks: str = "") -> bytes:
        """`log.record.uid` of an event as it is now, for whoever is about to change it."""
        groups, texts = self._groups(message), _texts_of(message)
        _, _, resource, data, _, event_data = texts
        *_, known = self._seen(groups[1].operation, data, resource)
        self.cut.clear()
        return self._uid(groups, _numbers_of(message), texts, _new_entries(event_data, known), marks)

    def _groups(self, message: Any) -> Groups:
        parts, workloads, rules, processes = self.parts, self._workloads, self._rules, self._processes
        where, what, who = parts.workload.fetch(message), parts.rule.fetch(message), parts.process.fetch(message)
        return (
            workloads.recall(where) or workloads.learn(where),
            rules.recall(what) or rules.learn(what),
            processes.recall(who) or processes.learn(who),
        )

    def _seen(self, operation: str, data: str, resource: str) -> Seen:
        data, resource = data[:MAX_PARSED_CHARS], resource[:MAX_PARSED_CHARS]
        if operation == NETWORK and self._settings.keep_raw and (found := find(data, resource)) is not None:
            part = self._templates.recall(found.key) or self._templates.learn(found.key)
            (keys, texts), (word, whole) = part.known, self._words[found.key[0]]
            return PARSED, part.attributes, word(found.word) + whole(found.text), (keys, [*texts, found.word])
        key = (operation, data)
        detail = self._details.recall(key) or self._details.learn(key)
        if detail.role != PARSED:
            return detail.role, detail.attributes, self._encode_resource(detail.role, resource), detail.known
        pair = (operation, data, resource)
        both = self._touched.recall(pair) or self._touched.learn(pair, detail)
        return PARSED, detail.attributes, both.attributes, both.known

    def _uid(
        self,
        groups: Groups,
        numbers: tuple[int, ...],
        texts: tuple[Any, ...],
        entries: list[tuple[str, str]],
        marks: str,
    ) -> bytes:
        """Numbers are of one length and texts say theirs, so no two events join to the same bytes."""
        workload, rule, process = groups
        updated, source, resource, data, exec_id, _ = texts
        if rule.operation == NETWORK:
            resource = without_remote_host(resource)
        session = "" if exec_id in NO_SESSION else exec_id
        raw = [text.encode() for text in (updated, source, resource, data, session)]
        sizes = _identity_sizes(*map(len, raw))
        unusual = repr((entries, marks)).encode() if entries or marks else b""
        digests = (workload.digest, rule.digest, process.digest)
        return uid(b"".join([self.salt, *digests, _identity_numbers(*numbers), sizes, *raw, unusual]))

    # --- what is new with every event ---

    def _encode_resource(self, role: str, resource: str) -> bytes:
        """Resource by the role that it plays, and raw."""
        if not resource:
            return b""
        raw = resource.encode()
        if len(raw) > self._settings.max_value_bytes:
            pieces = (resource, resource.rpartition("/")[2])
            return b"".join([cut(pieces[last]) for _, cut, last in self._resource[role] if pieces[last]])
        found = (raw, raw.rpartition(b"/")[2])
        return b"".join([heads[len(text)] + text for heads, _, last in self._resource[role] if (text := found[last])])

    def _encode_source(self, role: str, source: str, parent: str) -> bytes:
        """Source: the command line, but on exec events the parent, which has an attribute of its own already."""
        if role != COMMAND:
            return self._source(source)
        return b"" if source == parent else self._parent(source)

    def encode_numbers(self, numbers: tuple[int, ...]) -> bytes:
        """HostPID, HostPPID, PID, PPID and UID, which is unsigned in the kernel and signed in the proto."""
        _, pid, parent_pid, vpid, parent_vpid, user = numbers
        pids, parent_pids, vpids, parent_vpids, users = self._numbers
        who = self._root if pid and not user else users[user & UINT32]
        return b"".join((pids[pid], parent_pids[parent_pid], vpids[vpid], parent_vpids[parent_vpid], who))

    def _encode_session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        return self._exec_id(exec_id) + (b"" if low is None else self._session_id(f"{low:08x}"))

    def _line(self, groups: Groups, role: str, what: str, source: str) -> bytes:
        """The body as one line. The parts' words are printable already; what is new with this event is made so."""
        workload, rule, process = groups
        by = process.by_parent if role == COMMAND else process.by_executable
        limit = self._settings.max_body_bytes
        if len(what) > limit:
            what = what[: limit + 1]
        if not what.isprintable():
            what = one_line(what)
        if not by and source:
            by = f" by {one_line(source[:limit])}".encode()
        after = b"".join((by, workload.where, rule.after))
        before = rule.before
        if not what:
            before = before.rstrip()
            after = after if before else after.lstrip() or NOTHING_SAID[self.stream]
        raw = b"".join((before, what.encode(), after))
        if len(raw) > limit:
            raw = sentence(before.decode(), what, after.decode(), limit).encode()
        return self._body_heads[len(raw)] + raw

    def _structured_body(self, message: Message) -> bytes:
        limit = self._settings.max_value_bytes
        content = as_map(message, limit) if self._settings.body == "map" else as_json(message, limit)
        return delimited(BODY, any_value(content))

    def _rest(self, message: Message, rare: list[Attribute], dropped: int) -> bytes:
        """Whatever most events do not have: rare attributes, and the keys of what was cut."""
        if self._settings.keep_original:
            rare = [*rare, ("log.record.original", as_json(message, self._settings.max_value_bytes))]
        encoded = attributes(RECORD_ATTRIBUTE, rare, MAX_RARE_BYTES, self.cut)
        if not self.cut and not dropped:
            return encoded
        self._tally.truncated += 1
        return encoded + tail(self.cut, dropped)


def sentence(before: str, touched: str, after: str, limit_bytes: int) -> str:
    """One line; where it is too long, what was touched is shortened, so that the outcome stays in sight."""
    whole = before + touched + after
    if len(whole.encode()) <= limit_bytes:
        return whole
    room = limit_bytes - len((before + ELLIPSIS + after).encode())
    if room < MIN_SUBJECT_BYTES:
        return clip(whole, limit_bytes - len(ELLIPSIS.encode())) + ELLIPSIS
    return before + clip(touched, room) + ELLIPSIS + after


def _new_entries(event_data: Mapping[str, str], known: Known) -> list[tuple[str, str]]:
    """The EventData that Data and Resource do not tell, sorted: Go writes maps in random order."""
    keys, texts = known
    if len(event_data) == len(keys) and [*map(event_data.get, keys)] == texts:
        return []
    told = dict(zip(keys, texts, strict=True))
    return sorted((key, text) for key, text in event_data.items() if told.get(key) != text)


def _memo(make: Callable[..., V], entries: int, size_bytes: int) -> Memo[Any, V]:
    return Memo(make, max_entries=entries, max_bytes=size_bytes)
