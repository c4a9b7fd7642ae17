"""Maps a decoded event, or a gap, to an encoded LogRecord and its resource."""

from __future__ import annotations

from collections.abc import Mapping

from otelbridge.event import Flood, Gap, Stream
from otelbridge.mapping.decode import KINDS, Decoded, Event
from otelbridge.mapping.fastpath_cache import Compiled, Screen, compiled_mapping
from otelbridge.mapping.model import MappingCounts
from otelbridge.mapping.parts import Parts
from otelbridge.mapping.process_spans import ProcessSpans
from otelbridge.mapping.record_encoder import RecordEncoder
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.synthetic import MessageEncoder, flood_record, gap_record, raw_record, raw_uid
from otelbridge.mapping.wire import Attribute, Record, assembler
from otelbridge.pb import kubearmor_pb2 as pb

__all__ = ["Mapper", "Record"]

MAX_UNKNOWN_FIELDS = 32  # on a record; the others are counted as dropped


class Mapper:
    """Maps events one by one. It knows no clock and no socket; it is used by one thread, its counts are read by any."""

    def __init__(
        self,
        settings: MappingSettings,
        *,
        version: str,
        instance: str = "",
        tally: MappingCounts | None = None,
        processes: ProcessSpans | None = None,
    ) -> None:
        """Makes a mapper; after a reload it goes on with the counts and processes of the one before."""
        self._settings = settings
        self.assemble = assembler(version, instance=instance, native=settings.native)
        """Records in, an encoded ExportLogsServiceRequest out."""
        self.tally = tally or MappingCounts()
        """What was odd about the events, as plain integers."""
        self.processes = (
            ProcessSpans(settings, processes.tree if processes else None) if settings.process_traces else None
        )
        """What makes spans of processes, where that is asked for."""
        operations = [(stream, kind) for stream, kind in KINDS.items() if kind is not pb.Message]
        parts = Parts(settings, self.tally)
        self._of_operations = [RecordEncoder(stream, kind, parts) for stream, kind in operations]
        self._encoders: dict[Stream, RecordEncoder | MessageEncoder] = {
            Stream.MESSAGES: MessageEncoder(settings, self.tally),
            **{encoder.stream: encoder for encoder in self._of_operations},
        }

    def compiled(self, screens: Mapping[Stream, Screen] | None = None) -> dict[Stream, Compiled]:
        """The fast path of each stream that has one, with the rules that screen it.

        Empty where it was not compiled, or the settings ask for something that it cannot do.
        """
        made: dict[Stream, Compiled] = {}
        for encoder in self._of_operations:
            screen = screens.get(encoder.stream) if screens else None
            mapping = compiled_mapping(encoder, screen=screen, tracing=self.processes)
            if mapping is not None:
                made[encoder.stream] = mapping
        return made

    def map(self, stream: Stream, decoded: Decoded, received_unix_nano: int, event_uid: bytes = b"") -> Record:
        """One event as a record; `event_uid` is what `uid` said, where the message was changed since it was decoded."""
        message, how, _, unknown, sanitized, _ = decoded
        if how == "strict" and not unknown and not sanitized:
            return self._encoders[stream].map(message, received_unix_nano, [], event_uid=event_uid)
        tally = self.tally
        if how == "raw":
            tally.raw += 1
            record, truncated = raw_record(decoded, stream, self._settings, received_unix_nano, event_uid)
            tally.truncated += truncated
            return record
        tally.sanitized += how == "lenient" or sanitized
        tally.unknown_fields += len(unknown)
        rare: list[Attribute] = [
            ("kubearmor.decode", "lenient" if how == "lenient" else ""),
            ("kubearmor.sanitized", ["nul"] if sanitized else []),
            ("kubearmor.unknown_fields", unknown[:MAX_UNKNOWN_FIELDS]),
        ]
        left_out = max(0, len(unknown) - MAX_UNKNOWN_FIELDS)
        return self._encoders[stream].map(
            message, received_unix_nano, rare, left_out, marks=_marks(decoded), event_uid=event_uid
        )

    def uid(self, stream: Stream, decoded: Decoded) -> bytes:
        """`log.record.uid` of the event as it is now, for whoever is about to change it."""
        if decoded.how == "raw":
            return raw_uid(stream, decoded.body)
        return self._encoders[stream].uid(decoded.message, _marks(decoded))

    def gap(self, gap: Gap, *, observed_unix_nano: int = 0) -> Record:
        """A gap as a record; observed when it ended, unless told otherwise."""
        return gap_record(gap, self._settings, observed_unix_nano or gap.ended_unix_nano)

    def flood(self, flood: Flood, *, observed_unix_nano: int) -> Record:
        """A flood as a record."""
        return flood_record(flood, self._settings, observed_unix_nano)

    def event_unix_nano(self, message: Event) -> int:
        """When the event happened, or 0 where it does not tell."""
        return self._of_operations[0].instant.unix_nano(message.UpdatedTime, message.Timestamp)


def _marks(decoded: Decoded) -> str:
    """What tells the event from one that holds the same texts."""
    if decoded.how == "strict" and not decoded.unknown and not decoded.sanitized:
        return ""
    return repr((decoded.how, decoded.sanitized, decoded.unknown))
