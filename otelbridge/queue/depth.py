"""How much is held, per stream: counters that are kept with every change, so that asking costs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.queue.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What the queue holds at one instant, on disk, in memory and on loan."""

    batches: int
    records: int
    bytes: int
    leased_records: int
    """Of those, out with a courier."""
    memory_records: int
    """Of those, in memory only, because the disk does not take writes."""
    oldest_received_unix_nano: int | None
    by_stream: Mapping[Stream, int]
    """Records per stream."""
    dead_letters: int = 0
    dead_letter_bytes: int = 0
    retained_bytes: int = 0
    degraded: bool = False
    """The disk takes no writes just now."""


class Counts:
    """Batches, records and bytes per stream. Not thread-safe."""

    def __init__(self) -> None:
        self.batches = dict.fromkeys(Stream, 0)
        self.records = dict.fromkeys(Stream, 0)
        self.bytes = dict.fromkeys(Stream, 0)

    def add(self, stream: Stream, row: Row) -> None:
        """A batch came."""
        self.batches[stream] += 1
        self.records[stream] += row.records
        self.bytes[stream] += row.bytes

    def remove(self, stream: Stream, rows: Iterable[Row]) -> int:
        """Batches went; returns their records."""
        gone = 0
        for row in rows:
            self.batches[stream] -= 1
            self.records[stream] -= row.records
            self.bytes[stream] -= row.bytes
            gone += row.records
        return gone

    def put(self, stream: Stream, batches: int, records: int, size: int) -> None:
        """What a recount found."""
        self.batches[stream], self.records[stream], self.bytes[stream] = batches, records, size

    def total_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(self.bytes.values())
