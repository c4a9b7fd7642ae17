"""Makes the records of everything but alerts and logs: gaps, floods, undecodable events, KubeArmor's messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from otelbridge import clamp
from otelbridge.event import NANOSECONDS, STREAMS, Flood, Gap, Stream
from otelbridge.mapping.decode import KINDS, Decoded, Event, as_json, as_map
from otelbridge.mapping.fields import FIELDS, MESSAGE_FIELDS, Group
from otelbridge.mapping.model import Instant, MappingCounts, Memo, Values, WorkloadPart
from otelbridge.mapping.parts import Key, Parts, digest_of, shape, uid
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import (
    MESSAGE_EVENT,
    MESSAGE_SITUATIONS,
    Situation,
    rule_on_alert,
    rule_on_log,
    severity_table,
)
from otelbridge.mapping.wire import RESOURCE_ATTRIBUTE, Attribute, Record, Value, attributes, clip, log_record, one_line
from otelbridge.mapping.workload import WorkloadAttributes, workload_attributes
from otelbridge.pb import kubearmor_pb2 as pb

GAP_EVENT = "otelbridge.gap"
FLOOD_EVENT = "otelbridge.flood"
_GENERAL_FIELDS = {field.name.split(".")[0] for field in FIELDS if field.group in (Group.WORKLOAD, Group.RULE)}
MAX_RAW_BYTES = 1 << 20  # a quarter of the 4 MiB that a Collector takes by default
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {
    "disconnect": "the connection was lost",
    "heartbeat_loss": "the upstream did not answer",
    "throttled": "KubeArmor throttles this container",
    "overflow": "events came faster than the bridge could take them",
    "restart": "the bridge was not running",
    "corruption": "records held on disk could not be read back",
    "stall": "the upstream stood still for a while",
    "pause": "the bridge itself stood still for a while",
    "node_silent": "the node fell silent, against its habit",
}


def gap_record(gap: Gap, settings: MappingSettings, observed_unix_nano: int) -> Record:
    """The record of a gap; its time is the gap's start."""
    started, ended = clamp.unix_nano(gap.started_unix_nano), clamp.unix_nano(gap.ended_unix_nano)
    seconds = max(0.0, (ended - started) / NANOSECONDS)
    start, end = iso(started), iso(ended)
    values = Values(HostName=gap.node, NamespaceName=gap.namespace, PodName=gap.pod, ContainerName=gap.container)
    where = workload_attributes(values, settings)
    event_uid = _uid(
        gap.stream_name, gap.upstream, gap.cause, gap.started_unix_nano, gap.ended_unix_nano, gap.lost_records,
        gap.node, gap.namespace, gap.pod, gap.container,
    )  # fmt: skip
    pairs: list[Attribute] = [
        ("kubearmor.stream", gap.stream_name if gap.stream else ""),
        ("event.name", GAP_EVENT if settings.event_name_attribute else ""),
        ("otelbridge.gap.start", start),
        ("otelbridge.gap.end", end),
        ("otelbridge.gap.duration", seconds),
        ("otelbridge.gap.cause", str(gap.cause)),
        ("otelbridge.gap.stream", gap.stream_name),
        ("otelbridge.gap.upstream", gap.upstream),
        *([("otelbridge.gap.suspected", True)] if gap.suspected else []),
        ("otelbridge.gap.covered_by", gap.covered_by),
        ("otelbridge.gap.detail", gap.detail),
        *([("otelbridge.gap.attempts", gap.attempts)] if gap.attempts else []),
        *_count("otelbridge.gap.lost_records", gap.lost_records),
        *_count("otelbridge.gap.estimated_records", gap.estimated_records),
        ("log.record.uid", event_uid.decode()),
    ]
    number = severity_table(settings.severity)[Situation.GAP][0]
    return _own_record(
        GAP_EVENT, number, _sentence(gap, seconds, start), pairs, where, settings, started, observed_unix_nano
    )


def sample_of(message: Event) -> bytes:
    """An event without what is new with every event: where it happened, and what KubeArmor says about it."""
    sample = type(message)()
    for name in _GENERAL_FIELDS.intersection(message.DESCRIPTOR.fields_by_name):
        value = getattr(message, name)
        if isinstance(value, str | int):
            setattr(sample, name, value)
        else:
            getattr(sample, name).MergeFrom(value)
    return sample.SerializeToString()


def flood_record(flood: Flood, settings: MappingSettings, observed_unix_nano: int) -> Record:
    """The record of a flood, with severity, policy, resource and time of its first event."""
    message = KINDS[flood.stream].FromString(flood.sample)
    started, ended = clamp.unix_nano(flood.started_unix_nano), clamp.unix_nano(flood.ended_unix_nano)
    values, workload = (shape(type(message), FIELDS, group).read(message) for group in (Group.RULE, Group.WORKLOAD))
    where = workload_attributes(workload, settings)
    is_alert = flood.stream is Stream.ALERTS
    ruling = rule_on_alert(values, mitre=settings.mitre_techniques) if is_alert else rule_on_log(values)
    pairs: list[Attribute] = [
        ("kubearmor.stream", str(flood.stream)),
        ("event.name", FLOOD_EVENT if settings.event_name_attribute else ""),
        *ruling.attributes,
        ("otelbridge.flood.kind", flood.kind),
        ("otelbridge.flood.events", flood.events),
        ("otelbridge.flood.start", iso(started)),
        ("otelbridge.flood.end", iso(ended)),
        ("otelbridge.flood.processes", flood.processes),
        ("otelbridge.flood.process_examples", list(flood.process_examples)),
        ("otelbridge.flood.resources", flood.resources),
        ("otelbridge.flood.resource_examples", list(flood.resource_examples)),
        ("log.record.uid", _uid(flood.kind, started, ended, flood.events).decode()),
    ]
    seconds = (ended - started) / NANOSECONDS
    body = (
        f"{flood.events} {flood.stream} of one kind in {seconds:.0f} s, counted instead of sent: {flood.kind}; "
        f"{flood.processes} executables ({', '.join(flood.process_examples)}), "
        f"{flood.resources} resources ({', '.join(flood.resource_examples)})."
    )
    number = severity_table(settings.severity)[ruling.situation][ruling.level]
    return _own_record(FLOOD_EVENT, number, body, pairs, where, settings, started, observed_unix_nano)


def _own_record(  # noqa: PLR0917  # what its callers have at hand
    event_name: str,
    severity_number: int,
    body: str,
    pairs: list[Attribute],
    where: WorkloadAttributes,
    settings: MappingSettings,
    unix_nano: int,
    observed_unix_nano: int,
) -> Record:
    """A record that tells of events instead of being one."""
    encoded = log_record(
        unix_nano=unix_nano,
        observed_unix_nano=observed_unix_nano,
        severity_number=severity_number,
        event_name=event_name,
        body=clip(one_line(body), settings.max_body_bytes),
        pairs=pairs,
        limit_bytes=settings.max_value_bytes,
        cut=[],
    )
    resource = _resource(settings, [*where.service, *where.node, *where.pod, *where.container])
    return Record(Stream.GAPS, resource, encoded, unix_nano)


def raw_record(
    decoded: Decoded, stream: Stream, settings: MappingSettings, observed_unix_nano: int, event_uid: bytes = b""
) -> tuple[Record, bool]:
    """An event as its bytes; and whether it had to be cut."""
    body = decoded.body
    cut = ["body"] if len(body) > MAX_RAW_BYTES else []
    truncated = bool(cut)
    content: Value = body[:MAX_RAW_BYTES]
    encoded = log_record(
        unix_nano=0,
        observed_unix_nano=observed_unix_nano,
        severity_number=severity_table(settings.severity)[Situation.UNDECODABLE][0],
        event_name=STREAMS[stream].undecodable_event,
        body=content,
        pairs=[
            ("kubearmor.stream", str(stream)),
            ("kubearmor.decode", "raw"),
            ("kubearmor.decode_error", decoded.why),
            ("log.record.uid", (event_uid or raw_uid(stream, body)).decode()),
        ],
        limit_bytes=settings.max_value_bytes,
        cut=cut,
    )
    where = workload_attributes(Values(), settings)
    return Record(stream, _resource(settings, [*where.service, *where.node]), encoded, 0), truncated


def _uid(*identity: object) -> bytes:
    """`log.record.uid` of what is told apart by these values."""
    return uid(digest_of([(str(value), "") for value in identity]))


def raw_uid(stream: Stream, body: bytes) -> bytes:
    """`log.record.uid` of an event that nothing but its bytes is known of."""
    return uid(str(stream).encode() + body)


def iso(unix_nano: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    moment = _EPOCH + timedelta(microseconds=clamp.unix_nano(unix_nano) // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _sentence(gap: Gap, seconds: float, start: str) -> str:
    # A container that KubeArmor throttles is blind alone; everything else of the upstream is seen.
    blind_part = "/".join(filter(None, (gap.namespace, gap.pod, gap.container))) or gap.node or gap.upstream
    whose = f" of {blind_part}" if blind_part else ""
    missed = ""
    if gap.lost_records is not None:
        missed = f"; {gap.lost_records} records were lost"
    elif gap.estimated_records is not None:
        missed = f"; about {gap.estimated_records} records were missed"
    if gap.covered_by:
        missed += f"; {gap.covered_by} was watched all the time"
    detail = f" {gap.detail}" if gap.detail else ""
    could_not = "may not have been" if gap.suspected else "could not be"
    what = f"The {gap.stream}" if gap.stream else "The events"
    blind = f"{what}{whose} {could_not} seen for {seconds:.3f} s from {start}"
    return f"{blind}: {_WORDS[gap.cause]}{missed}.{detail}"


def _count(key: str, records: int | None) -> list[Attribute]:
    return [] if records is None else [(key, records)]


def _resource(settings: MappingSettings, pairs: list[Attribute]) -> bytes:
    given = settings.resource_attributes
    rest = [pair for pair in pairs if pair[0] not in given]
    return attributes(RESOURCE_ATTRIBUTE, [*given.items(), *rest], settings.max_value_bytes, [])


MAX_NODES_REMEMBERED = 1024
MAX_REMEMBERED_BYTES = 1 << 20


class MessageEncoder:
    """Maps KubeArmor's messages about itself."""

    def __init__(self, settings: MappingSettings, tally: MappingCounts) -> None:
        self._settings = settings
        self._tally = tally
        self._severity = severity_table(settings.severity)
        self._instant = Instant()
        parts, place = Parts(settings, tally), shape(pb.Message, MESSAGE_FIELDS, Group.WORKLOAD)
        self._cut = parts.cut
        self._fetch = place.fetch
        self._places: Memo[Key, WorkloadPart] = Memo(
            lambda key: parts.make_workload(place.values(key)), MAX_NODES_REMEMBERED, MAX_REMEMBERED_BYTES
        )

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
        """Maps one message; the arguments are those of `RecordEncoder.map`."""
        settings, text = self._settings, message.Message
        place = self._place(message)
        unix_nano = self._instant.unix_nano(message.UpdatedTime, message.Timestamp)
        line = clip(one_line(text[: settings.max_body_bytes + 1]), settings.max_body_bytes)
        bodies: dict[str, Value] = {"text": line}
        if settings.body == "map":
            bodies["map"] = as_map(message, settings.max_value_bytes)
        if settings.body == "json" or settings.keep_original:
            bodies["json"] = as_json(message, settings.max_value_bytes)
        body = bodies[settings.body]
        pairs: list[Attribute] = [
            ("kubearmor.stream", str(Stream.MESSAGES)),
            ("event.name", MESSAGE_EVENT if settings.event_name_attribute else ""),
            ("kubearmor.type", message.Type),
            ("kubearmor.level", message.Level),
            ("kubearmor.message", text if body != text else ""),
            *self._instant.odd(message.UpdatedTime, message.Timestamp, unix_nano),
            ("log.record.original", bodies["json"] if settings.keep_original else ""),
            ("log.record.uid", (event_uid or self.uid(message, marks)).decode()),
            *rare,
        ]
        truncated = bool(self._cut or dropped)
        encoded = log_record(
            unix_nano=unix_nano,
            observed_unix_nano=received_unix_nano,
            severity_number=self._severity[MESSAGE_SITUATIONS.get(message.Level, Situation.MESSAGE_INFO)][0],
            event_name=MESSAGE_EVENT,
            body=body,
            pairs=pairs,
            limit_bytes=settings.max_value_bytes,
            cut=self._cut,
            dropped=dropped,
        )
        self._tally.truncated += truncated or len(text.encode()) > settings.max_value_bytes
        self._tally.nodes[place.node] = received_unix_nano
        if self._tally.keeps_last:
            self._tally.last = (place.node, *self._tally.last[1:])
        return Record(Stream.MESSAGES, place.resource, encoded, unix_nano)

    def uid(self, message: Any, marks: str = "") -> bytes:
        """`log.record.uid` of a message as it is now."""
        return _uid(
            "messages", self._place(message).digest, message.Timestamp, message.UpdatedTime, message.Type,
            message.Level, message.Message, marks,
        )  # fmt: skip

    def _place(self, message: Any) -> WorkloadPart:
        key = self._fetch(message)
        return self._places.recall(key) or self._places.learn(key)
