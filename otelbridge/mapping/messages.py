"""What KubeArmor says about itself in, log records out. Only a KubeArmor with debug on sends these: no hot path."""

from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.mapping.body import as_json, as_map, one_line
from otelbridge.mapping.fields import MESSAGE_FIELDS
from otelbridge.mapping.identity import digest_of, uid
from otelbridge.mapping.instant import Instant
from otelbridge.mapping.memo import Memo
from otelbridge.mapping.parts import Key, Parts
from otelbridge.mapping.plain import log_record
from otelbridge.mapping.remembered import WorkloadPart
from otelbridge.mapping.request import Record
from otelbridge.mapping.rule import MESSAGE_EVENT
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import MESSAGE_SITUATIONS, Situation, severity_table
from otelbridge.mapping.tally import Tally
from otelbridge.mapping.wire import Attribute, Value, clip
from otelbridge.pb import kubearmor_pb2 as pb

MAX_NODES_REMEMBERED = 1024
MAX_REMEMBERED_BYTES = 1 << 20


class MessageLane:
    """Maps KubeArmor's messages about itself."""

    def __init__(self, settings: MappingSettings, tally: Tally) -> None:
        self._settings = settings
        self._tally = tally
        self._severity = severity_table(settings.severity)
        self._instant = Instant()
        self._cut: list[str] = []
        parts = Parts(settings, Stream.MESSAGES, pb.Message, fields=MESSAGE_FIELDS, cut=self._cut, tally=tally)
        self._fetch = parts.workload.fetch
        self._places: Memo[Key, WorkloadPart] = Memo(
            parts.make_workload, max_entries=MAX_NODES_REMEMBERED, max_bytes=MAX_REMEMBERED_BYTES
        )

    def map(self, message: pb.Message, received_unix_nano: int, rare: list[Attribute], dropped: int) -> Record:
        """Maps one message; the arguments are those of `Lane.map`."""
        settings, text = self._settings, message.Message
        key = self._fetch(message)
        place = self._places.recall(key) or self._places.learn(key)
        unix_nano = self._instant.unix_nano(message.UpdatedTime, message.Timestamp)
        line = clip(one_line(text), settings.max_body_bytes)
        bodies: dict[str, Value] = {"text": line}
        if settings.body == "map":
            bodies["map"] = as_map(message, settings.max_value_bytes)
        if settings.body == "json" or settings.keep_original:
            bodies["json"] = as_json(message, settings.max_value_bytes)
        identity = [
            "messages", place.digest, message.Timestamp, message.UpdatedTime, message.Type, message.Level, text
        ]  # fmt: skip
        body = bodies[settings.body]
        pairs: list[Attribute] = [
            ("kubearmor.stream", str(Stream.MESSAGES)),
            ("event.name", MESSAGE_EVENT if settings.event_name_attribute else ""),
            ("kubearmor.type", message.Type),
            ("kubearmor.level", message.Level),
            ("kubearmor.message", text if body != text else ""),
            *self._instant.odd(message.UpdatedTime, message.Timestamp, unix_nano),
            ("log.record.original", bodies["json"] if settings.keep_original else ""),
            ("log.record.uid", uid(digest_of([(str(value), "") for value in identity])).decode()),
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
        return Record(Stream.MESSAGES, place.resource, encoded, unix_nano)
