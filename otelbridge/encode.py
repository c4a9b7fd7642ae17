"""Turns one event into its record: decode, judge, redact, map; a fault on the way makes a raw record of it.

Nothing that an event holds may end the thread that encodes all others, so everything that reads an event stands inside
`EventEncoder.encode`.
"""

from __future__ import annotations

from collections import Counter

from otelbridge import clamp
from otelbridge.event import Gap, GapCause, RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.latest import RecentEvents
from otelbridge.mapping.decode import Decoded, decode
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.pb.kubearmor_pb2 import Alert
from otelbridge.telemetry.events import Event, EventDamaged, GapEnded


class EventEncoder:
    """Belongs to the encoder's thread. What it found on the way is kept until the thread takes it, once per turn."""

    def __init__(self, gate: Gate, mapper: Mapper, latest: RecentEvents | None = None) -> None:
        self._gate = gate
        self._mapper = mapper
        self._map = mapper.map if latest is None else latest.noting(mapper.map)
        # A rule, or a look at the latest events, needs the event decoded.
        self._fastpath = mapper.fastpath if gate.open and latest is None else {}
        self._filtered = Counter[tuple[Stream, str]]()
        self._damaged: dict[tuple[Stream, str, str], tuple[str, int]] = {}
        self._throttled: list[Gap] = []
        self.redacted = 0
        """Events in which a secret was blacked out."""

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return bool(self._fastpath)

    def encode(self, event: RawEvent) -> Record | None:
        """The event's record; None where a rule drops it. Never raises."""
        stream, body, received_unix_nano, _, _ = event
        if not 0 <= received_unix_nano <= clamp.MAX_UNIX_NANO:
            received_unix_nano = clamp.unix_nano(received_unix_nano)
        message = None
        try:
            if stream in self._fastpath:
                record = self._fastpath[stream](body, received_unix_nano)
                if record is not None:
                    return record
            decoded = decode(stream, body)
            if decoded.how != "strict":
                self._note_damage(event, decoded)
            message = decoded.message
            if not self._gate.open and not self._passes(stream, decoded):
                return None
            if stream is Stream.ALERTS:
                self._note_throttling(decoded, event)
            return self._map(stream, decoded, received_unix_nano)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one event must not end the road for all others
            # Not the bytes that came in: the gate may have blacked secrets out of the message since.
            evidence = body if message is None else message.SerializeToString() or body
            raw = Decoded(Alert(), "raw", f"the mapping failed: {error!r}", body=evidence)
            self._note_damage(event, raw)
            return self._mapper.map(stream, raw, received_unix_nano)

    def take_filtered(self) -> Counter[tuple[Stream, str]]:
        """Events dropped since last asked, by stream and rule."""
        taken, self._filtered = self._filtered, Counter()
        return taken

    def take_told(self) -> list[Event]:
        """What there is to tell since last asked; damage once per kind, so that a flood of it stays one event."""
        told: list[Event] = [
            EventDamaged(stream=stream, upstream=upstream, how=how, why=why, events=events)
            for (stream, upstream, how), (why, events) in self._damaged.items()
        ]
        told += [GapEnded(gap=gap) for gap in self._throttled]
        self._damaged.clear()
        self._throttled.clear()
        return told

    def _note_damage(self, event: RawEvent, decoded: Decoded) -> None:
        key = (event.stream, event.upstream, decoded.how)
        why, events = self._damaged.get(key, (decoded.why, 0))
        self._damaged[key] = (why, events + 1)

    def _passes(self, stream: Stream, decoded: Decoded) -> bool:
        if decoded.how == "raw":
            return True  # bytes that no rule can read are evidence all the same
        verdict = self._gate.judge(stream, decoded.message)
        self.redacted += verdict.redactions > 0
        if not verdict.keep:
            self._filtered[stream, verdict.rule] += 1
        return verdict.keep

    def _note_throttling(self, decoded: Decoded, event: RawEvent) -> None:
        """KubeArmor says that it will report nothing of a container for a while: a gap whose extent is known."""
        alert = decoded.message
        if not isinstance(alert, Alert) or alert.Operation != THROTTLING_OPERATION:
            return
        started = self._mapper.event_unix_nano(alert) or event.received_unix_nano
        limit = f"Its limit is {alert.MaxAlertsPerSec} alerts a second." if alert.MaxAlertsPerSec else ""
        self._throttled.append(
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
