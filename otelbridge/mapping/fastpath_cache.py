"""Gives the fast path its entries: an event with something new in it is mapped by the reference, and the parts kept.

The fast path (`fastpath.pyx`) finds parts by the encoded bytes of their fields. Bytes that it has not met are decoded
here, strictly, and the parts worked out as the reference does (`parts.py`). `_unusual` is the entry of anything
that the reference has to look at itself; that is not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol, cast

from google.protobuf.message import Message

from otelbridge.event import RawEvent, Stream, kind_of
from otelbridge.mapping.decode import KINDS, Event, decode
from otelbridge.mapping.details import NETWORK, REMOTE_HOST, TEMPLATES, Template, find
from otelbridge.mapping.fields import (
    ALSO_IN,
    FIELDS,
    IDENTITY_NUMBERS,
    IDENTITY_TEXTS,
    NUMBER_KEYS,
    ORDER,
    PARENT_KEY,
    PARSED,
    RESOURCE_KEYS,
    SOURCE_KEY,
    Group,
)
from otelbridge.mapping.model import Known, Memo
from otelbridge.mapping.parts import NO_SESSION, TEXTS, TEXTS_BYTES, WORKLOADS, WORKLOADS_BYTES, new_digest
from otelbridge.mapping.process_spans import ProcessSpans
from otelbridge.mapping.record_encoder import OTHERS, OTHERS_BYTES, RecordEncoder
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.mapping.synthetic import sample_of
from otelbridge.mapping.wire import RECORD_ATTRIBUTE, Record, attributes
from otelbridge.protobuf import delimited

try:
    from otelbridge.mapping import fastpath
except ImportError:  # it was installed where there is no C compiler
    COMPILED = False
else:
    COMPILED = True


class Compiled(Protocol):
    """The fast path of one stream. Those of several streams sift together: `fastpath.sift`."""

    def map(self, body: bytes, received_unix_nano: int) -> Record | str | None:
        """The event's record, the name of the rule that drops it, or None: it is unusual."""

    def attend(self, floods: Any) -> None:
        """Judges by these floods from now on."""


def sift(
    paths: Mapping[Stream, Compiled], events: list[RawEvent], start: int = 0, *, mapped: bool = False
) -> tuple[list[RawEvent], bool, int]:
    """Counts usual events of floods; see `fastpath.sift`."""
    return fastpath.sift(paths, events, start, mapped)


TemplateKeyBytes = tuple[int, bytes, bytes]
"""The template's place in TEMPLATES, and Data and Resource with the stand-in, as in `TemplateKey`."""


class Screen(Protocol):
    """The rules of one stream, as bits: which of them hold as far as the workload, or the rule's fields, go."""

    def workload(self, message: Message) -> int:
        """Rules that hold for the workload of the event."""

    def rule(self, message: Message) -> int:
        """Rules that hold for what KubeArmor says about it."""

    def dropped_by(self, held: int) -> str | None:
        """The name of the rule that drops an event for which these hold, or None."""


class FastpathCache:
    """Everything that the fast path of one stream knows; it reads these attributes once, and calls the methods."""

    def __init__(self, encoder: RecordEncoder, screen: Screen | None, tracing: ProcessSpans | None) -> None:
        stream, settings = encoder.stream, encoder.parts.settings
        self._encoder, self._parts = encoder, encoder.parts
        self._unusual = fastpath.Entry()
        self._body, self._message = b"", cast("Event | None", None)
        self.stream, self.tally, self.record_class, self.screen = stream, encoder.parts.tally, Record, screen
        self.tracing = tracing
        self.is_alerts = stream is Stream.ALERTS
        self.new_digest = new_digest
        self.salt, self.uid_head = encoder.salt, encoder.uid_head
        self.max_value_bytes, self.max_body_bytes = settings.max_value_bytes, settings.max_body_bytes
        self.root = attributes(RECORD_ATTRIBUTE, [(NUMBER_KEYS["UID"], 0)], settings.max_value_bytes, [])
        self.fields = _uses(KINDS[stream])
        self._read_plan()
        self.workloads: Memo[bytes, Any] = Memo(self._workload, max_entries=WORKLOADS, max_bytes=WORKLOADS_BYTES)
        self.rules: Memo[bytes, Any] = Memo(self._rule, max_entries=OTHERS, max_bytes=OTHERS_BYTES)
        self.processes: Memo[bytes, Any] = Memo(self._process, max_entries=OTHERS, max_bytes=OTHERS_BYTES)
        self.details: Memo[bytes, Any] = Memo(self._detail, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self.parsed: Memo[bytes, Any] = Memo(self._parsed, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self.templates = [_compiled_template(number, template) for number, template in enumerate(TEMPLATES)]
        self.template_entries: Memo[TemplateKeyBytes, Any] = Memo(
            self._template, max_entries=TEXTS, max_bytes=TEXTS_BYTES
        )

    def second_unix(self, second: bytes) -> int | None:
        """The Unix time of `2006-01-02T15:04:05.`, or None where it is none."""
        instant, text = self._encoder.instant, second.decode("ascii", "replace")
        updated = f"{text}000000Z"
        if not instant.unix_nano(updated, 0) or instant.odd(updated, 0, 0) or instant.second != text:
            return None
        return instant.second_unix

    def sample(self, body: bytes) -> bytes:
        """What a flood's record says of the events that it stands for, from a usual one."""
        return sample_of(self._usual(body))

    def _read_plan(self) -> None:
        """The plan of the record in the fast path's terms."""
        self.order = [fastpath.PARTS[part] for part in ORDER if part in fastpath.PARTS]
        self.identity_numbers = [fastpath.SLOT_OF_FIELD[name] for name in IDENTITY_NUMBERS]
        self.identity_texts = [fastpath.SLOT_OF_FIELD.get(name, -1) for name in IDENTITY_TEXTS]  # a session is unusual
        self.number_keys = [_name(key) for key in NUMBER_KEYS.values()]
        self.source_key, self.parent_key, self.remote_host = _name(SOURCE_KEY), _name(PARENT_KEY), REMOTE_HOST.encode()
        by_role = {
            fastpath.ROLES[role]: [(_name(key), last_name) for key, last_name in keys]
            for role, keys in RESOURCE_KEYS.items()
        }
        self.resource_keys = [by_role[role] for role in sorted(by_role)]

    def _workload(self, key: bytes, body: bytes) -> Any:
        message: Any = self._usual(body)
        part = None if message is None else self._parts.make_workload(self._parts.workload.read(message))
        if part is None or self._was_cut(part.weight):
            return self._unusual
        return fastpath.Entry(
            part.weight + len(key), resource=part.resource, attributes=part.attributes, where=part.where,
            digest=part.digest, node=part.node, workload=part.workload,
            held=self.screen.workload(message) if self.screen else 0,
            told=self.tracing.place(message) if self.tracing else None,
            place="\0".join(kind_of(self.stream, message)[2:4]),
        )  # fmt: skip

    def _rule(self, key: bytes, body: bytes) -> Any:
        message: Any = self._usual(body)
        if message is None or message.Operation == THROTTLING_OPERATION:  # which the encoder looks into
            return self._unusual
        part = self._parts.make_rule(self.stream, self._encoder.rule.read(message))
        if self._was_cut(part.weight):
            return self._unusual
        _, policy, _, _, operation, outcome = kind_of(self.stream, message)
        return fastpath.Entry(
            part.weight + len(key), head=part.head, attributes=part.attributes, before=part.before, after=part.after,
            digest=part.digest, operation=part.operation.encode(), network=part.operation == NETWORK,
            counts=part.counts, kind=part.kind, held=self.screen.rule(message) if self.screen else 0,
            told=self.tracing.act(self.stream, message) if self.tracing else None,
            place=f"{policy}\0{operation}\0{outcome}",
        )  # fmt: skip

    def _process(self, key: bytes, body: bytes) -> Any:
        message: Any = self._usual(body)
        if message is None or message.ExecEvent.ExecID not in NO_SESSION:
            return self._unusual
        part = self._parts.make_process(self._encoder.process.read(message))
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Entry(
            part.weight + len(key), attributes=part.attributes, digest=part.digest, parent=part.parent.encode(),
            by_executable=part.by_executable, by_parent=part.by_parent, executable=message.ProcessName,
            told=self.tracing.program(message) if self.tracing else None,
        )  # fmt: skip

    def _detail(self, key: bytes) -> Any:
        operation, _, data = key.partition(b"\0")
        part = self._parts.make_detail((operation.decode(), data.decode()))
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Entry(
            part.weight + len(key), attributes=part.attributes, role=fastpath.ROLES[part.role],
            known=_entries(part.known),
        )  # fmt: skip

    def _parsed(self, key: bytes) -> Any:
        """Of an event whose Resource says something only together with Data."""
        operation, data, resource = (text.decode() for text in key.split(b"\0"))
        if operation == NETWORK and find(data, resource) is not None:  # whose parts stand in another order
            return self._unusual
        detail = self._parts.make_detail((operation, data))
        if detail.role != PARSED:  # a Network event with the Data of another
            return self._unusual
        touched = self._parts.make_touched((operation, data, resource), detail)
        if self._was_cut(detail.weight and touched.weight):
            return self._unusual
        return fastpath.Entry(
            touched.weight + len(detail.attributes) + 4 * len(key), attributes=detail.attributes,
            what=touched.attributes, known=_entries(touched.known), role=fastpath.ROLES[PARSED],
        )  # fmt: skip

    def _template(self, key: TemplateKeyBytes) -> Any:
        number, data, resource = key
        found = find(data.decode(), resource.decode())
        template = TEMPLATES[number]
        if found is None or found.key[0] is not template or found.word != template.stand_in:
            return self._unusual
        part = self._parts.make_template(found.key)
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Entry(
            part.weight + len(data) + len(resource), attributes=part.attributes, template=self.templates[number],
            known=_entries(part.known), role=fastpath.TEMPLATE_ROLE_NUMBER,
        )  # fmt: skip

    def _usual(self, body: bytes) -> Any:
        if body is not self._body:  # an event with several new parts is decoded once
            decoded = decode(self.stream, body)
            is_usual = decoded.how == "strict" and not decoded.unknown and not decoded.sanitized
            self._body, self._message = body, decoded.message if is_usual else None
        return self._message

    def _was_cut(self, weight: int) -> bool:
        if not weight:
            self._parts.cut.clear()
        return not weight


def compiled_mapping(encoder: RecordEncoder, *, screen: Screen | None, tracing: ProcessSpans | None) -> Compiled | None:
    """The fast path; None where it was not compiled, or the settings ask for something that it cannot do."""
    settings = encoder.parts.settings
    able = sys.byteorder == "little" and settings.body == "text" and settings.keep_raw and not settings.keep_original
    if not (COMPILED and settings.native and able):
        return None
    return fastpath.FastPath(FastpathCache(encoder, screen, tracing))


def _compiled_template(number: int, template: Template) -> Any:
    return fastpath.Template(
        number, beginning=template.beginning.encode(), marker=template.marker.encode(),
        stand_in=template.stand_in.encode(), word_key=_name(template.key), raw_key=_name(template.raw_key),
        entry_key=_name(template.event_data_key), in_data=template.in_data, ipv4=template.is_ipv4,
    )  # fmt: skip


def _name(key: str) -> bytes:
    """The field `key` of an encoded KeyValue, or of an entry of a map."""
    return delimited(b"\x0a", key.encode())


def _uses(kind: type[Event]) -> dict[int, int]:
    """What the fast path does with a field, by the field's number: the table of fields, in its terms."""
    uses: dict[int, int] = {}
    for field in FIELDS:
        name = field.name.partition(".")[0]
        described = kind.DESCRIPTOR.fields_by_name.get(name)
        if described is None:
            continue
        if field.group is not Group.EVENT:
            uses[described.number] = uses.get(described.number, 0) | fastpath.GROUP_BITS[field.group.value]
        elif name in fastpath.SLOT_OF_FIELD:
            uses[described.number] = fastpath.SLOT_BIT + fastpath.SLOT_OF_FIELD[name]
        if name in ALSO_IN:
            uses[described.number] |= fastpath.GROUP_BITS[ALSO_IN[name].value]
    return uses


def _entries(known: Known) -> frozenset[bytes]:
    """The encoded entries of the EventData that says nothing new."""
    return frozenset(_name(key) + delimited(b"\x12", text.encode()) for key, text in known.items())
