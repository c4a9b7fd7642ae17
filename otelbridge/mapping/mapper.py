"""TO OTLP: a decoded event in, an encoded LogRecord and its resource out; a gap becomes a record too."""

from __future__ import annotations

from collections.abc import Callable

from otelbridge.event import Gap, Stream
from otelbridge.mapping.decode import Decoded, Event
from otelbridge.mapping.fastpath_cache import compiled_mapping
from otelbridge.mapping.model import MappingCounts
from otelbridge.mapping.record_encoder import RecordEncoder
from otelbridge.mapping.request import Record, assembler
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.synthetic import MessageEncoder, gap_record, raw_record
from otelbridge.mapping.wire import Attribute
from otelbridge.pb import kubearmor_pb2 as pb

__all__ = ["Mapper", "Record"]

MAX_UNKNOWN_FIELDS = 32  # on a record; the others are counted as dropped


class Mapper:
    """Maps events one by one. It knows no clock and no socket; it is used by one thread, its counts are read by any."""

    def __init__(self, settings: MappingSettings, *, version: str) -> None:
        self._settings = settings
        self.assemble = assembler(version, native=settings.native)
        """Records in, an encoded ExportLogsServiceRequest out."""
        self.tally = MappingCounts()
        """What was odd about the events, as plain integers."""
        alerts = RecordEncoder(settings, Stream.ALERTS, pb.Alert, self.tally)
        logs = RecordEncoder(settings, Stream.LOGS, pb.Log, self.tally)
        self._lanes: dict[Stream, Callable[..., Record]] = {
            Stream.ALERTS: alerts.map,
            Stream.LOGS: logs.map,
            Stream.MESSAGES: MessageEncoder(settings, self.tally).map,
        }
        self._unix_nano = alerts.unix_nano
        self.fastpath: dict[Stream, Callable[[bytes, int], Record | None]] = {
            stream: fastpath
            for lane, stream, kind in ((alerts, Stream.ALERTS, pb.Alert), (logs, Stream.LOGS, pb.Log))
            if (fastpath := compiled_mapping(lane, settings, stream, kind, self.tally)) is not None
        }
        """By stream: encoded event and time of receipt in, its record out; None where `map` has to look at the event.
        Empty where that lane is not compiled, or not wanted."""

    def map(self, stream: Stream, decoded: Decoded, received_unix_nano: int) -> Record:
        """One event as a record; never raises.

        Args:
            stream: where it came from.
            decoded: what `decode` made of it.
            received_unix_nano: when the bridge received it.
        """
        message, how, _, unknown, sanitized, _ = decoded
        if how == "strict" and not unknown and not sanitized:
            return self._lanes[stream](message, received_unix_nano, [], 0)
        return self._map_odd(stream, decoded, received_unix_nano)

    def gap(self, gap: Gap, *, observed_unix_nano: int = 0) -> Record:
        """A stretch of blindness as a record; observed when it ended, unless told otherwise."""
        return gap_record(gap, self._settings, observed_unix_nano or gap.ended_unix_nano)

    def event_unix_nano(self, message: Event) -> int:
        """When the event happened, or 0 where it does not tell."""
        return self._unix_nano(message.UpdatedTime, message.Timestamp)

    def alert_counts(self) -> dict[tuple[str, str, str, str, str], int]:
        """Alerts mapped so far by namespace, operation, action, outcome and policy; bounded."""
        return {
            (namespace, *kind): count
            for kind, counts in self.tally.alerts.copy().items()
            for namespace, count in counts.copy().items()
        }

    def take_nodes(self) -> dict[str, int]:
        """The nodes of the events since the last call, each with its last receipt (Unix time in nanoseconds)."""
        nodes = self.tally.nodes.copy()
        self.tally.nodes.clear()
        nodes.pop("", None)
        return nodes

    def _map_odd(self, stream: Stream, decoded: Decoded, received_unix_nano: int) -> Record:
        tally = self.tally
        if decoded.how == "raw":
            tally.raw += 1
            record, truncated = raw_record(stream, decoded.body, decoded.why, self._settings, received_unix_nano)
            tally.truncated += truncated
            return record
        tally.lenient += decoded.how == "lenient"
        tally.sanitized += decoded.how == "lenient" or decoded.sanitized
        tally.unknown_fields += len(decoded.unknown)
        rare: list[Attribute] = [
            ("kubearmor.decode", "lenient" if decoded.how == "lenient" else ""),
            ("kubearmor.sanitized", ["nul"] if decoded.sanitized else []),
            ("kubearmor.unknown_fields", decoded.unknown[:MAX_UNKNOWN_FIELDS]),
        ]
        left_out = max(0, len(decoded.unknown) - MAX_UNKNOWN_FIELDS)
        return self._lanes[stream](decoded.message, received_unix_nano, rare, left_out)
