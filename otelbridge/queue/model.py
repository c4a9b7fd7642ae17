"""The data types of the queue: batches and rows, leases and outcomes, changes, depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from otelbridge.event import Stream


@dataclass(eq=False)  # not frozen: whoever re-raises an exception sets its traceback
class QueueInUse(Exception):  # noqa: N818  # the name says what is the case
    """Another process holds the queue in this folder; two writers would send everything twice."""

    directory: Path
    owner_pid: int | None
    """As the owner wrote it into the lock file; None when that could not be read."""

    def __str__(self) -> str:
        owner = f"process {self.owner_pid}" if self.owner_pid else "another process"
        return (
            f"The queue in {self.directory} is in use by {owner}. "
            "Stop that bridge, or give this one its own folder with queue.directory."
        )


@dataclass(eq=False)  # not frozen: whoever re-raises an exception sets its traceback
class QueueUnusable(Exception):  # noqa: N818  # the same
    """The queue's folder can't be made, or can't be written."""

    directory: Path
    why: str
    cure: str

    def __str__(self) -> str:
        return f"The queue folder {self.directory} can't be used: {self.why}. {self.cure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The endpoint took the request. Settled by deleting the batches."""

    rejected: int = 0
    """Records that a partial success rejected: counted, never sent again."""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """Likely to pass by itself. Settled by giving the batches back."""

    code: str
    why: str
    after_seconds: float | None = None
    """The least delay that the server asked for, where it did."""
    perhaps_its_own_fault: bool = False
    """An answer such as INTERNAL or 500: the endpoint may be ill, or this very request may make it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Only an operator can cure it (credentials, wrong address). Settled by giving the batches back."""

    code: str
    why: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """The request must be smaller. Settled by giving the batches back; a single record becomes a dead letter."""

    code: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The endpoint will never take it. Settled by halving until the bad record is alone: a dead letter."""

    code: str
    why: str
    cure: str = ""
    """What to look at where the endpoint refuses everything."""


Outcome = Accepted | RetryLater | Hold | TooLarge | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Encoded records of one stream. One stream, so that a rejected count always has an owner in the ledger."""

    stream: Stream
    request: bytes
    """An encoded ExportLogsServiceRequest, packed or as it is (packing.py). Two joined are again one."""
    records: int
    oldest_received_unix_nano: int
    plain: bytes = field(default=b"", compare=False, repr=False)
    """The request before it was packed, where it is small. Not stored; memory has it until the request leaves, so that
    it is compressed together with others (packing.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Batches that a worker has, oldest first, all of one stream; settled with an outcome exactly once."""

    stream: Stream
    batch_ids: tuple[int, ...]
    parts: tuple[bytes, ...]
    """The batches' requests, as they are held, or small ones as they were before: `packing.joined` makes one of them,
    outside the queue's lock."""
    request_bytes: int
    """Of all of them, unpacked: what an endpoint's limit is about."""
    records: int
    oldest_received_unix_nano: int
    tries: int = 0
    """How often its oldest batch has been refused or sent back before."""


class LeaseError(ValueError):
    """What was asked of a lease cannot be done; nothing has changed."""


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


class DeadLetter(NamedTuple):
    """Records that the endpoint refused for good, kept so that a human can look, and try again; as the table has it."""

    id: int
    stream: Stream
    records: int
    oldest_received_unix_nano: int
    refused_unix_nano: int
    code: str
    """The endpoint's status: `INVALID_ARGUMENT`, `400` ..."""
    why: str
    request: bytes


class Retained(NamedTuple):
    """A batch that was delivered, or events that a flood's record stands for, kept by the flight recorder; likewise."""

    stream: Stream
    records: int
    oldest_received_unix_nano: int
    delivered_unix_nano: int
    """Or when it was put aside."""
    request: bytes
    """Or a block of originals (gate/flood.py), packed like a request."""


@dataclass(slots=True, kw_only=True)
class Change:
    """What one transaction does, in this order."""

    retain: list[tuple[Span, int]] = field(default_factory=list)
    """Rows to copy to the flight recorder, and when they were delivered. Before the deletes."""
    retained: list[Retained] = field(default_factory=list)
    """The same for batches that never came to disk."""
    deletes: list[Span] = field(default_factory=list)
    inserts: dict[int, Batch] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    dead_letter_deletes: list[int] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, later: Change) -> None:
        """Takes in a change that comes after this one; neither inserts what the other deletes."""
        self.retain += later.retain
        self.retained += later.retained
        self.deletes += later.deletes
        self.inserts |= later.inserts
        self.dead_letters += later.dead_letters
        self.dead_letter_deletes += later.dead_letter_deletes
        self.notes |= later.notes

    def __bool__(self) -> bool:
        return self != Change()


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What the queue holds at one instant, on disk, in memory and leased."""

    batches: int
    records: int
    bytes: int
    memory_records: int
    """Of those, in memory only, because the disk does not take writes."""
    oldest_received_unix_nano: int | None
    streams: Mapping[Stream, int]
    """Records per stream."""
    dead_letters: int
    dead_letter_bytes: int
    retained_bytes: int
    degraded: bool
    """The disk takes no writes just now."""
