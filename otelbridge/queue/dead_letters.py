"""Keeps dead letters (refused records) and the flight recorder (delivered batches) beside the queue.

What an operator asks for from another process, resending or dropping dead letters, is left as a file in the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.memory import OpenLease
from otelbridge.queue.model import Batch, Change, DeadLetter, Refused, Retained, TooLarge
from otelbridge.queue.packing import joined
from otelbridge.queue.settings import QueueSettings, nanos
from otelbridge.queue.state import QueueState
from otelbridge.queue.store import Store

LEAST_CHARGED_BYTES = 1024  # what a dead letter is charged with at least, so that their index stays small
TRIM_AT_ONCE = 256


class DeadLetters:
    """Bounds dead letters and the flight recorder; resends dead letters. Not thread-safe."""

    def __init__(self, settings: QueueSettings, state: QueueState) -> None:
        self._settings = settings
        self._state = state
        self._index: deque[tuple[int, int]] = deque()
        self._counted: Store | None = None
        self.dead_letter_bytes = 0
        self.retains = settings.retain_seconds > 0
        """Whether the operator wants delivered batches kept."""
        self.retained_bytes = 0

    def count(self) -> None:
        """Counts what a file that was just opened holds."""
        try:
            self._count()
        except sqlite3.Error as error:
            if self._state.handle(error):  # salvaged: what could not be read is not in the new file
                self._count()

    def _count(self) -> None:
        store = self._counted = self._state.file.store
        if store is None:
            return
        self._index = deque((number, max(size, LEAST_CHARGED_BYTES)) for number, size in store.dead_letter_sizes())
        self.dead_letter_bytes = sum(size for _, size in self._index)
        self.retained_bytes = store.retained_bytes()

    @property
    def dead_letters(self) -> int:
        """How many are kept."""
        return len(self._index)

    # --- dead letters ---

    def all(self) -> list[DeadLetter]:
        """The dead letters on disk and those that wait for it, oldest first."""
        state = self._state
        found: list[DeadLetter] = []
        if state.file.store is not None:
            try:
                found = list(state.file.store.dead_letters())
            except (sqlite3.Error, ValueError) as error:
                state.handle(error if isinstance(error, sqlite3.Error) else sqlite3.DataError(str(error)))
        gone = set(state.pending.dead_letter_deletes)
        return [dead_letter for dead_letter in (*found, *state.pending.dead_letters) if dead_letter.id not in gone]

    def add(self, open_lease: OpenLease, outcome: Refused | TooLarge, change: Change) -> None:
        """Adds a dead letter to the change, and takes out the oldest ones beyond the bound."""
        lease = open_lease.lease
        dead_letter = DeadLetter(
            id=self._state.checkpoint.next_sequence,
            stream=lease.stream,
            request=joined(lease.parts),
            records=lease.records,
            oldest_received_unix_nano=open_lease.oldest,
            refused_unix_nano=self._state.clock.now(),
            code=outcome.code,
            why=outcome.why,
        )
        self._state.checkpoint.next_sequence += 1
        change.dead_letters.append(dead_letter)
        size = max(len(dead_letter.request), LEAST_CHARGED_BYTES)
        self._index.append((dead_letter.id, size))
        self.dead_letter_bytes += size
        while self.dead_letter_bytes > self._settings.dead_letter_max_bytes:
            number, size = self._index.popleft()
            self.dead_letter_bytes -= size
            change.dead_letter_deletes.append(number)

    def resend(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Moves dead letters back into the queue, as its newest batches, so that they do not expire at once.

        Returns:
            How many records they have.
        """
        state = self._state
        change = Change()
        for dead_letter in dead_letters:
            batch = Batch(
                stream=dead_letter.stream,
                request=dead_letter.request,
                records=dead_letter.records,
                oldest_received_unix_nano=state.clock.now(),
            )
            back = Posting(dead_letter.stream, Account.REJECTED, dead_letter.code, -dead_letter.records)
            state.checkpoint.ledger.post(back)
            state.insert(batch, change)
        self._forget([dead_letter.id for dead_letter in dead_letters], change)
        state.write(change)
        return sum(batch.records for batch in change.inserts.values())

    def discard(self, numbers: Iterable[int]) -> None:
        """Deletes dead letters for good; they stay counted as rejected."""
        change = Change()
        self._forget(list(numbers), change)
        self._state.write(change)

    def _forget(self, numbers: list[int], change: Change) -> None:
        gone = set(numbers)
        change.dead_letter_deletes += numbers
        self._index = deque(entry for entry in self._index if entry[0] not in gone)
        self.dead_letter_bytes = sum(size for _, size in self._index)

    # --- flight recorder ---

    def retain(self, open_lease: OpenLease, change: Change) -> None:
        """Keeps a delivered lease, with the change."""
        if open_lease.on_disk:
            change.retain.append((open_lease.span, self._state.clock.now()))
            self.retained_bytes += sum(row.bytes for row in open_lease.rows)

    def keep(self, aside: Sequence[Retained], change: Change) -> None:
        """Adds batches that are not to be sent to the change; while the disk takes no writes, they are not kept."""
        if self._state.file.error is None:
            clock = self._state.clock
            for kept in aside:
                received = clock.time_of(kept.oldest_received_unix_nano)
                dated = kept._replace(oldest_received_unix_nano=received, delivered_unix_nano=clock.now())
                change.retained.append(dated)
                self.retained_bytes += len(kept.request)

    def trim(self) -> bool:
        """Deletes retained batches beyond age and bound, and recounts in a new file; True when there may be more."""
        store = self._state.file.store
        if store is None or self._state.file.error is not None:
            return False
        if store is not self._counted:
            self.count()
        if not self.retained_bytes:
            return False
        try:
            freed = store.trim_retained(
                delivered_before_unix_nano=self._state.clock.now() - nanos(self._settings.retain_seconds),
                free_bytes=self.retained_bytes - self._settings.retain_max_bytes,
                most=TRIM_AT_ONCE,
            )
        except sqlite3.Error as error:
            self._state.handle(error)
            return False
        self.retained_bytes = max(0, self.retained_bytes - freed)
        return freed > 0


PREFIX = "command-"
SUFFIX = ".json"
MAX_BYTES = 1024 * 1024  # of a file; more dead letters than are ever kept
MAX_NUMBER = 2**63

Verb = Literal["resend", "discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What an operator asks for, and for which dead letters."""

    verb: Verb
    numbers: tuple[int, ...]


def leave(directory: Path, verb: Verb, numbers: Sequence[int]) -> Path:
    """Leaves a command; the bridge does it within a second and deletes the file.

    Raises:
        OSError: the folder can't be written.
    """
    path = directory / f"{PREFIX}{time.time_ns()}-{os.getpid()}{SUFFIX}"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"verb": verb, "numbers": list(numbers)}))
    draft.replace(path)
    return path


def collect(directory: Path) -> Iterator[Command]:
    """The commands that were left, in order; each file is deleted before its command is done: none is done twice."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  # every second: names do, no Path each
    except OSError:
        return  # the folder can't be read just now; what lies in it stays there
    for name in names:
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):
                command = _read(directory / name)
                (directory / name).unlink()
                if command is not None:
                    yield command


def _read(path: Path) -> Command | None:
    """The command in a file; None for one that was not written by `leave`, whatever it is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        tree = json.loads(text)
        verb, numbers = tree["verb"], [int(number) for number in tree["numbers"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    known = tuple(number for number in numbers if 0 < number < MAX_NUMBER)
    return Command(verb=verb, numbers=known) if verb in get_args(Verb) else None
