"""Shows a queue from outside: ledger, batches, dead letters and retained batches of the file in a folder.

Read-only and without locks, so it works beside a running bridge, without one, and on what a crash left behind. What a
bridge holds in memory only, while its disk takes no writes, can't be seen from here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from otelbridge import clamp
from otelbridge.event import STREAM_BY_RANK, Stream
from otelbridge.queue.checkpoint import Checkpoint, Ledger, read_page
from otelbridge.queue.dead_letters import MAX_NUMBER
from otelbridge.queue.disk import QUEUE_FILE, owner_of, sentence
from otelbridge.queue.model import Batch, DeadLetter, QueueUnusable, Retained, Row, Span
from otelbridge.queue.packing import is_whole
from otelbridge.queue.store import Store, read_store, sequence_of, span_of

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A batch that is held, without its bytes."""

    number: int
    stream: Stream
    sequence: int
    """Its place in the order of arrival."""
    records: int
    bytes: int
    oldest_received_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a look at every byte found."""

    batches: int
    records: int
    damaged: tuple[int, ...]
    """Numbers of batches that are not what was written."""
    file_error: str
    """SQLite's own complaint; empty when it has none."""
    residue: Mapping[Stream, int]
    """Received minus accounted for, per stream; not 0 where the ledger does not balance."""

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.damaged and not self.file_error and not any(self.residue.values())


class Inspection:
    """A queue file as it was at one instant. Methods raise sqlite3.Error where the file can't be read.

    Times are by the machine's clock as it was set when the file was written last.
    """

    def __init__(self, directory: Path, store: Store) -> None:
        self.path = directory / QUEUE_FILE
        self.owner_pid = owner_of(directory)
        """The bridge that holds it now; 0 when its number can't be read, None when there is none."""
        self._store = store
        self._checkpoint = read_page(store.page())
        self._offset_nano = self._checkpoint.offset_nano if self._checkpoint else 0

    @property
    def checkpoint_readable(self) -> bool:
        """Whether the ledger could be read; without it, it is empty."""
        return self._checkpoint is not None

    def ledger(self) -> Ledger:
        """The ledger."""
        return (self._checkpoint or Checkpoint()).ledger

    def held(self) -> dict[Stream, int]:
        """Records held per stream, counted row by row."""
        return {stream: records for stream, (_, records, _) in self._store.sums_by_stream().items()}

    def batches(self) -> Iterator[Listed]:
        """What is held, stream by stream, oldest first."""
        for stream in STREAM_BY_RANK:
            for row in self._rows(span_of(stream)):
                yield Listed(
                    number=row.id,
                    stream=stream,
                    sequence=sequence_of(row.id),
                    records=row.records,
                    bytes=row.bytes,
                    oldest_received_unix_nano=row.oldest_received_unix_nano + self._offset_nano,
                )

    def batch(self, number: int) -> Batch | None:
        """One batch with its bytes; None when it is not held any more, or is damaged."""
        spans = [Span(number, number)] if 0 <= number < MAX_NUMBER else []  # SQLite knows no other
        return next((batch for span in spans for _, batch in self._store.batches(span)), None)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """What the endpoint refused for good, oldest first."""
        for dead_letter in self._store.dead_letters():
            yield dead_letter._replace(
                oldest_received_unix_nano=dead_letter.oldest_received_unix_nano + self._offset_nano,
                refused_unix_nano=dead_letter.refused_unix_nano + self._offset_nano,
            )

    def retained(self, since_unix_nano: int = 0, until_unix_nano: int = clamp.MAX_UNIX_NANO) -> Iterator[Retained]:
        """What the flight recorder kept of the time between, in the order of delivery."""
        offset = self._offset_nano
        for kept in self._store.retained(
            clamp.unix_nano(since_unix_nano - offset), clamp.unix_nano(until_unix_nano - offset)
        ):
            yield kept._replace(
                oldest_received_unix_nano=kept.oldest_received_unix_nano + offset,
                delivered_unix_nano=kept.delivered_unix_nano + offset,
            )

    def verify(self) -> Verification:
        """Reads every byte: SQLite's own check, each batch (its seal, and unpacked), the ledger against the batches."""
        batches = records = 0
        damaged = []
        file_error = self._store.quick_check()
        try:
            for stream in STREAM_BY_RANK:
                for number, batch in self._store.batches(span_of(stream)):
                    if batch is None or not is_whole(batch.request):
                        damaged.append(number)
                    else:
                        batches += 1
                        records += batch.records
            residue = self.ledger().residue(self.held())
        except sqlite3.Error as error:
            file_error = file_error or sentence(error)
            residue = {}
        return Verification(
            batches=batches, records=records, damaged=tuple(damaged), file_error=file_error, residue=residue
        )

    def _rows(self, span: Span) -> Iterator[Row]:
        while rows := self._store.measures(span, ROWS_AT_ONCE):
            yield from rows
            span = Span(rows[-1].id + 1, span.last)


@contextmanager
def inspect(directory: Path) -> Iterator[Inspection]:
    """Opens a queue to look at it.

    Raises:
        QueueUnusable: there is no queue in the folder, or its file can't be read.
    """
    path = directory / QUEUE_FILE
    if not path.exists():
        raise QueueUnusable(directory, f"there is no {QUEUE_FILE} in it", "Name the folder of a bridge's queue.")
    try:
        store = read_store(path)
        inspection = Inspection(directory, store)
    except sqlite3.Error as error:
        cure = "A bridge that starts on it salvages a damaged file; a missing permission is cured by its owner."
        raise QueueUnusable(directory, sentence(error), cure) from error
    try:
        yield inspection
    finally:
        store.close()
