"""Admits batches within the queue's bounds, drops what has to go for them, and what is too old."""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

from otelbridge.event import Stream
from otelbridge.queue.disk import DiskError
from otelbridge.queue.memory import measure
from otelbridge.queue.model import Batch, Change, Row, Span, row_id, sequence_of, span_of
from otelbridge.queue.settings import QueueSettings, nanos
from otelbridge.queue.state import QueueState
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


GAPS_EXTRA_BYTES = 1024 * 1024  # beyond the bound, for the records that say what was lost by it


class Admission:
    """Admits batches within the bounds, by the operator's overflow policy."""

    def __init__(self, settings: QueueSettings, state: QueueState) -> None:
        self._settings = settings
        self._state = state
        self.shed: dict[tuple[Stream, str], int] = {}
        """Records dropped since somebody last said so, per stream and reason."""

    def admit(self, batch: Batch, change: Change, passed: dict[Stream, int]) -> None:
        """Adds a batch to the change, and the deletion of what has to make room for it; or drops the batch.

        Args:
            batch: the newcomer.
            change: what will be written.
            passed: per stream, the first id that this change has not shed yet; kept by us from call to call.
        """
        state = self._state
        size = len(batch.request)
        bound = self._settings.max_bytes + (GAPS_EXTRA_BYTES if batch.stream is Stream.GAPS else 0)
        excess = state.counts.total_bytes() + size - bound
        memory_only = False
        if state.disk_error is not None:
            in_memory = state.memory.bytes + size - self._settings.memory_max_bytes
            memory_only = in_memory > 0
            excess = max(excess, in_memory)
        if excess > 0 and not self._make_room(batch.stream, excess, change, passed, memory_only=memory_only):
            self.drop(batch.stream, batch.records, self._reason())
            return
        batch = state.dated(batch)
        batch_id = row_id(batch.stream, state.checkpoint.next_sequence)
        state.checkpoint.next_sequence += 1
        change.inserts[batch_id] = batch
        state.counts.add(batch.stream, measure(batch_id, batch))

    def drop(self, stream: Stream, records: int, reason: str) -> None:
        """Posts records as dropped."""
        self._state.checkpoint.ledger.post(Posting(stream, Account.DROPPED, reason, records))
        self.shed[stream, reason] = self.shed.get((stream, reason), 0) + records

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
        return "queue_full" if self._state.disk_error in (None, DiskError.FULL) else "disk_error"

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
        self.drop(stream, state.counts.remove(stream, rows), reason)
