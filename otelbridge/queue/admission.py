"""Is there room? Newcomers and the bounds go in; what has to go for them comes out as part of the same change."""

from __future__ import annotations

from typing import Literal

from otelbridge.event import Stream
from otelbridge.queue.disk import DiskError
from otelbridge.queue.memory import measure
from otelbridge.queue.model import Batch, Change, Row, Span, row_id, sequence_of, span_of
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.state import QueueState, rows_of
from otelbridge.telemetry.ledger import Account, Posting

Policy = Literal["drop_oldest", "drop_newest", "logs_first"]

# From what can be missed most easily to what must never be missed. Gap records are few, small, and the only witnesses
# of what could not be seen, so every policy spares them until nothing else is left.
SHEDDING_ORDER = (Stream.LOGS, Stream.MESSAGES, Stream.ALERTS, Stream.GAPS)


def shed_from(policy: Policy, newcomer: Stream) -> tuple[tuple[Stream, ...], ...]:
    """Groups of streams to shed from, one group after the other; within a group, the oldest batch goes first.

    When all groups are empty, the newcomer itself goes.
    """
    if newcomer is Stream.GAPS or policy == "drop_oldest":
        return ((Stream.LOGS, Stream.MESSAGES, Stream.ALERTS), (Stream.GAPS,))
    if policy == "drop_newest":
        return ()
    return tuple((stream,) for stream in SHEDDING_ORDER[: SHEDDING_ORDER.index(newcomer) + 1])


GAPS_ROOM_BYTES = 1024 * 1024  # beyond the bound, for the records that say what was lost by it


class Admission:
    """Admits batches within the bounds, by the operator's overflow policy."""

    def __init__(self, settings: QueueSettings, holding: QueueState) -> None:
        self._settings = settings
        self._holding = holding
        self.shed: dict[tuple[Stream, str], int] = {}
        """Records dropped since somebody last said so, per stream and reason."""

    def admit(self, batch: Batch, change: Change, passed: dict[Stream, int]) -> None:
        """Adds a batch to the change, and the deletion of what has to make room for it; or drops the batch.

        Args:
            batch: the newcomer.
            change: what will be written.
            passed: per stream, the first id that this change has not shed yet; kept by us from call to call.
        """
        holding = self._holding
        size = len(batch.request)
        bound = self._settings.max_bytes + (GAPS_ROOM_BYTES if batch.stream is Stream.GAPS else 0)
        excess = holding.counts.total_bytes() + size - bound
        memory_only = False
        if holding.weather is not None:
            in_memory = holding.room.bytes + size - self._settings.memory_max_bytes
            memory_only = in_memory > 0
            excess = max(excess, in_memory)
        if excess > 0 and not self._make_room(batch.stream, excess, change, passed, memory_only=memory_only):
            self.drop(batch.stream, batch.records, self._reason())
            return
        batch_id = row_id(batch.stream, holding.books.next_sequence)
        holding.books.next_sequence += 1
        change.inserts[batch_id] = batch
        holding.counts.add(batch.stream, measure(batch_id, batch))

    def drop(self, stream: Stream, records: int, reason: str) -> None:
        """Posts records as dropped."""
        self._holding.books.ledger.post(Posting(stream, Account.DROPPED, reason, records))
        self.shed[stream, reason] = self.shed.get((stream, reason), 0) + records

    def expire(self, now_unix_nano: int, change: Change, most: int) -> bool:
        """Adds the deletion of batches past their age to the change; True when there may be more."""
        holding = self._holding
        cutoff = now_unix_nano - int(self._settings.max_age_seconds * 1e9)
        more = False
        for stream in [stream for stream in Stream if holding.counts.batches[stream]]:
            for gap in holding.desk.gaps(stream):
                rows = rows_of(holding, gap, most)
                old = []
                for row in rows:
                    if row.oldest_received_unix_nano >= cutoff:
                        break
                    old.append(row)
                if old:
                    self._discard(stream, gap.first, old, "expired", change)
                    more = more or len(old) == most
                if rows:
                    break
        return more

    def _reason(self) -> str:
        return "disk_error" if self._holding.weather in (DiskError.TROUBLE, DiskError.DAMAGE) else "queue_full"

    def _make_room(
        self, newcomer: Stream, excess: int, change: Change, passed: dict[Stream, int], *, memory_only: bool
    ) -> bool:
        for group in shed_from(self._settings.overflow, newcomer):
            while excess > 0:
                victim = self._oldest(group, passed, memory_only=memory_only)
                if victim is None:
                    break
                stream, first, row = victim
                self._discard(stream, first, [row], self._reason(), change)
                passed[stream] = row.id + 1
                excess -= row.bytes
        return excess <= 0

    def _oldest(
        self, group: tuple[Stream, ...], passed: dict[Stream, int], *, memory_only: bool
    ) -> tuple[Stream, int, Row] | None:
        holding = self._holding
        found: list[tuple[int, Stream, int, Row]] = []
        for stream in group:
            if not holding.counts.batches[stream]:
                continue
            for gap in holding.desk.gaps(stream, passed.get(stream, span_of(stream).first)):
                rows = holding.room.measures(gap, 1) if memory_only else rows_of(holding, gap, 1)
                if rows:
                    found.append((sequence_of(rows[0].id), stream, gap.first, rows[0]))
                    break
        if not found:
            return None
        _, stream, first, row = min(found)
        return stream, first, row

    def _discard(self, stream: Stream, since: int, rows: list[Row], reason: str, change: Change) -> None:
        holding = self._holding
        span = Span(rows[0].id, rows[-1].id)
        if not all(holding.room.alone(row.id) for row in rows):
            change.deletes.append(span)
            holding.settled_up_to(stream, since, span.last)
        holding.room.remove(span)
        self.drop(stream, holding.counts.remove(stream, rows), reason)
