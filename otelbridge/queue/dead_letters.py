"""What is kept beside the queue: dead letters for a human to look at, and the flight recorder of delivered batches."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable

from otelbridge.queue.leases import Loan
from otelbridge.queue.memory import measure
from otelbridge.queue.model import Batch, Change, DeadLetter, Lease, Refused, TooLarge, row_id
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.state import QueueState
from otelbridge.telemetry.ledger import Account, Posting

LEAST_LETTER_BYTES = 1024  # what a letter is charged with at least, so that their index stays small
TRIM_AT_ONCE = 256


class DeadLetters:
    """The bounds of both, and the way back into the queue. Not thread-safe."""

    def __init__(self, settings: QueueSettings, holding: QueueState, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._holding = holding
        self._clock = clock
        self._index: deque[tuple[int, int]] = deque()
        self.dead_letter_bytes = 0
        self.retained_bytes = 0

    def count(self) -> None:
        """Takes stock of what an earlier life left."""
        try:
            self._count()
        except sqlite3.Error as error:
            if self._holding.weathered(error):  # salvaged: what could not be read is not in the new file
                self._count()

    def _count(self) -> None:
        store = self._holding.store
        if store is None:
            return
        self._index = deque((number, max(size, LEAST_LETTER_BYTES)) for number, size in store.dead_letter_sizes())
        self.dead_letter_bytes = sum(size for _, size in self._index)
        self.retained_bytes = store.retained_bytes()

    @property
    def dead_letters(self) -> int:
        """How many are kept."""
        return len(self._index)

    # --- dead letters ---

    def refuse(self, lease: Lease, outcome: Refused | TooLarge, change: Change) -> None:
        """Adds a dead letter to the change, and takes out the oldest ones beyond the bound."""
        letter = DeadLetter(
            id=self._holding.books.next_sequence,
            stream=lease.stream,
            request=lease.request,
            records=lease.records,
            oldest_received_unix_nano=lease.oldest_received_unix_nano,
            refused_unix_nano=self._clock(),
            code=outcome.code,
            why=outcome.why,
        )
        self._holding.books.next_sequence += 1
        change.dead_letters.append(letter)
        size = max(len(letter.request), LEAST_LETTER_BYTES)
        self._index.append((letter.id, size))
        self.dead_letter_bytes += size
        while self.dead_letter_bytes > self._settings.dead_letter_max_bytes:
            number, size = self._index.popleft()
            self.dead_letter_bytes -= size
            change.dead_letter_deletes.append(number)

    def resend(self, letters: Iterable[DeadLetter]) -> int:
        """Moves dead letters back into the queue, as its newest batches; returns their records."""
        holding = self._holding
        change = Change()
        for letter in letters:
            batch = Batch(
                stream=letter.stream,
                request=letter.request,
                records=letter.records,
                oldest_received_unix_nano=letter.oldest_received_unix_nano,
            )
            batch_id = row_id(letter.stream, holding.books.next_sequence)
            holding.books.next_sequence += 1
            holding.books.ledger.post(Posting(letter.stream, Account.REJECTED, letter.code, -letter.records))
            holding.counts.add(letter.stream, measure(batch_id, batch))
            change.inserts[batch_id] = batch
        self._forget([letter.id for letter in letters], change)
        holding.write(change)
        return sum(batch.records for batch in change.inserts.values())

    def discard(self, numbers: Iterable[int]) -> None:
        """Deletes dead letters for good; they stay counted as rejected."""
        change = Change()
        self._forget(list(numbers), change)
        self._holding.write(change)

    def _forget(self, numbers: list[int], change: Change) -> None:
        gone = set(numbers)
        change.dead_letter_deletes += numbers
        self._index = deque(entry for entry in self._index if entry[0] not in gone)
        self.dead_letter_bytes = sum(size for _, size in self._index)

    # --- flight recorder ---

    def retain(self, loan: Loan, change: Change) -> None:
        """Adds the keeping of a delivered lease to the change, where the operator wants it."""
        if self._settings.retain_seconds and loan.on_disk:
            change.retain.append((loan.span, self._clock()))
            self.retained_bytes += sum(row.bytes for row in loan.rows)

    def trim(self) -> bool:
        """Forgets retained batches beyond age and bound; True when there may be more."""
        store = self._holding.store
        if not self.retained_bytes or store is None or self._holding.weather is not None:
            return False
        try:
            freed = store.trim_retained(
                delivered_before_unix_nano=self._clock() - int(self._settings.retain_seconds * 1e9),
                free_bytes=self.retained_bytes - self._settings.retain_max_bytes,
                most=TRIM_AT_ONCE,
            )
        except sqlite3.Error as error:
            self._holding.weathered(error)
            return False
        self.retained_bytes = max(0, self.retained_bytes - freed)
        return freed > 0
