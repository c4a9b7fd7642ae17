"""Turns one event into its record: decode, judge, redact, map; a fault on the way makes a raw record of it.

Nothing that an event holds may end the thread that encodes all others, so everything that reads an event stands inside
`EventEncoder.encode`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from otelbridge import clamp
from otelbridge.event import Gap, GapCause, RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.mapping.decode import Decoded, decode
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.pb.kubearmor_pb2 import Alert


@dataclass(slots=True)
class Findings:
    """What was found in the events of one turn, beside their records."""

    filtered: Counter[tuple[Stream, str]] = field(default_factory=Counter)
    """Events that a rule dropped, by stream and rule."""
    dropped: Counter[Stream] = field(default_factory=Counter)
    """Events that faults of ours left no record of."""
    damaged: dict[tuple[Stream, str, str], tuple[str, int]] = field(default_factory=dict)
    """Stream, upstream and how the events travelled on, to why the first did and their number."""
    throttled: list[Gap] = field(default_factory=list)
    redacted: int = 0
    """Events in which a secret was blacked out."""

    def note_damage(self, stream: Stream, upstream: str, how: str, why: str) -> None:
        """Counts an event that did not parse as it should."""
        first, events = self.damaged.get((stream, upstream, how), (why, 0))
        self.damaged[stream, upstream, how] = (first, events + 1)

    def drop(self, stream: Stream, upstream: str, fault: Exception) -> None:
        """Counts an event, or a gap, of which no record can be made."""
        self.dropped[stream] += 1
        self.note_damage(stream, upstream, "dropped", f"a fault of the bridge: {fault!r}")


class EventEncoder:
    """Belongs to the encoder's thread, which replaces `findings` at each turn."""

    def __init__(self, gate: Gate, mapper: Mapper, latest: RecentEvents | None = None) -> None:
        self._gate = gate
        self._mapper = mapper
        self._latest = latest
        # A rule asks for little, and its answers are kept with the parts; redaction has to read every text.
        self._fastpath = {} if gate.redacts else mapper.compiled(gate.screens)
        self.findings = Findings()

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return bool(self._fastpath)

    def encode(self, event: RawEvent) -> Record | None:
        """The event's record; None where a rule drops it, or where not even a raw record can be made. Never raises."""
        stream, body, received_unix_nano, _ = event
        if not 0 <= received_unix_nano <= clamp.MAX_UNIX_NANO:
            received_unix_nano = clamp.unix_nano(received_unix_nano)
        try:
            if stream in self._fastpath:
                mapped = self._fastpath[stream](body, received_unix_nano)
                if isinstance(mapped, str):
                    self.findings.filtered[stream, mapped] += 1
                    return None
                if mapped is not None:
                    if self._latest is not None:
                        self._latest.note(stream, received_unix_nano, body, mapped.encoded)
                    return mapped
            return self._by_reference(event, received_unix_nano)
        except Exception as fault:  # noqa: BLE001 - a fault of ours in one event must not end the road for all others
            raw = Decoded(Alert(), "raw", f"a fault of the bridge: {fault!r}", body=body)
            try:
                return self._as_bytes(event, received_unix_nano, raw)
            except Exception as another:  # noqa: BLE001 - nothing is left to be tried
                self.findings.drop(stream, event.upstream, another)
                return None

    def _by_reference(self, event: RawEvent, received_unix_nano: int) -> Record | None:
        stream, body, _, upstream = event
        decoded = decode(stream, body)
        if decoded.how == "raw":
            return self._as_bytes(event, received_unix_nano, decoded)
        message, event_uid = decoded.message, b""
        if not self._gate.open:
            verdict = self._gate.decide(stream, message)
            if not verdict.keep:
                self.findings.filtered[stream, verdict.rule] += 1
                return None
            secrets = self._gate.secrets(stream, message)
            if secrets is not None:
                event_uid = self._mapper.uid(stream, decoded)  # of the event as it was received
                secrets.apply(message)
                self.findings.redacted += 1
        if decoded.how != "strict":
            self.findings.note_damage(stream, upstream, decoded.how, decoded.why)
        if stream is Stream.ALERTS:
            self._note_throttling(decoded, event)
        record = self._mapper.map(stream, decoded, received_unix_nano, event_uid)
        if self._latest is not None:
            passed = message.SerializeToString() if event_uid else body
            self._latest.note(stream, received_unix_nano, passed, record.encoded)
        return record

    def _as_bytes(self, event: RawEvent, received_unix_nano: int, raw: Decoded) -> Record:
        """The event as evidence that nothing could read: no rule can, either."""
        stream, _, _, upstream = event
        event_uid = self._mapper.uid(stream, raw)
        try:
            shown = raw._replace(body=self._gate.without_secrets(raw.body))
        except Exception as fault:  # noqa: BLE001 - bytes that nobody has read may hold what must not be shown
            shown = raw._replace(why=f"a fault of the bridge: {fault!r}", body=b"")
        record = self._mapper.map(stream, shown, received_unix_nano, event_uid)
        self.findings.note_damage(stream, upstream, "raw", raw.why)
        if self._latest is not None:
            self._latest.note(stream, received_unix_nano, shown.body, record.encoded)
        return record

    def _note_throttling(self, decoded: Decoded, event: RawEvent) -> None:
        """KubeArmor says that it will report nothing of a container for a while: a gap whose extent is known."""
        alert = decoded.message
        if not isinstance(alert, Alert) or alert.Operation != THROTTLING_OPERATION:
            return
        started = self._mapper.event_unix_nano(alert) or event.received_unix_nano
        limit = f"Its limit is {alert.MaxAlertsPerSec} alerts a second." if alert.MaxAlertsPerSec else ""
        self.findings.throttled.append(
            Gap(
                stream=event.stream,
                upstream=event.upstream,
                cause=GapCause.THROTTLED,
                started_unix_nano=started,
                ended_unix_nano=clamp.unix_nano(started + alert.DroppingAlertsInterval * 1_000_000_000),
                node=alert.HostName,
                namespace=alert.NamespaceName,
                pod=alert.PodName,
                container=alert.ContainerName,
                detail=limit,
            )
        )
