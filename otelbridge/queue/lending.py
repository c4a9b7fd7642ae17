"""What goes out next: an order and a courier's limits go in, a lease on batches of one stream comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

from otelbridge.event import Stream
from otelbridge.queue.batch import Lease
from otelbridge.queue.desk import Loan
from otelbridge.queue.finding import all_is_found, batches_of, rows_of
from otelbridge.queue.holding import Holding
from otelbridge.queue.rows import Row, Span, row_id, sequence_of, span_of

FRESH_NANOS = 30_000_000_000  # with `fresh_first`, what arrived in this time goes before the backlog
FRESH_STEP_NANOS = 1_000_000_000  # how exactly we remember what arrived when
FIRST_ROWS = 8  # rows of a megabyte fill a lease soon
IDLE_ROUNDS = 3  # then the disk can't be read just now
MORE_ROWS = 512  # a lease of many small batches reads on


class Lending:
    """Makes leases. Not thread-safe."""

    def __init__(self, order: Literal["in_order", "fresh_first"], holding: Holding) -> None:
        self._fresh_first = order == "fresh_first"
        self._holding = holding
        self._arrivals: deque[tuple[int, int]] = deque()
        """Moments, and the first sequence that arrived from then on."""

    def note_arrival(self, now_unix_nano: int, sequence: int) -> None:
        """Remembers where in the order a moment is."""
        if self._fresh_first and (not self._arrivals or now_unix_nano - self._arrivals[-1][0] >= FRESH_STEP_NANOS):
            self._arrivals.append((now_unix_nano, sequence))

    def lend(self, now_unix_nano: int, *, max_bytes: int, max_records: int) -> Lease | None:
        """The next lease; None when nothing is free, or nothing can be read."""
        rounds = 0
        while rounds < IDLE_ROUNDS:  # a round without a lease has passed over damaged batches, or salvaged the file
            held = sum(self._holding.counts.batches.values())
            chosen = self._choose(now_unix_nano)
            if chosen is None:
                if all_is_found(self._holding):
                    return None
            else:
                stream, gap, rows = chosen
                rows = self._fill(gap, rows, max_bytes=max_bytes, max_records=max_records)
                lease = self._make(stream, gap, rows)
                if lease is not None:
                    return lease
            rounds = rounds + 1 if held == sum(self._holding.counts.batches.values()) else 0
        return None

    def _choose(self, now_unix_nano: int) -> tuple[Stream, Span, list[Row]] | None:
        """The stream whose first free batch is the oldest, and its first free batches."""
        if self._fresh_first:
            while self._arrivals and now_unix_nano - self._arrivals[0][0] > FRESH_NANOS:
                self._arrivals.popleft()
            if self._arrivals:
                fresh = self._oldest_free(self._arrivals[0][1])
                if fresh:
                    return fresh
        return self._oldest_free(0)

    def _oldest_free(self, sequence: int) -> tuple[Stream, Span, list[Row]] | None:
        free = [found for stream in Stream for found in self._first_free(stream, sequence)]
        return min(free, key=lambda found: sequence_of(found[2][0].id), default=None)

    def _first_free(self, stream: Stream, sequence: int) -> Iterator[tuple[Stream, Span, list[Row]]]:
        holding = self._holding
        if not holding.counts.batches[stream]:
            return
        first = row_id(stream, sequence) if sequence else span_of(stream).first
        for gap in holding.desk.gaps(stream, first):
            rows = rows_of(holding, gap, FIRST_ROWS)
            if rows:
                yield stream, gap, rows
                return

    def _fill(self, gap: Span, rows: list[Row], *, max_bytes: int, max_records: int) -> list[Row]:
        """As many of the rows as fit, at least one; reads on where many small ones fit."""
        chosen: list[Row] = []
        size = records = 0
        asked = FIRST_ROWS
        while rows:
            for row in rows:
                size += row.request_bytes
                records += row.records
                if chosen and (size > max_bytes or records > max_records):
                    return chosen
                chosen.append(row)
            if len(rows) < asked:
                break
            asked = MORE_ROWS
            rows = rows_of(self._holding, Span(rows[-1].id + 1, gap.last), asked)
        return chosen

    def _make(self, stream: Stream, gap: Span, rows: list[Row]) -> Lease | None:
        holding = self._holding
        batches = batches_of(holding, rows)
        rows = [row for row in rows if row.id in batches]
        if not rows:
            return None
        lease = Lease(
            stream=stream,
            batch_ids=tuple(row.id for row in rows),
            parts=tuple(batches[row.id].request for row in rows),
            request_bytes=sum(row.request_bytes for row in rows),
            records=sum(row.records for row in rows),
            oldest_received_unix_nano=min(row.oldest_received_unix_nano for row in rows),
            tries=holding.desk.tries(rows[0].id),
        )
        on_disk = holding.store is not None
        # From its own first row, not from the start of the gap: the pieces of an earlier lease may come to lie between.
        span = Span(rows[0].id, rows[-1].id)
        holding.desk.lend(Loan(lease=lease, span=span, rows=tuple(rows), since=gap.first, on_disk=on_disk))
        return lease
