"""What the fast path is taught: an event that has something new in it goes in, the ordinary lane's parts come out.

The fast path (`fastpath.pyx`) finds parts by the encoded bytes of their fields. Bytes that it has not met are
decoded here, strictly, and the parts come from the same memories that the ordinary lane uses. `UNUSUAL` is what it is
taught of anything that the ordinary lane has to look at itself; that is not remembered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from otelbridge.event import Stream
from otelbridge.mapping.decode import Event, decode
from otelbridge.mapping.details import FORMS, NETWORK, Role, Template, find
from otelbridge.mapping.fields import FIELDS, Group
from otelbridge.mapping.model import Known, MappingCounts, Memo
from otelbridge.mapping.parts import ENTRY_OVERHEAD_BYTES, NO_SESSION, new_digest
from otelbridge.mapping.record_encoder import (
    NUMBER_KEYS,
    OTHERS,
    OTHERS_BYTES,
    TEXTS,
    TEXTS_BYTES,
    WORKLOADS,
    WORKLOADS_BYTES,
    RecordEncoder,
)
from otelbridge.mapping.request import Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.mapping.wire import RECORD_ATTRIBUTE, attributes, delimited

try:
    from otelbridge.mapping import fastpath
except ImportError:  # it was installed where there is no C compiler
    COMPILED = False
else:
    COMPILED = True

TEXT_KEYS = ("file.path", "file.name", "kubearmor.resource", "kubearmor.source", "process.command_line")
ALSO_IN = {"Enforcer": Group.PROCESS}
"""A part may depend on a field of another group."""


FormKeyBytes = tuple[int, bytes, bytes]
"""The form's place in FORMS, and Data and Resource with the stand-in, as in `FormKey`."""


class FastpathCache:
    """Everything that the fast path of one stream knows; it reads these attributes once, and calls the methods."""

    def __init__(
        self, lane: RecordEncoder, settings: MappingSettings, stream: Stream, kind: type[Event], tally: MappingCounts
    ) -> None:
        self._lane = lane
        self._cut = lane.cut
        self._unusual = fastpath.Taught()
        self.stream, self.tally, self.record_class = stream, tally, Record
        self.is_alerts = stream is Stream.ALERTS
        self.new_digest = new_digest
        self.salt, self.uid_head = lane.salt, lane.uid_head
        self.max_value_bytes, self.max_body_bytes = settings.max_value_bytes, settings.max_body_bytes
        self.number_keys = NUMBER_KEYS
        self.keys = {key: delimited(b"\x0a", key.encode()) for key in (*TEXT_KEYS, *NUMBER_KEYS)}
        self.root = attributes(RECORD_ATTRIBUTE, [("process.real_user.id", 0)], settings.max_value_bytes, [])
        self.fields = _uses(kind)
        self.workloads: Memo[bytes, Any] = Memo(self._teach_workload, max_entries=WORKLOADS, max_bytes=WORKLOADS_BYTES)
        self.rules: Memo[bytes, Any] = Memo(self._teach_rule, max_entries=OTHERS, max_bytes=OTHERS_BYTES)
        self.processes: Memo[bytes, Any] = Memo(self._teach_process, max_entries=OTHERS, max_bytes=OTHERS_BYTES)
        self.details: Memo[bytes, Any] = Memo(self._teach_detail, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self.parsed: Memo[bytes, Any] = Memo(self._teach_parsed, max_entries=TEXTS, max_bytes=TEXTS_BYTES)
        self.forms = [_form(number, form) for number, form in enumerate(FORMS)]
        self.forms_taught: Memo[FormKeyBytes, Any] = Memo(self._teach_form, max_entries=TEXTS, max_bytes=TEXTS_BYTES)

    def second_unix(self, second: bytes) -> int | None:
        """The Unix time of `2006-01-02T15:04:05.`, or None."""
        return self._lane.second_unix(second)

    def _teach_workload(self, key: bytes, body: bytes) -> Any:
        message = self._usual(body)
        part = None if message is None else self._lane.workload(message)
        if part is None or self._was_cut(part.weight):
            return self._unusual
        return fastpath.Taught(
            part.weight + len(key), resource=part.resource, attributes=part.attributes, where=part.where,
            digest=part.digest, node=part.node, namespace=part.namespace,
        )  # fmt: skip

    def _teach_rule(self, key: bytes, body: bytes) -> Any:
        message = self._usual(body)
        if message is None or message.Operation == THROTTLING_OPERATION:  # which the encoder looks into
            return self._unusual
        part = self._lane.rule(message)
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Taught(
            part.weight + len(key), head=part.head, attributes=part.attributes, before=part.before, after=part.after,
            digest=part.digest, operation=part.operation.encode(), network=part.operation == NETWORK,
            counts=part.counts, kind=part.kind,
        )  # fmt: skip

    def _teach_process(self, key: bytes, body: bytes) -> Any:
        message = self._usual(body)
        if message is None or message.ExecEvent.ExecID not in NO_SESSION:
            return self._unusual
        part = self._lane.process(message)
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Taught(
            part.weight + len(key), attributes=part.attributes, digest=part.digest, parent=part.parent.encode(),
            by_executable=part.by_executable, by_parent=part.by_parent,
        )  # fmt: skip

    def _teach_detail(self, key: bytes) -> Any:
        operation, _, data = key.partition(b"\0")
        part = self._lane.detail(operation.decode(), data.decode())
        if self._was_cut(part.weight):
            return self._unusual
        return fastpath.Taught(
            part.weight + len(key), attributes=part.attributes, digest=part.digest,
            role=fastpath.ROLES[part.role.value],
            known=_entries(part.known),
        )  # fmt: skip

    def _teach_parsed(self, key: bytes) -> Any:
        """Of an event whose Resource says something only together with Data."""
        operation, data, resource = (text.decode() for text in key.split(b"\0"))
        _, seen, what, known, identifying = self._lane.seen(operation, data, resource)
        if self._was_cut(weight := 0 if self._cut else 4 * len(key) + len(seen) + len(what) + ENTRY_OVERHEAD_BYTES):
            return self._unusual
        return fastpath.Taught(
            weight, attributes=seen, what=what, digest=identifying, known=_entries(known),
            role=fastpath.ROLES[Role.PARSED.value],
        )  # fmt: skip

    def _teach_form(self, key: FormKeyBytes) -> Any:
        number, data, resource = key
        found = find(data.decode(), resource.decode())
        form = FORMS[number]
        if found is None or found.key[0] is not form or found.word != form.stand_in:
            return self._unusual
        part = self._lane.form(found.key)
        if self._was_cut(part.weight):
            return self._unusual
        keys, texts = part.known
        return fastpath.Taught(
            part.weight + len(data) + len(resource), attributes=part.attributes, digest=part.digest,
            form=self.forms[number], known=_entries((keys[:-1], texts)), role=fastpath.FORM_ROLE_NUMBER,
        )  # fmt: skip

    def _usual(self, body: bytes) -> Any:
        decoded = decode(self.stream, body)
        if decoded.how != "strict" or decoded.unknown or decoded.sanitized:
            return None
        return decoded.message

    def _was_cut(self, weight: int) -> bool:
        if not weight:
            self._cut.clear()
        return not weight


def compiled_mapping(
    lane: RecordEncoder, settings: MappingSettings, stream: Stream, kind: type[Event], tally: MappingCounts
) -> Callable[[bytes, int], Record | None] | None:
    """The fast path's `map`; None where it was not compiled, or the settings ask for something that it cannot do."""
    able = sys.byteorder == "little" and settings.body == "text" and settings.keep_raw and not settings.keep_original
    if not (COMPILED and settings.native and able):
        return None
    found: Callable[[bytes, int], Record | None] = fastpath.FastPath(
        FastpathCache(lane, settings, stream, kind, tally)
    ).map
    return found


def _form(number: int, form: Template) -> Any:
    return fastpath.Form(
        number, beginning=form.beginning.encode(), marker=form.marker.encode(), stand_in=form.stand_in.encode(),
        word_key=delimited(b"\x0a", form.key.encode()), raw_key=delimited(b"\x0a", form.raw_key.encode()),
        entry_key=delimited(b"\x0a", form.event_data_key.encode()), in_data=form.in_data, ipv4=form.is_ipv4,
    )  # fmt: skip


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
    return frozenset(
        delimited(b"\x0a", key.encode()) + delimited(b"\x12", text.encode()) for key, text in zip(*known, strict=True)
    )
