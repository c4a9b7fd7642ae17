"""Drops batches: those that have to go when the queue is full, and those that are too old."""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

from otelbridge.event import STREAM_BY_RANK, Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.disk import DiskError
from otelbridge.queue.model import Batch, Change, Row, Span
from otelbridge.queue.settings import QueueSettings, nanos
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import sequence_of, span_of

Policy = Literal["drop_oldest", "drop_newest", "logs_first"]

# From what can be missed most easily to what must never be missed. Gap records are few, small, and the only witnesses
# of what could not be seen, so every policy spares them until nothing else is left.
SHEDDING_ORDER = tuple(reversed(STREAM_BY_RANK))


def shed_from(policy: Policy, newcomer: Stream) -> tuple[tuple[Stream, ...], ...]:
    """Groups of streams to shed from, one group after the other; within a group, the oldest batch goes first.

    When all groups are empty, the newcomer itself goes. Spans tell nothing that the records do not: they go first.
    """
    spans, records = SHEDDING_ORDER[:1], SHEDDING_ORDER[1:]
    if newcomer is Stream.SPANS:
        return (spans,)
    if newcomer is Stream.GAPS or policy == "drop_oldest":
        return (spans, records[:-1], records[-1:])
    if policy == "drop_newest":
        return (spans,)
    return tuple((stream,) for stream in SHEDDING_ORDER[: SHEDDING_ORDER.index(newcomer) + 1])


class Overflow:
    """Makes room by the operator's policy, and drops what is past its age."""

    def __init__(self, settings: QueueSettings, state: QueueState) -> None:
        self._settings = settings
        self._state = state
        self.shed: dict[tuple[Stream, str], int] = {}
        """Records dropped since somebody last said so, per stream and reason."""

    def make_room(
        self, newcomer: Batch, excess: int, change: Change, passed: dict[Stream, int], *, memory_only: bool
    ) -> bool:
        """Adds the deletion of what has to make room to the change; False where the newcomer itself has to go.

        Args:
            newcomer: the batch that does not fit.
            excess: by how many bytes.
            change: what will be written.
            passed: per stream, the first id that this change has not shed yet; kept by us from call to call.
            memory_only: whether only batches in memory can make room.
        """
        for group in shed_from(self._settings.overflow, newcomer.stream):
            while excess > 0:
                victim = self._oldest(group, passed, memory_only=memory_only)
                if victim is None:
                    break
                stream, first, row = victim
                self._discard(stream, first, [row], self._reason(), change)
                passed[stream] = row.id + 1
                excess -= row.bytes
        return excess <= 0

    def drop(self, newcomer: Batch) -> None:
        """Counts a batch that found no room."""
        self._drop(newcomer.stream, newcomer.records, self._reason())

    def expire(self, change: Change, most: int) -> bool:
        """Adds the deletion of batches past their age to the change; True when there may be more."""
        state = self._state
        cutoff = state.clock.now() - nanos(self._settings.max_age_seconds)
        more = False
        for stream in [stream for stream in Stream if state.counts.batches[stream]]:
            found = state.first_free(stream, span_of(stream).first, most)
            if found is None:
                continue
            gap, rows = found
            old = list(takewhile(lambda row: row.oldest_received_unix_nano < cutoff, rows))
            if old:
                self._discard(stream, gap.first, old, "expired", change)
                more = more or len(old) == most
        return more

    def _reason(self) -> str:
        return "queue_full" if self._state.file.error in (None, DiskError.FULL) else "disk_error"

    def _drop(self, stream: Stream, records: int, reason: str) -> None:
        """Counts records as dropped."""
        self._state.checkpoint.ledger.post(Posting(stream, Account.DROPPED, reason, records))
        self.shed[stream, reason] = self.shed.get((stream, reason), 0) + records

    def _oldest(
        self, group: tuple[Stream, ...], passed: dict[Stream, int], *, memory_only: bool
    ) -> tuple[Stream, int, Row] | None:
        state = self._state
        found: list[tuple[int, Stream, int, Row]] = []
        for stream in group:
            if not state.counts.batches[stream]:
                continue
            first = passed.get(stream, span_of(stream).first)
            if free := state.first_free(stream, first, 1, memory_only=memory_only):
                gap, rows = free
                found.append((sequence_of(rows[0].id), stream, gap.first, rows[0]))
        if not found:
            return None
        _, stream, first, row = min(found)
        return stream, first, row

    def _discard(self, stream: Stream, since: int, rows: list[Row], reason: str, change: Change) -> None:
        state = self._state
        span = Span(rows[0].id, rows[-1].id)
        if not all(state.memory.alone(row.id) for row in rows):
            change.deletes.append(span)
            state.settled_up_to(stream, since, span.last)
        state.memory.remove(span)
        self._drop(stream, state.counts.remove(stream, rows), reason)
