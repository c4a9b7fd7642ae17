"""What is remembered between events: for each group of fields, its attributes in encoded form and its words."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.mapping.body import one_line
from otelbridge.mapping.detail import detail, detail_with_resource, event_data_of
from otelbridge.mapping.fields import Field, Group, as_is
from otelbridge.mapping.forms import FormKey, facts
from otelbridge.mapping.identity import digest_of
from otelbridge.mapping.network import without_remote_host
from otelbridge.mapping.plain import head
from otelbridge.mapping.process import process_attributes
from otelbridge.mapping.remembered import (
    DetailPart,
    FormPart,
    Known,
    ProcessPart,
    RulePart,
    TouchedPart,
    WorkloadPart,
)
from otelbridge.mapping.rule import Ruling, rule_on_alert, rule_on_log
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import severity_table
from otelbridge.mapping.shapes import GroupShape, shape
from otelbridge.mapping.tally import AlertKind, Tally
from otelbridge.mapping.values import Held, Values
from otelbridge.mapping.wire import (
    RECORD_ATTRIBUTE,
    RESOURCE_ATTRIBUTE,
    Attribute,
    attributes,
    clip,
)
from otelbridge.mapping.workload import parse_labels, place

ENTRY_OVERHEAD_BYTES = 1024  # of the Python objects around an entry's bytes and its key's texts, roughly
MAX_WORDS_BYTES = 256  # of the words around what was touched; a policy's message may be longer
# Only these become values of metric attributes: everything else in an event can be chosen by an attacker.
METRIC_ACTIONS = frozenset({"Block", "Audit", "Audit (Block)", "Audit (Allow)", "Allow", "Remove", ""})
OTHER = "other"

Key = tuple[Held, ...]


class Parts:
    """Works out the parts of one stream's events. A part with a value that had to be cut is not worth keeping."""

    __slots__ = ("_cut", "_fields", "_settings", "_severity", "_stream", "_tally", "process", "rule", "workload")

    def __init__(
        self,
        settings: MappingSettings,
        stream: Stream,
        kind: type[Message],
        *,
        fields: tuple[Field, ...],
        cut: list[str],
        tally: Tally,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._tally = tally
        self._fields = fields
        self._severity = severity_table(settings.severity)
        self._cut = cut  # keys of values that had to be cut are appended here; the caller reports them
        self.workload: GroupShape = shape(kind, fields, Group.WORKLOAD)
        self.rule: GroupShape = shape(kind, fields, Group.RULE)
        self.process: GroupShape = shape(kind, fields, Group.PROCESS, also=("Enforcer",))

    def make_workload(self, key: Key) -> WorkloadPart:
        """From the values of the group `workload`."""
        values = Values(self.workload.names, key)
        settings = self._settings
        cut_before = len(self._cut)
        node, pod, container, service_name, labels_left_out = place(values, settings)
        levels = {
            "node": (node, pod + container),
            "pod": (node + pod, container),
            "container": (node + pod + container, []),
        }
        on_resource, on_record = levels[settings.resource_granularity]
        given = [*settings.resource_attributes.items()]
        if "service.name" not in settings.resource_attributes:
            given.append(("service.name", service_name))
        on_resource = [pair for pair in on_resource if pair[0] not in settings.resource_attributes]
        resource = self._encode(RESOURCE_ATTRIBUTE, [*given, *on_resource, *self._as_is(Group.WORKLOAD, values)])
        record = self._encode(RECORD_ATTRIBUTE, [*on_record, ("kubearmor.labels", values.text("Labels"))])
        if labels_left_out:
            self._cut.append("k8s.pod.label")
        namespace, pod_name = values.text("NamespaceName"), values.text("PodName")
        inside = "/".join(name for name in (namespace, pod_name or values.text("ContainerName")) if name)
        host = values.text("HostName")
        where = f" in {inside}" if inside else f" on {host}" if host else ""
        canonical = [(name, held) for name, held in values.canonical() if name != "Labels"]
        labels = list(parse_labels(values.text("Labels")).items())
        return WorkloadPart(
            resource=resource,
            attributes=record,
            where=_words(where),
            digest=digest_of([*canonical, *labels]),
            node=self._tally.admit_node(host),
            namespace=clip(namespace, MAX_WORDS_BYTES),
            container=(values.text("ClusterName"), host, values.text("ContainerID")),
            weight=self._weight(cut_before, key, len(resource) + len(record)),
        )

    def make_rule(self, key: Key) -> RulePart:
        """From the values of the group `rule`."""
        values = Values(self.rule.names, key)
        settings = self._settings
        cut_before = len(self._cut)
        ruling = (
            rule_on_alert(values, mitre=settings.mitre_techniques)
            if self._stream is Stream.ALERTS
            else rule_on_log(values)
        )
        pairs: list[Attribute] = [
            ("kubearmor.stream", str(self._stream)),
            ("event.name", ruling.event_name if settings.event_name_attribute else ""),
            *ruling.attributes,
            *self._as_is(Group.RULE, values),
        ]
        encoded = self._encode(RECORD_ATTRIBUTE, pairs)
        number = self._severity[ruling.situation][ruling.level]
        kind = self._kind(ruling, values)
        return RulePart(
            head=head(number, ruling.event_name),
            attributes=encoded,
            before=_words(ruling.before) + b" ",
            after=_words(ruling.after),
            digest=digest_of(values.canonical()),
            operation=values.text("Operation"),
            kind=kind,
            counts=self._tally.counts(kind) if self._stream is Stream.ALERTS else {},
            weight=self._weight(cut_before, key, len(encoded)),
        )

    def make_process(self, key: Key) -> ProcessPart:
        """From the values of the group `process`, and the enforcer."""
        values = Values(self.process.names, key)
        cut_before = len(self._cut)
        pairs = [*process_attributes(values, values.text("Enforcer")), *self._as_is(Group.PROCESS, values)]
        encoded = self._encode(RECORD_ATTRIBUTE, pairs)
        executable, parent = values.text("ProcessName"), values.text("ParentProcessName")
        canonical = [(name, held) for name, held in values.canonical() if name != "Enforcer"]
        return ProcessPart(
            attributes=encoded,
            parent=parent,
            by_executable=_by(executable),
            by_parent=_by(parent),
            digest=digest_of(canonical),
            weight=self._weight(cut_before, key, len(encoded)),
        )

    def make_detail(self, key: tuple[str, str]) -> DetailPart:
        """From Operation and Data."""
        operation, data = key
        cut_before = len(self._cut)
        found = detail(operation, data)
        keep_raw = self._settings.keep_raw
        if keep_raw:
            found.attributes.append(("kubearmor.data", data))
        encoded = self._encode(RECORD_ATTRIBUTE, found.attributes)
        # Without the raw texts EventData is the only place left for what is not parsed, so all of it is kept.
        known = event_data_of(data) if keep_raw else {}
        return DetailPart(
            attributes=encoded,
            role=found.role,
            pairs=found.pairs,
            known=_known(known),
            digest=digest_of([("Data", data)]),
            weight=self._weight(cut_before, key, 4 * len(data)),
        )

    def make_touched(self, key: tuple[str, str, str], seen: DetailPart) -> TouchedPart:
        """From Operation, Data and Resource, where they say something only together."""
        operation, data, resource = key
        cut_before = len(self._cut)
        pairs = list(detail_with_resource(operation, seen.pairs, data, resource))
        keep_raw = self._settings.keep_raw
        if keep_raw or not any(value for _, value in pairs):
            pairs.append(("kubearmor.resource", resource))
        encoded = self._encode(RECORD_ATTRIBUTE, pairs)
        identifying, known = resource, seen.known
        if operation == "Network":
            identifying = without_remote_host(resource)
            if keep_raw:
                known = _known({**dict(zip(*known, strict=True)), **event_data_of(identifying)})
        return TouchedPart(
            attributes=encoded,
            known=known,
            digest=digest_of([("Resource", identifying)]),
            weight=self._weight(cut_before, key, 4 * len(resource)),
        )

    def make_form(self, key: FormKey) -> FormPart:
        """From a form, Data and Resource."""
        cut_before = len(self._cut)
        found = facts(key)
        encoded = self._encode(RECORD_ATTRIBUTE, found.attributes)
        word = key[0].event_data_key
        keys, texts = _known({name: text for name, text in found.known.items() if name != word})
        return FormPart(
            attributes=encoded,
            known=((*keys, word), texts),
            digest=digest_of([("Data and Resource", found.identifying)]),
            weight=self._weight(cut_before, key[1:], 4 * len(encoded)),
        )

    def _as_is(self, group: Group, values: Values) -> list[Attribute]:
        return [(key, held) for key, name in as_is(self._fields, group) if (held := values.raw(name))]

    def _encode(self, tag: bytes, pairs: Iterable[Attribute]) -> bytes:
        return attributes(tag, pairs, self._settings.max_value_bytes, self._cut)

    def _weight(self, cut_before: int, key: Key, encoded_bytes: int) -> int:
        if len(self._cut) > cut_before:
            return 0
        return ENTRY_OVERHEAD_BYTES + encoded_bytes + sum(len(held) for held in key if isinstance(held, str))

    def _kind(self, ruling: Ruling, values: Values) -> AlertKind:
        action = values.text("Action")
        return (
            ruling.operation,
            action if action in METRIC_ACTIONS else OTHER,
            ruling.outcome,
            clip(values.text("PolicyName"), MAX_WORDS_BYTES),
        )


def _known(event_data: dict[str, str]) -> Known:
    return tuple(event_data), [*event_data.values()]


def _words(text: str) -> bytes:
    return clip(one_line(text), MAX_WORDS_BYTES).encode()


def _by(executable: str) -> bytes:
    return _words(f" by {executable}") if executable else b""
