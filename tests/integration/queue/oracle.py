"""Numbered, sealed records for the queue's tests, a file layer that fails, and the questions to ask of a queue."""

from __future__ import annotations

import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Accepted, Batch, Lease
from otelbridge.queue.packing import joined
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.setting import section_from
from otelbridge.telemetry.events import Event
from tests.records import gaps_told_by

T = TypeVar("T")
HEAD = struct.Struct(">qI")
RECORD_BYTES = 512
FILLING = bytes(range(256)) * 2


def record(number: int) -> bytes:
    """A record that carries its number and a checksum."""
    size = RECORD_BYTES - HEAD.size
    body = FILLING[number % 200 :][:size].ljust(size, b".")
    return HEAD.pack(number, zlib.crc32(body)) + body


def numbers_of(held: bytes | Lease) -> list[int]:
    """The records' numbers, of a request or of a lease; fails when a byte has changed."""
    request = joined(held.parts) if isinstance(held, Lease) else held
    assert len(request) % RECORD_BYTES == 0
    numbers = []
    for start in range(0, len(request), RECORD_BYTES):
        number, checksum = HEAD.unpack_from(request, start)
        body = request[start + HEAD.size : start + RECORD_BYTES]
        assert zlib.crc32(body) == checksum, "a record came out other than it went in"
        numbers.append(number)
    return numbers


def batch_of(stream: Stream, numbers: Iterable[int], *, received: int | None = None) -> Batch:
    records = [record(number) for number in numbers]
    return Batch(
        stream=stream,
        request=b"".join(records),
        records=len(records),
        oldest_received_unix_nano=time.time_ns() if received is None else received,
    )


def put(queue: DurableQueue, stream: Stream, numbers: Iterable[int], *, received: int | None = None) -> None:
    batch = batch_of(stream, numbers, received=received)
    queue.put([batch], [Posting(stream, Account.RECEIVED, "", batch.records)])


def take(queue: DurableQueue, *, max_bytes: int = 1 << 20, max_records: int = 8192) -> Lease:
    lease = queue.take(max_bytes=max_bytes, max_records=max_records)
    assert lease is not None
    return lease


def drain(queue: DurableQueue, *, max_records: int = 8192) -> list[int]:
    """Accepts everything that can be taken; the numbers in the order in which they came."""
    numbers: list[int] = []
    while (lease := queue.take(max_bytes=1 << 20, max_records=max_records)) is not None:
        assert lease.records == len(joined(lease.parts)) // RECORD_BYTES
        numbers += numbers_of(lease)
        queue.settle(lease, Accepted())
    return numbers


def assert_balanced(queue: DurableQueue) -> None:
    ledger, held = queue.balance()
    assert not any(ledger.residue(held).values()), (ledger.postings(), held)


def dropped(queue: DurableQueue, reason: str) -> dict[Stream, int]:
    return {
        posting.stream: posting.records
        for posting in queue.ledger().postings()
        if posting.account is Account.DROPPED and posting.reason == reason
    }


class Told:
    """What the queue told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        return [h for h in self.events if isinstance(h, kind)]


def open_queue(directory: Path, told: Callable[[Event], None] | None = None, **settings: object) -> DurableQueue:
    return DurableQueue.open(
        section_from(QueueSettings, {"directory": directory, **settings}),
        tell=told or (lambda _: None),
        record_gap=gaps_told_by(told or (lambda _: None)),
    )


def disk_error(code: int, message: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    error.sqlite_errorname = "injected"
    return error


class Disk:
    """Makes connections that fail as long as they are told to: the file layer with faults."""

    def __init__(self) -> None:
        self.fails: Callable[[str], sqlite3.Error | None] = lambda _: None
        self.fails_late: Callable[[str], sqlite3.Error | None] = lambda _: None
        self.statements: list[str] = []

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                disk.statements.append(sql)
                error = disk.fails(sql)
                if error is not None:
                    raise error
                cursor = super().execute(sql, *parameters)
                error = disk.fails_late(sql)
                if error is not None:
                    raise error
                return cursor

        return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection)

    def full(self, *, words: tuple[str, ...] = ("INSERT", "DELETE", "COMMIT")) -> None:
        self.fails = lambda sql: (
            disk_error(sqlite3.SQLITE_FULL, "database or disk is full") if sql.startswith(words) else None
        )

    def broken(self, *, words: tuple[str, ...] = ("INSERT", "DELETE", "COMMIT")) -> None:
        self.fails = lambda sql: disk_error(sqlite3.SQLITE_IOERR, "disk I/O error") if sql.startswith(words) else None

    def syncs_fail(self) -> None:
        """Commits fail, but only after they have taken effect."""
        self.fails_late = lambda sql: (
            disk_error(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error") if sql == "COMMIT" else None
        )

    def well(self) -> None:
        self.fails = self.fails_late = lambda _: None
