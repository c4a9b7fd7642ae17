"""Encodes an alert or a log as a LogRecord, joined from what is remembered of its groups and what is new in it.

This is the reference: `fastpath.pyx` does the same for usual events, compiled, from the same plan (`record_plan.py`).
Three quarters of the attributes come encoded from memory (`parts.py` works them out); only numbers, command lines,
paths, time and id are encoded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any, NamedTuple

from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.mapping.decode import as_json, as_map
from otelbridge.mapping.details import (
    NETWORK,
    TEMPLATES,
    UINT32,
    TemplateKey,
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
    IDENTITY_GROUPS,
    IDENTITY_NUMBERS,
    IDENTITY_TEXTS,
    NUMBER_KEYS,
    ORDER,
    PARENT_KEY,
    RAW_RESOURCE,
    RESOURCE_KEYS,
    SOURCE_KEY,
    Piece,
    Role,
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

_in_order = itemgetter(*ORDER)
_groups_of = attrgetter(*(f"{group}.digest" for group in IDENTITY_GROUPS))
_numbers_of = attrgetter(*IDENTITY_NUMBERS)
_texts_of = attrgetter(*IDENTITY_TEXTS, "EventData")
_identity_numbers = Struct(f"<{len(IDENTITY_NUMBERS)}q").pack
_identity_sizes = Struct(f"<{len(IDENTITY_TEXTS)}I").pack
# A member of an Enum takes 0.16 µs each time it is looked up by its name (Python 3.11).
_COMMAND, _PARSED = Role.COMMAND, Role.PARSED


class Groups(NamedTuple):
    """What is remembered of an event's groups of fields."""

    workload: WorkloadPart
    rule: RulePart
    process: ProcessPart


class Seen(NamedTuple):
    """How an event was seen, and what was touched."""

    role: Role
    """The part that Resource plays."""
    detail: bytes
    """Attributes from Data."""
    resource: bytes
    """Attributes from Resource."""
    known: Known
    """The EventData that says nothing new."""


class RecordEncoder:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, settings: MappingSettings, stream: Stream, kind: type[Message], tally: MappingCounts) -> None:
        self._settings = settings
        self.stream = stream
        self.salt = str(stream).encode()
        self._tally = tally
        self.cut: list[str] = []
        """Keys of values that had to be cut, until the record says so."""
        self._instant = Instant()
        self._event_fields = EventFields(settings, self.cut)
        parts = Parts(settings, stream, kind, fields=FIELDS, cut=self.cut, tally=tally)
        self._fetch_workload, self._fetch_rule = parts.workload.fetch, parts.rule.fetch
        self._fetch_process = parts.process.fetch
        self._workloads: Memo[Any, WorkloadPart] = _memo(parts.make_workload, WORKLOADS, WORKLOADS_BYTES)
        self._rules: Memo[Any, RulePart] = _memo(parts.make_rule, OTHERS, OTHERS_BYTES)
        self._processes: Memo[Any, ProcessPart] = _memo(parts.make_process, OTHERS, OTHERS_BYTES)
        self._details: Memo[Any, DetailPart] = _memo(parts.make_detail, TEXTS, TEXTS_BYTES)
        self._touched: Memo[Any, TouchedPart] = _memo(parts.make_touched, TEXTS, TEXTS_BYTES)
        self._templates: Memo[Any, TemplatePart] = _memo(parts.make_template, TEXTS, TEXTS_BYTES)
        limit = settings.max_value_bytes
        self._words = {template: text_attribute(template.key, limit, self.cut) for template in TEMPLATES}
        self._raw_texts = {template: text_attribute(template.raw_key, limit, self.cut) for template in TEMPLATES}
        self.uid_head = head(RECORD_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._body_heads = body_heads()

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
        groups = workload, rule, process = self.groups(message)
        numbers, texts = _numbers_of(message), _texts_of(message)
        updated, source, resource, data, exec_id, event_data = texts
        role, detail, touched, known = self.seen(rule.operation, data, resource)
        entries = _new_entries(event_data, known)
        encode = self._event_fields
        unix_nano = self._instant.unix_nano(updated, numbers[0])
        if unix_nano // SECOND != numbers[0] or not unix_nano % SECOND:
            rare += self._instant.odd(updated, numbers[0], unix_nano)
        # Without the raw texts EventData is the only place left for what is not parsed, so all of it is kept.
        told = entries if self._settings.keep_raw else sorted(event_data.items())
        if told:
            rare += event_data_attributes(told)
        found = {
            "times": times(unix_nano, received_unix_nano),
            "head": rule.head,
            "workload": workload.attributes,
            "rule": rule.attributes,
            "process": process.attributes,
            "detail": detail,
            "resource": touched,
            "source": encode.source(role, source, process.parent),
            "numbers": encode.numbers(numbers[1:]),
            "session": b"" if exec_id in NO_SESSION else encode.session(exec_id),
            "uid": self.uid_head + (event_uid or self._uid(groups, numbers, texts, entries, marks)),
            "body": self._body(message, groups, role, resource or data, source),
        }
        found["rest"] = self._rest(message, rare, dropped)  # the last: it tells of all that was cut
        self._count(workload, rule, received_unix_nano)
        return Record(self.stream, workload.resource, b"".join(_in_order(found)), unix_nano)

    def uid(self, message: Any, marks: str = "") -> bytes:
        """`log.record.uid` of an event as it is now, for whoever is about to change it."""
        groups, texts = self.groups(message), _texts_of(message)
        _, _, resource, data, _, event_data = texts
        entries = _new_entries(event_data, self.seen(groups.rule.operation, data, resource).known)
        self.cut.clear()
        return self._uid(groups, _numbers_of(message), texts, entries, marks)

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

    def groups(self, message: Any) -> Groups:
        """What is known of the event's groups of fields."""
        return Groups(self.workload(message), self.rule(message), self.process(message))

    def workload(self, message: Any) -> WorkloadPart:
        """Where it happened."""
        key = self._fetch_workload(message)
        return self._workloads.recall(key) or self._workloads.learn(key)

    def rule(self, message: Any) -> RulePart:
        """What KubeArmor says about it."""
        key = self._fetch_rule(message)
        return self._rules.recall(key) or self._rules.learn(key)

    def process(self, message: Any) -> ProcessPart:
        """Who did it."""
        key = self._fetch_process(message)
        return self._processes.recall(key) or self._processes.learn(key)

    def detail(self, operation: str, data: str) -> DetailPart:
        """How it was seen."""
        key = (operation, data)
        return self._details.recall(key) or self._details.learn(key)

    def template(self, key: TemplateKey) -> TemplatePart:
        """How a Network event of a template was seen."""
        return self._templates.recall(key) or self._templates.learn(key)

    def seen(self, operation: str, data: str, resource: str) -> Seen:
        """How it was seen, and what was touched."""
        if operation == NETWORK and self._settings.keep_raw and (found := find(data, resource)) is not None:
            template = found.key[0]
            part = self.template(found.key)
            keys, texts = part.known
            touched = self._words[template](found.word) + self._raw_texts[template](found.text)
            return Seen(_PARSED, part.attributes, touched, (keys, [*texts, found.word]))
        detail = self.detail(operation, data)
        if detail.role is not _PARSED:
            return Seen(
                detail.role, detail.attributes, self._event_fields.resource(detail.role, resource), detail.known
            )
        pair = (operation, data, resource)
        both = self._touched.recall(pair) or self._touched.learn(pair, detail)
        return Seen(_PARSED, detail.attributes, both.attributes, both.known)

    def _uid(
        self,
        groups: Groups,
        numbers: tuple[int, ...],
        texts: tuple[Any, ...],
        entries: list[tuple[str, str]],
        marks: str,
    ) -> bytes:
        """Numbers are of one length and texts say theirs, so no two events join to the same bytes."""
        updated, source, resource, data, exec_id, _ = texts
        if groups.rule.operation == NETWORK:
            resource = without_remote_host(resource)
        session = "" if exec_id in NO_SESSION else exec_id
        raw = [*map(str.encode, (updated, source, resource, data, session))]
        unusual = repr((entries, marks)).encode() if entries or marks else b""
        sizes = _identity_sizes(*map(len, raw))
        return uid(b"".join([self.salt, *_groups_of(groups), _identity_numbers(*numbers), sizes, *raw, unusual]))

    def _body(self, message: Message, groups: Groups, role: Role, what: str, source: str) -> bytes:
        if self._settings.body == "text":
            return self._line(groups, role, what, source)
        limit = self._settings.max_value_bytes
        content = as_map(message, limit) if self._settings.body == "map" else as_json(message, limit)
        return delimited(BODY, any_value(content))

    def _line(self, groups: Groups, role: Role, what: str, source: str) -> bytes:
        """The body as one line. The parts' words are printable already; what is new with this event is made so."""
        workload, rule, process = groups
        if not what.isprintable():
            what = one_line(what)
        by = process.by_parent if role is _COMMAND else process.by_executable
        limit = self._settings.max_body_bytes
        if not by and source:
            by = f" by {one_line(source[:limit])}".encode()
        after = b"".join((by, workload.where, rule.after))
        raw = b"".join((rule.before, what.encode(), after))
        if len(raw) > limit:
            raw = sentence(rule.before.decode(), what, after.decode(), limit).encode()
        return self._body_heads[len(raw)] + raw

    def _rest(self, message: Message, rare: list[Attribute], dropped: int) -> bytes:
        """Whatever most events do not have: rare attributes, and the keys of what was cut."""
        if self._settings.keep_original:
            rare = [*rare, ("log.record.original", as_json(message, self._settings.max_value_bytes))]
        encoded = attributes(RECORD_ATTRIBUTE, rare, MAX_RARE_BYTES, self.cut) if rare else b""
        if not self.cut and not dropped:
            return encoded
        self._tally.truncated += 1
        return encoded + tail(self.cut, dropped)

    def _count(self, workload: WorkloadPart, rule: RulePart, received_unix_nano: int) -> None:
        self._tally.nodes[workload.node] = received_unix_nano
        if self.stream is not Stream.ALERTS:
            return
        counts = rule.counts
        if workload.workload in counts:
            counts[workload.workload] += 1
        else:
            self._tally.count_alert(workload.workload, rule.kind)


ELLIPSIS = "…"
MIN_SUBJECT_BYTES = 32  # of what was touched, even where the words around it are long


def sentence(before: str, touched: str, after: str, limit_bytes: int) -> str:
    """One line; where it is too long, what was touched is shortened, so that the outcome stays in sight."""
    whole = before + touched + after
    if len(whole.encode()) <= limit_bytes:
        return whole
    room = limit_bytes - len((before + ELLIPSIS + after).encode())
    if room < MIN_SUBJECT_BYTES:
        return clip(whole, limit_bytes - len(ELLIPSIS.encode())) + ELLIPSIS
    return before + clip(touched, room) + ELLIPSIS + after


class EventFields:
    """Encoders for the fields of the group `event`. Keys of values that had to be cut are appended to `cut`."""

    def __init__(self, settings: MappingSettings, cut: list[str]) -> None:
        def text(key: str) -> Callable[[str], bytes]:
            return text_attribute(key, settings.max_value_bytes, cut)

        self._limit = settings.max_value_bytes
        self._resource = {
            role: [
                (text_heads(key), text(key), piece is Piece.LAST_NAME)
                for key, piece in keys
                if settings.keep_raw or key != RAW_RESOURCE or len(keys) == 1
            ]
            for role, keys in RESOURCE_KEYS.items()
        }
        self._source, self._parent = text(SOURCE_KEY), text(PARENT_KEY)
        self._exec_id, self._session_id = text("kubearmor.exec.id"), text("kubearmor.exec.session_id")
        self._numbers = tuple(IntAttributes(key) for key in NUMBER_KEYS.values())
        self._root = attributes(RECORD_ATTRIBUTE, [(NUMBER_KEYS["UID"], 0)], settings.max_value_bytes, [])

    def resource(self, role: Role, resource: str) -> bytes:
        """Resource by the role that it plays, and raw."""
        if not resource:
            return b""
        raw = resource.encode()
        if len(raw) > self._limit:
            pieces = (resource, resource.rpartition("/")[2])
            return b"".join([cut(pieces[is_name]) for _, cut, is_name in self._resource[role] if pieces[is_name]])
        found = (raw, raw.rpartition(b"/")[2])
        return b"".join([heads[len(text)] + text for heads, _, last in self._resource[role] if (text := found[last])])

    def source(self, role: Role, source: str, parent: str) -> bytes:
        """Source: the command line, but on exec events the parent, which has an attribute of its own already."""
        if not source:
            return b""
        if role is not _COMMAND:
            return self._source(source)
        return b"" if source == parent else self._parent(source)

    def numbers(self, numbers: tuple[int, ...]) -> bytes:
        """HostPID, HostPPID, PID, PPID and UID, which is unsigned in the kernel and signed in the proto."""
        pid, parent_pid, vpid, parent_vpid, user = numbers
        pids, parent_pids, vpids, parent_vpids, users = self._numbers
        who = self._root if pid and not user else users[user & UINT32]
        return b"".join((pids[pid], parent_pids[parent_pid], vpids[vpid], parent_vpids[parent_vpid], who))

    def session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        return self._exec_id(exec_id) + (b"" if low is None else self._session_id(f"{low:08x}"))


def new_event_data(event_data: Iterable[tuple[str, str]], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """The entries that Data and Resource do not tell, sorted: Go writes maps in random order."""
    return sorted((key, text) for key, text in event_data if known.get(key) != text)


def _new_entries(event_data: Mapping[str, str], known: Known) -> list[tuple[str, str]]:
    keys, texts = known
    if not event_data or (len(event_data) == len(keys) and [*map(event_data.get, keys)] == texts):
        return []
    return new_event_data(event_data.items(), dict(zip(keys, texts, strict=True)))


def _memo(make: Callable[..., V], entries: int, size_bytes: int) -> Memo[Any, V]:
    return Memo(make, max_entries=entries, max_bytes=size_bytes)
