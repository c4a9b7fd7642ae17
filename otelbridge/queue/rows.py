"""How a batch is numbered and sealed: a stream and a place in the order go in, a row id and a checksum come out.

An id is `rank of the stream | place in the order of arrival | room for pieces`. So the rows of one stream lie next to
one another in the table (a courier reads one stream at a time), comparing the places compares ages across streams, and
a batch that must be sent in pieces leaves its pieces ids between its own and the next one's.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.queue.batch import Batch
from otelbridge.queue.packing import is_packed, request_bytes

RANK_BITS = 60
PIECE_BITS = 20  # a million pieces of one batch; leaves 2**40 batches, a century at 300 a second
# Logs come last: they are nearly all of the traffic, and SQLite fills pages best at the end of a table.
STREAM_BY_RANK = (Stream.GAPS, Stream.ALERTS, Stream.MESSAGES, Stream.LOGS)
RANK = {stream: rank for rank, stream in enumerate(STREAM_BY_RANK)}

SEAL = struct.Struct(">qqq")
CRC_BITS = 32


class Span(NamedTuple):
    """The ids from `first` to `last`, both included."""

    first: int
    last: int


class Row(NamedTuple):
    """A batch's measures without its bytes."""

    id: int
    records: int
    bytes: int
    """As it is held."""
    oldest_received_unix_nano: int
    request_bytes: int
    """Unpacked."""


def row_id(stream: Stream, sequence: int) -> int:
    """The id of the batch that arrived as number `sequence`."""
    return RANK[stream] << RANK_BITS | sequence << PIECE_BITS


def sequence_of(batch_id: int) -> int:
    """The place in the order of arrival, comparable across streams."""
    return (batch_id & (1 << RANK_BITS) - 1) >> PIECE_BITS


def stream_of(batch_id: int) -> Stream:
    """The stream of a row. Raises IndexError for an id that we never gave."""
    return STREAM_BY_RANK[batch_id >> RANK_BITS]


def span_of(stream: Stream) -> Span:
    """All ids that the stream's rows can have."""
    return Span(RANK[stream] << RANK_BITS, (RANK[stream] + 1 << RANK_BITS) - 1)


def checksum(batch_id: int, batch: Batch) -> int:
    """CRC-32 over everything that the row says: a row that still matches it is the one that was written.

    Above it stands the length of a packed request once it is unpacked, and 0 of others: SQLite reads a whole request to
    tell its first bytes, but not to tell this.
    """
    crc = zlib.crc32(batch.request, zlib.crc32(SEAL.pack(batch_id, batch.records, batch.oldest_received_unix_nano)))
    return request_bytes(batch.request) << CRC_BITS | crc if is_packed(batch.request) else crc


def piece_ids(room: Span, pieces: int) -> list[int]:
    """Ids for the pieces of a batch, in order, evenly spread so that a piece can be cut again.

    Raises:
        ValueError: the room is too small; cutting has gone further than a million pieces of one batch.
    """
    step = (room.last - room.first + 1) // pieces
    if not step:
        raise ValueError(f"{pieces} pieces do not fit into {room}")
    return [room.first + step * n for n in range(pieces)]
