"""Encodes an alert or a log as a LogRecord, joined from what is remembered of its groups and what is new in it.

This is the reference: `fastpath.pyx` does the same for usual events, compiled, from the same plan (`fields.py`).
Three quarters of the attributes come encoded from memory (`parts.py` works them out); only numbers, command lines,
paths, time and id are encoded anew.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any, TypeAlias

from google.protobuf.message import Message

from otelbridge.event import MAX_PARSED_CHARS, NANOSECONDS, Stream
from otelbridge.mapping.decode import as_json, as_map
from otelbridge.mapping.details import (
    NETWORK,
    REMOTE_HOST,
    TEMPLATES,
    UINT32,
    event_data_attributes,
    find,
)
from otelbridge.mapping.fields import (
    COMMAND,
    FIELDS,
    IDENTITY_NUMBERS,
    IDENTITY_TEXTS,
    NUMBER_KEYS,
    ORDER,
    PARENT_KEY,
    PARSED,
    RAW_RESOURCE,
    RESOURCE_KEYS,
    SOURCE_KEY,
    Group,
)
from otelbridge.mapping.model import (
    Instant,
    Known,
    Memo,
    ProcessPart,
    RulePart,
    WorkloadPart,
)
from otelbridge.mapping.parts import NO_SESSION, UID_BYTES, Key, Parts, low_half, shape, uid
from otelbridge.mapping.wire import (
    BODY,
    MAX_RARE_BYTES,
    RECORD_ATTRIBUTE,
    UINT64,
    Attribute,
    Heads,
    Record,
    any_value,
    attributes,
    body_heads,
    clip,
    head,
    int_heads,
    one_line,
    tail,
    times,
)
from otelbridge.protobuf import delimited, varint

OTHERS, OTHERS_BYTES = 2048, 4 << 20
NUMBERS = 512  # of one key: parents and users come back
NOTHING_SAID = {Stream.ALERTS: b"An alert that says nothing.", Stream.LOGS: b"A log that says nothing."}
ELLIPSIS = "…"
MIN_SUBJECT_BYTES = 32  # of what was touched, even where the words around it are long

_MADE = (
    "times", "head", "workload", "rule", "process", "detail", "resource", "source", "numbers", "session", "body",
    "rest", "uid",
)  # fmt: skip
_REMOTE_HOST = REMOTE_HOST.encode()
_in_order = itemgetter(*map(_MADE.index, ORDER))
_numbers_of = attrgetter(*IDENTITY_NUMBERS)
_texts_of = attrgetter(*IDENTITY_TEXTS, "EventData")
_identity = Struct(f"<{len(IDENTITY_NUMBERS)}q{len(IDENTITY_TEXTS)}I").pack
"""Numbers are of one length and texts say theirs, so no two events join to the same bytes."""

Raw: TypeAlias = tuple[bytes, bytes, bytes, bytes, bytes]
"""IDENTITY_TEXTS in UTF-8; the last one is empty where it says nothing."""
Groups: TypeAlias = tuple[WorkloadPart, RulePart, ProcessPart]
"""What is remembered of an event's groups of fields. Plain tuples: to make a named one takes 0.4 µs more."""
Entries: TypeAlias = list[tuple[str, str]]
"""The EventData that Data and Resource do not tell, sorted."""
Seen: TypeAlias = tuple[str, bytes, bytes, Known]
"""The role that Resource plays, attributes from Data, those from Resource, and the EventData that says nothing new."""


TextKeys: TypeAlias = tuple[tuple[str, ...], Heads[tuple[bytes, ...]]]
"""Attributes that hold the same text, and what stands before it in each; behind the last one, nothing."""


def _text_keys(*keys: str) -> TextKeys:
    return keys, Heads(lambda size: (*[head(RECORD_ATTRIBUTE, key, size) for key in keys], b""))


class RecordEncoder:
    """Maps the events of one stream. Not thread-safe: it belongs to the encoder's thread."""

    def __init__(self, stream: Stream, kind: type[Message], parts: Parts) -> None:
        self._settings, self._tally, self._cut = parts.settings, parts.tally, parts.cut
        settings = parts.settings
        self._limit = settings.max_value_bytes
        self.stream, self._is_alerts, self.parts = stream, stream is Stream.ALERTS, parts
        self.salt = str(stream).encode()
        self.instant = Instant()
        self.rule, self.process = shape(kind, FIELDS, Group.RULE), shape(kind, FIELDS, Group.PROCESS)
        self._rules: Memo[Key, RulePart] = Memo(
            lambda key: parts.make_rule(stream, self.rule.values(key)), OTHERS, OTHERS_BYTES
        )
        self._processes: Memo[Key, ProcessPart] = Memo(
            lambda key: parts.make_process(self.process.values(key)), OTHERS, OTHERS_BYTES
        )
        self.uid_head = head(RECORD_ATTRIBUTE, "log.record.uid", UID_BYTES)
        self._body = body_heads()
        self._words = {template: (_text_keys(template.key), _text_keys(template.raw_key)) for template in TEMPLATES}
        self._resource: dict[str, list[tuple[TextKeys, bool]]] = {}
        for role, keys in RESOURCE_KEYS.items():
            kept = [key for key in keys if settings.keep_raw or key[0] != RAW_RESOURCE or len(keys) == 1]
            self._resource[role] = [
                (_text_keys(*[key for key, _ in of]), last_name) for last_name, of in groupby(kept, itemgetter(1))
            ]
        self._source, self._parent = _text_keys(SOURCE_KEY), _text_keys(PARENT_KEY)
        self._exec_id, self._session_id = _text_keys("kubearmor.exec.id"), _text_keys("kubearmor.exec.session_id")
        # UID is unsigned in the kernel and signed in the proto.
        self._numbers: list[tuple[int, dict[int, bytes], list[bytes], int]] = [
            (place, {}, int_heads(key), UINT32 if field == "UID" else UINT64)
            for place, (field, key) in enumerate(NUMBER_KEYS.items(), start=1)
        ]
        """Of each: its place, attributes of numbers that may come back, what stands before it, which bits count."""
        self._root = attributes(RECORD_ATTRIBUTE, [(NUMBER_KEYS["UID"], 0)], self._limit, [])

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
        groups, numbers, texts, raw, seen, entries, uid_text = self._read(message, marks)
        workload, rule, process = groups
        role, detail, touched, _ = seen
        timestamp = numbers[0]
        updated, source, resource, data, exec_id, event_data = texts
        unix_nano = self.instant.unix_nano(updated, timestamp)
        if not 0 < unix_nano - timestamp * NANOSECONDS < NANOSECONDS:
            rare += self.instant.odd(updated, timestamp, unix_nano)
        # Without the raw texts EventData is the only place left for what is not parsed, so all of it is kept.
        told = entries if self._settings.keep_raw or not event_data else sorted(event_data.items())
        if told:
            rare += event_data_attributes(told)
        if self._settings.body == "text":
            body = self._line(groups, role, resource or data, raw[2] or raw[3], source)
        else:
            body = self._structured_body(message)
        from_source = b""
        if source and not (role == COMMAND and source == process.parent):  # which has an attribute of its own already
            from_source = self._text(self._parent if role == COMMAND else self._source, raw[1])
        session = self._encode_session(exec_id) if raw[4] else b""
        rest = b""
        if rare or dropped or self._cut or self._settings.keep_original:  # the last: it tells of all that was cut
            rest = self._rest(message, rare, dropped)
        encoded = _in_order((
            times(unix_nano, received_unix_nano), rule.head, workload.attributes, rule.attributes, process.attributes,
            detail, touched, from_source, self.encode_numbers(numbers), session, body, rest,
            self.uid_head + (event_uid or uid_text),
        ))  # fmt: skip
        self._tally.nodes[workload.node] = received_unix_nano
        if self._tally.keeps_last:
            self._tally.last = (workload.node, workload.workload, rule.kind)
        if self._is_alerts:
            self._tally.count_alert(workload.workload, rule.kind)
        return tuple.__new__(Record, (self.stream, workload.resource, b"".join(encoded), unix_nano))

    def uid(self, message: Any, marks: str = "") -> bytes:
        """`log.record.uid` of an event as it is now, for whoever is about to change it."""
        read = self._read(message, marks)
        self._cut.clear()
        return read[-1]

    def _read(
        self, message: Any, marks: str
    ) -> tuple[Groups, tuple[int, ...], tuple[Any, ...], Raw, Seen, Entries, bytes]:
        """What is remembered of an event's groups, its other fields, texts also in UTF-8, and its `log.record.uid`."""
        parts = self.parts
        where, what, who = parts.workload.fetch(message), self.rule.fetch(message), self.process.fetch(message)
        workload = parts.workloads.recall(where) or parts.workloads.learn(where)
        rule = self._rules.recall(what) or self._rules.learn(what)
        process = self._processes.recall(who) or self._processes.learn(who)
        numbers = _numbers_of(message)
        texts = updated, source, resource, data, exec_id, event_data = _texts_of(message)
        session = b"" if exec_id in NO_SESSION else exec_id.encode()
        raw = told = updated.encode(), source.encode(), resource.encode(), data.encode(), session
        seen = self._seen(rule.operation, data, resource, raw[2])
        entries: Entries = []
        if event_data:
            said = {key: event_data[key] for key in event_data}
            if said != seen[3]:  # Go writes maps in random order
                entries = sorted(said.items() - seen[3].items())
        if rule.operation == NETWORK:
            told = *raw[:2], raw[2].partition(_REMOTE_HOST)[0], *raw[3:]
        unusual = repr((entries, marks)).encode() if entries or marks else b""
        groups = workload, rule, process
        digests = workload.digest, rule.digest, process.digest
        identity = [self.salt, *digests, _identity(*numbers, *map(len, told)), *told, unusual]
        return groups, numbers, texts, raw, seen, entries, uid(b"".join(identity))

    def _seen(self, operation: str, data: str, resource: str, raw: bytes) -> Seen:
        """What Data and Resource say."""
        if len(resource) + len(data) > MAX_PARSED_CHARS:
            data, resource = data[:MAX_PARSED_CHARS], resource[:MAX_PARSED_CHARS]
            raw = resource.encode()
        if operation == NETWORK and self._settings.keep_raw and (found := find(data, resource)) is not None:
            part = self.parts.templates.recall(found.key) or self.parts.templates.learn(found.key)
            template = found.key[0]
            word, whole = self._words[template]
            touched = self._text(word, found.word.encode()) + self._text(whole, found.text.encode())
            return PARSED, part.attributes, touched, {**part.known, template.event_data_key: found.word}
        key = (operation, data)
        detail = self.parts.details.recall(key) or self.parts.details.learn(key)
        if detail.role == PARSED:
            pair = (operation, data, resource)
            both = self.parts.touched.recall(pair) or self.parts.touched.learn(pair, detail)
            return PARSED, detail.attributes, both.attributes, both.known
        touched = b""
        if raw:
            for keys, last_name in self._resource[detail.role]:
                text = raw.rpartition(b"/")[2] if last_name else raw
                touched += self._text(keys, text) if text else b""
        return detail.role, detail.attributes, touched, detail.known

    # --- what is new with every event ---

    def _text(self, of: TextKeys, raw: bytes) -> bytes:
        """Attributes whose text is new."""
        keys, heads = of
        size = len(raw)
        if size > self._limit:
            self._cut += keys
            raw = raw[: self._limit].decode(errors="ignore").encode()
            size = len(raw)
        return raw.join(heads.recall(size) or heads.learn(size))

    def encode_numbers(self, numbers: tuple[int, ...]) -> bytes:
        """HostPID, HostPPID, PID, PPID and UID, behind the Timestamp."""
        encoded: list[bytes] = []
        for place, known, heads, mask in self._numbers:
            number = numbers[place]
            if number:
                attribute = known.get(number)
                if attribute is None:
                    digits = varint(number & mask)
                    attribute = heads[len(digits)] + digits
                    if len(known) >= NUMBERS:
                        known.clear()
                    known[number] = attribute
                encoded.append(attribute)
        if numbers[1] and not numbers[-1]:
            encoded.append(self._root)
        return b"".join(encoded)

    def _encode_session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        session_id = b"" if low is None else self._text(self._session_id, f"{low:08x}".encode())
        return self._text(self._exec_id, exec_id.encode()) + session_id

    def _line(self, groups: Groups, role: str, what: str, raw: bytes, source: str) -> bytes:
        """The body as one line. The parts' words are printable already; what is new with this event is made so."""
        workload, rule, process = groups
        limit = self._settings.max_body_bytes
        by = process.by_parent if role == COMMAND else process.by_executable
        if not by and source:
            by = f" by {one_line(source[:limit])}".encode()
        line = b"".join((rule.before, raw, by, workload.where, rule.after))
        if not raw or len(line) > limit or not what.isprintable():
            before, what, after = rule.before, one_line(what[: limit + 1]), by + workload.where + rule.after
            if not what:
                before = before.rstrip()
                after = after if before else after.lstrip() or NOTHING_SAID[self.stream]
            line = sentence(before.decode(), what, after.decode(), limit).encode()
        size = len(line)
        return (self._body.recall(size) or self._body.learn(size)) + line

    def _structured_body(self, message: Message) -> bytes:
        content = as_map(message, self._limit) if self._settings.body == "map" else as_json(message, self._limit)
        return delimited(BODY, any_value(content))

    def _rest(self, message: Message, rare: list[Attribute], dropped: int) -> bytes:
        """Whatever most events do not have: rare attributes, and the keys of what was cut."""
        if self._settings.keep_original:
            rare = [*rare, ("log.record.original", as_json(message, self._limit))]
        encoded = attributes(RECORD_ATTRIBUTE, rare, MAX_RARE_BYTES, self._cut)
        if not self._cut and not dropped:
            return encoded
        self._tally.truncated += 1
        return encoded + tail(self._cut, dropped)


def sentence(before: str, touched: str, after: str, limit_bytes: int) -> str:
    """One line; where it is too long, what was touched is shortened, so that the outcome stays in sight."""
    whole = before + touched + after
    if len(whole.encode()) <= limit_bytes:
        return whole
    room = limit_bytes - len((before + ELLIPSIS + after).encode())
    if room < MIN_SUBJECT_BYTES:
        return clip(whole, limit_bytes - len(ELLIPSIS.encode())) + ELLIPSIS
    return before + clip(touched, room) + ELLIPSIS + after
