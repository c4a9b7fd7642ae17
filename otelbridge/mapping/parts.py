"""Encodes what repeats between events: for each group of fields, its attributes and its words for the body."""

from __future__ import annotations

import binascii
import re
from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple

from google.protobuf.message import Message

from otelbridge.event import MAX_PARSED_CHARS, Stream
from otelbridge.mapping.details import (
    NETWORK,
    TemplateKey,
    detail,
    detail_with_resource,
    event_data_of,
    facts,
    without_remote_host,
)
from otelbridge.mapping.fields import ALSO_IN, FIELDS, RAW_DATA, RAW_RESOURCE, Field, Group, as_is
from otelbridge.mapping.model import (
    AlertKind,
    DetailPart,
    Held,
    MappingCounts,
    Memo,
    ProcessPart,
    RulePart,
    TemplatePart,
    TouchedPart,
    Values,
    WorkloadPart,
)
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import (
    OPERATION_NAMES,
    PRESET_PREFIX,
    Ruling,
    rule_on_alert,
    rule_on_log,
    severity_table,
)
from otelbridge.mapping.wire import (
    RECORD_ATTRIBUTE,
    RESOURCE_ATTRIBUTE,
    Attribute,
    attributes_encoder,
    clip,
    one_line,
    record_head,
)
from otelbridge.mapping.workload import workload_attributes
from otelbridge.pb import kubearmor_pb2 as pb

Key = tuple[Held, ...]
Fetch = Callable[[Any], Key]


class GroupShape(NamedTuple):
    """The fields of one group that a message type has."""

    names: tuple[str, ...]
    fetch: Fetch
    """A message in, the fields' values out, as a tuple that can be a key."""

    def values(self, key: Key) -> Values:
        """What was fetched, by the fields' names."""
        return Values(zip(self.names, key, strict=True))

    def read(self, message: Any) -> Values:
        """The fields of a message."""
        return self.values(self.fetch(message))


def shape(kind: type[Message], fields: tuple[Field, ...], group: Group) -> GroupShape:
    """The fields of a group, and others that its attributes depend on, as far as the message type has them."""
    known = kind.DESCRIPTOR.fields_by_name
    wanted = [field.name for field in fields if group in {field.group, ALSO_IN.get(field.name)}]
    repeated = [name for name in wanted if name in known and known[name].is_repeated]
    single = [name for name in wanted if name.partition(".")[0] in known and name not in repeated]
    get = attrgetter(*single)  # a tuple, as there are several

    def fetch(message: Any) -> Key:
        values = get(message)
        for name in repeated:
            values += (tuple(getattr(message, name)[:]),)
        return values

    return GroupShape((*single, *repeated), fetch if repeated else get)


DIGEST_BYTES = 16
UID_BYTES = 36
_UUID_GROUPS = Struct("8s4s4s4s12s").unpack
new_digest = blake2b(digest_size=DIGEST_BYTES).copy  # a copy costs a third less than one made from arguments


def digest_of(pairs: Sequence[tuple[str, Held]]) -> bytes:
    """A digest of named values."""
    return blake2b(repr(pairs).encode(), digest_size=DIGEST_BYTES).digest()


def uid(content: bytes) -> bytes:
    """The id of whatever the content identifies, in the text form of a UUID."""
    digest = new_digest()
    digest.update(content)
    return b"-".join(_UUID_GROUPS(hexlify(digest.digest())))


HASHES = {
    "ProcessHash": "kubearmor.hash.process",
    "ParentHash": "kubearmor.hash.parent",
    "ResourceHash": "kubearmor.hash.resource",
}
_HEX = re.compile(r"[0-9a-fA-F]+")


def process_attributes(values: Values) -> list[Attribute]:
    """The attributes of a process, but for its numbers."""
    path, tty = values["ProcessName"], values["TTY"]
    return [
        ("process.executable.path", path),
        ("process.executable.name", path.rpartition("/")[2]),
        ("process.working_directory", _directory(values["Cwd"], values["Enforcer"])),
        *([("kubearmor.tty", tty), ("process.interactive", True)] if tty else []),
        *[(key, _hash(text)) for field, key in HASHES.items() if (text := values[field])],
        ("kubearmor.hash.algorithm", values["HashAlgo"]),
    ]


def _directory(cwd: str, enforcer: str) -> str:
    if cwd == "/" and (enforcer == "BPFLSM" or enforcer.startswith(PRESET_PREFIX)):
        return ""  # those never pass the directory: `/` is a filler there
    return cwd.rstrip("/") or cwd[:1]


def _hash(text: str) -> str:
    """Lower-case hex; an early build sent base64. Empty for all zero, which is how KubeArmor says `unknown`."""
    if not text.strip("0"):
        return ""
    if _HEX.fullmatch(text):
        return text.lower()
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return text
    return raw.hex() if any(raw) else ""


NO_SESSION = ("", "0")
_LOW_32_BITS = 0xFFFF_FFFF
_MAX_DIGITS = 20  # of a uint64


def low_half(exec_id: str) -> int | None:
    """What all processes of a session share: a forked child carries its own pid in the id's high half.

    None where the text is not an id. It is in none of NO_SESSION.
    """
    if len(exec_id) > _MAX_DIGITS or not (exec_id.isascii() and exec_id.isdigit()):
        return None
    return int(exec_id) & _LOW_32_BITS


WORKLOADS, WORKLOADS_BYTES = 4096, 8 << 20  # 2,000 pods, with room for their successors
# Data and peers: many are never seen again, and what is small stays in the CPU's cache.
TEXTS, TEXTS_BYTES = 512, 1 << 20
ENTRY_OVERHEAD_BYTES = 1024  # of the Python objects around an entry's bytes and its key's texts, roughly
MAX_WORDS_BYTES = 256  # of the words around what was touched; a policy's message may be longer
# Only these become values of metric attributes: everything else in an event can be chosen by an attacker.
METRIC_ACTIONS = frozenset({"Block", "Audit", "Audit (Block)", "Audit (Allow)", "Allow", "Remove", ""})
OTHER = "other"


class Parts:
    """Works out the parts of events, and remembers those that are the same in all streams.

    A part is not kept where one of its values had to be cut: the record has to say so.
    """

    def __init__(self, settings: MappingSettings, tally: MappingCounts) -> None:
        self.settings = settings
        self.tally = tally
        self._as_is_fields = {group: as_is(FIELDS, group) for group in Group}
        self._severity = severity_table(settings.severity)
        self._attributes = attributes_encoder(native=settings.native)
        self.cut: list[str] = []
        """Keys of values that had to be cut, until a record says so."""
        self.workload = shape(pb.Alert, FIELDS, Group.WORKLOAD)
        """A log's are the same."""
        self.workloads: Memo[Key, WorkloadPart] = Memo(
            lambda key: self.make_workload(self.workload.values(key)), WORKLOADS, WORKLOADS_BYTES
        )
        self.details: Memo[tuple[str, str], DetailPart] = Memo(self.make_detail, TEXTS, TEXTS_BYTES)
        self.touched: Memo[tuple[str, str, str], TouchedPart] = Memo(self.make_touched, TEXTS, TEXTS_BYTES)
        self.templates: Memo[TemplateKey, TemplatePart] = Memo(self.make_template, TEXTS, TEXTS_BYTES)

    def make_workload(self, values: Values) -> WorkloadPart:
        """From the values of the group `workload`."""
        settings = self.settings
        cut_before = len(self.cut)
        node, pod, container, service, workload, labels, labels_left_out = workload_attributes(values, settings)
        on_resource, on_record = {
            "node": (node, pod + container),
            "pod": (node + pod, container),
            "container": (node + pod + container, []),
        }[settings.resource_granularity]
        found = [*service, *on_resource, *self._as_is(Group.WORKLOAD, values)]
        if given := settings.resource_attributes:
            found = [*given.items(), *(pair for pair in found if pair[0] not in given)]
        resource = self._encode(RESOURCE_ATTRIBUTE, found)
        record = self._encode(RECORD_ATTRIBUTE, [*on_record, ("kubearmor.labels", values["Labels"])])
        if labels_left_out:
            self.cut.append("k8s.pod.label")
        beyond = [("Labels", values["Labels"])] if len(values["Labels"]) > MAX_PARSED_CHARS else []
        namespace, pod_name, host = values["NamespaceName"], values["PodName"], values["HostName"]
        inside = "/".join([name for name in (namespace, pod_name or values["ContainerName"]) if name])
        return WorkloadPart(
            resource=resource,
            attributes=record,
            where=_words(f" in {inside}" if inside else f" on {host}" if host else ""),
            digest=digest_of([*values.canonical("Labels"), *labels.items(), *beyond]),
            node=self.tally.admit_node(host),
            workload=(clip(workload[0], MAX_WORDS_BYTES), clip(workload[1], MAX_WORDS_BYTES)),
            weight=self._weight(cut_before, len(resource) + len(record)),
        )

    def make_rule(self, stream: Stream, values: Values) -> RulePart:
        """From the values of the group `rule`."""
        settings = self.settings
        cut_before = len(self.cut)
        ruling = (
            rule_on_alert(values, mitre=settings.mitre_techniques) if stream is Stream.ALERTS else rule_on_log(values)
        )
        pairs: list[Attribute] = [
            ("kubearmor.stream", str(stream)),
            ("event.name", ruling.event_name if settings.event_name_attribute else ""),
            *ruling.attributes,
            *self._as_is(Group.RULE, values),
        ]
        encoded = self._encode(RECORD_ATTRIBUTE, pairs)
        number = self._severity[ruling.situation][ruling.level]
        kind = self._kind(ruling, values)
        return RulePart(
            head=record_head(number, ruling.event_name),
            attributes=encoded,
            before=_words(ruling.before) + b" ",
            after=_words(ruling.after),
            digest=digest_of(values.canonical()),
            operation=values["Operation"],
            kind=kind,
            counts=self.tally.counts(kind) if stream is Stream.ALERTS else {},
            weight=self._weight(cut_before, len(encoded)),
        )

    def make_process(self, values: Values) -> ProcessPart:
        """From the values of the group `process`, and the enforcer."""
        cut_before = len(self.cut)
        encoded = self._encode(RECORD_ATTRIBUTE, [*process_attributes(values), *self._as_is(Group.PROCESS, values)])
        parent = values["ParentProcessName"]
        return ProcessPart(
            attributes=encoded,
            parent=parent,
            by_executable=_by(values["ProcessName"]),
            by_parent=_by(parent),
            digest=digest_of(values.canonical("Enforcer")),
            weight=self._weight(cut_before, len(encoded)),
        )

    def make_detail(self, key: tuple[str, str]) -> DetailPart:
        """From Operation and Data."""
        operation, data = key
        cut_before = len(self.cut)
        found = detail(operation, data)
        if self.settings.keep_raw:
            found.attributes.append((RAW_DATA, data))
        encoded = self._encode(RECORD_ATTRIBUTE, found.attributes)
        return DetailPart(
            attributes=encoded,
            role=found.role,
            pairs=found.pairs,
            known=event_data_of(data),
            weight=self._weight(cut_before, 4 * len(data)),
        )

    def make_touched(self, key: tuple[str, str, str], seen: DetailPart) -> TouchedPart:
        """From Operation, Data and Resource, where they say something only together."""
        operation, data, resource = key
        cut_before = len(self.cut)
        pairs = list(detail_with_resource(operation, seen.pairs, data, resource))
        if self.settings.keep_raw or not any(value for _, value in pairs):
            pairs.append((RAW_RESOURCE, resource))
        encoded = self._encode(RECORD_ATTRIBUTE, pairs)
        known = seen.known
        if operation == NETWORK:
            known = {**known, **event_data_of(without_remote_host(resource))}
        return TouchedPart(
            attributes=encoded,
            known=known,
            weight=self._weight(cut_before, 4 * len(resource)),
        )

    def make_template(self, key: TemplateKey) -> TemplatePart:
        """From a template, Data and Resource."""
        cut_before = len(self.cut)
        found = facts(key)
        encoded = self._encode(RECORD_ATTRIBUTE, found.attributes)
        found.known.pop(key[0].event_data_key, None)
        return TemplatePart(
            attributes=encoded,
            known=found.known,
            weight=self._weight(cut_before, 4 * len(encoded)),
        )

    def _as_is(self, group: Group, values: Values) -> list[Attribute]:
        return [(key, held) for key, name in self._as_is_fields[group] if (held := values[name])]

    def _encode(self, tag: bytes, pairs: Iterable[Attribute]) -> bytes:
        return self._attributes(tag, pairs, self.settings.max_value_bytes, self.cut)

    def _weight(self, cut_before: int, encoded_bytes: int) -> int:
        if len(self.cut) > cut_before:
            return 0
        return ENTRY_OVERHEAD_BYTES + 2 * encoded_bytes  # the key holds about what is encoded

    def _kind(self, ruling: Ruling, values: Values) -> AlertKind:
        action, operation = values["Action"], values["Operation"].lower()
        return (
            operation if operation in OPERATION_NAMES else OTHER,
            action if action in METRIC_ACTIONS else OTHER,
            ruling.outcome,
            clip(values["PolicyName"], MAX_WORDS_BYTES) if self.tally.alerts_by_policy else "",
        )


def _words(text: str) -> bytes:
    raw = text.encode()
    if len(raw) <= MAX_WORDS_BYTES and text.isprintable():
        return raw
    return clip(one_line(text[: MAX_WORDS_BYTES + 1]), MAX_WORDS_BYTES).encode()


def _by(executable: str) -> bytes:
    return _words(f" by {executable}") if executable else b""
