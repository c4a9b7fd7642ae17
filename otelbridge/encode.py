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
        self._map = mapper.map if latest is None else latest.noting(mapper.map)
        # A rule, or a look at the latest events, needs the event decoded.
        self._fastpath = mapper.fastpath if gate.open and latest is None else {}
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
        judged = None
        try:
            if stream in self._fastpath:
                record = self._fastpath[stream](body, received_unix_nano)
                if record is not None:
                    return record
            decoded = decode(stream, body)
            if decoded.how != "strict":
                self.findings.note_damage(stream, event.upstream, decoded.how, decoded.why)
            if not self._gate.open and not self._passes(stream, decoded):
                return None
            judged = decoded
            if stream is Stream.ALERTS:
                self._note_throttling(decoded, event)
            return self._map(stream, decoded, received_unix_nano)
        except Exception as fault:  # noqa: BLE001 - a fault of ours in one event must not end the road for all others
            return self._as_bytes(event, judged, fault, received_unix_nano)

    def _as_bytes(
        self, event: RawEvent, judged: Decoded | None, fault: Exception, received_unix_nano: int
    ) -> Record | None:
        """The event as evidence that a fault of ours kept from being read.

        Args:
            event: as it came in.
            judged: what the gate has passed, secrets blacked out; None where the fault came before that.
            fault: what was raised.
            received_unix_nano: clamped.
        """
        stream, body, _, upstream = event
        why = f"a fault of the bridge: {fault!r}"
        try:
            if judged is not None and judged.how != "raw":
                body = judged.message.SerializeToString() or body
            elif self._gate.redacts:
                body = b""  # bytes that nobody has read may hold what must not be shown
            record = self._mapper.map(stream, Decoded(Alert(), "raw", why, body=body), received_unix_nano)
        except Exception as another:  # noqa: BLE001 - nothing is left to be tried
            self.findings.drop(stream, upstream, another)
            return None
        self.findings.note_damage(stream, upstream, "raw", why)
        return record

    def _passes(self, stream: Stream, decoded: Decoded) -> bool:
        if decoded.how == "raw":
            return True  # bytes that no rule can read are evidence all the same
        verdict = self._gate.judge(stream, decoded.message)
        self.findings.redacted += verdict.redactions > 0
        if not verdict.keep:
            self.findings.filtered[stream, verdict.rule] += 1
        return verdict.keep

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
