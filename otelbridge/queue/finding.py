"""What can be read of what is held: spans of ids go in, rows and batches come out of the file and out of memory.

A file that can't be read just now is left out; a damaged one is salvaged on the way. Nothing in here raises for it.
"""

from __future__ import annotations

import sqlite3

from otelbridge.event import Stream
from otelbridge.queue.batch import Batch
from otelbridge.queue.change import DeadLetter
from otelbridge.queue.desk import Loan
from otelbridge.queue.holding import Holding
from otelbridge.queue.rows import PIECE_BITS, Row, Span, span_of, stream_of


def rows_of(holding: Holding, span: Span, limit: int) -> list[Row]:
    """The first rows of a span, on disk and in memory."""
    found: list[Row] = []
    if holding.weather is None and not len(holding.room):
        fresh = holding.fresh.rows(span, limit, held_batches=holding.counts.batches[stream_of(span.first)])
        if fresh is not None:
            return fresh
    if holding.store is not None:
        try:
            found = holding.store.measures(span, limit)
        except sqlite3.Error as error:
            if holding.weathered(error):
                return rows_of(holding, span, limit)
            holding.shut()
    if len(holding.room):
        on_disk = [row for row in found if row.id not in holding.room]
        found = sorted([*on_disk, *holding.room.measures(span, limit)])[:limit]
    return found


def batches_of(holding: Holding, rows: list[Row]) -> dict[int, Batch]:
    """The batches behind neighbouring rows; a damaged one is missing, and counted as lost."""
    found = {row.id: batch for row in rows if (batch := holding.room.get(row.id) or holding.fresh.get(row.id))}
    if len(found) == len(rows) or holding.store is None:
        return found
    damaged = []
    try:
        for batch_id, batch in holding.store.batches(Span(rows[0].id, rows[-1].id)):
            if batch is None:
                damaged.append(batch_id)
            else:
                found[batch_id] = batch
        if len(found) + len(damaged) < len(rows):
            raise sqlite3.DataError("batches that a tree lists are not in it")  # damage like any other
    except sqlite3.Error as error:
        if not holding.weathered(error):
            holding.shut()
        return {}
    if damaged:
        _strike(holding, damaged)
    return found


def _strike(holding: Holding, damaged: list[int]) -> None:
    """Gives up batches that are not what was written, and counts anew: what they held is known by what is left."""
    for batch_id in damaged:
        span = Span(batch_id, batch_id)
        holding.desk.block(stream_of(batch_id), span)
        holding.pending.deletes.append(span)
    holding.recount_due = True
    holding.flush()


def all_is_found(holding: Holding) -> bool:
    """Asked when nothing free can be found: True if the counts agree; else the file is damaged, and is salvaged."""
    if holding.weather is None and holding.has_free():
        held = sum(holding.counts.batches.values())
        holding.weathered(sqlite3.DataError(f"{held} batches are held, and cannot be found"))
        return False
    return True


def room_for_pieces(holding: Holding, loan: Loan) -> Span:
    """The unused ids between a loan's last row and the next one."""
    last = loan.rows[-1].id
    room = Span(last + 1, last | (1 << PIECE_BITS) - 1)
    following = rows_of(holding, room, 1)
    return Span(room.first, following[0].id - 1) if following else room


def oldest_received_unix_nano(holding: Holding) -> int | None:
    """When the oldest record that is held was received; None when nothing is held."""
    heads = [
        row.oldest_received_unix_nano
        for stream in Stream
        if holding.counts.batches[stream]
        for row in rows_of(holding, span_of(stream), 1)
    ]
    return min(heads, default=None)


def dead_letters_of(holding: Holding) -> list[DeadLetter]:
    """The dead letters on disk and those that wait for it, oldest first."""
    found: list[DeadLetter] = []
    if holding.store is not None:
        try:
            found = list(holding.store.dead_letters())
        except (sqlite3.Error, ValueError) as error:
            holding.weathered(error if isinstance(error, sqlite3.Error) else sqlite3.DataError(str(error)))
    pending = holding.pending
    gone = set(pending.dead_letter_deletes)
    return [letter for letter in (*found, *pending.dead_letters) if letter.id not in gone]
