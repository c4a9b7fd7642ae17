"""The checkpoint: the ledger, what was settled and the queue's clock, written with each change and copied to a file."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from otelbridge import clamp
from otelbridge.event import STREAM_BY_RANK, Stream


class Account(StrEnum):
    """Where a record can be. Every received record is in exactly one of the others."""

    RECEIVED = "received"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    """By the endpoint: in a partial success, or for good (then it is a dead letter)."""
    DROPPED = "dropped"
    """By the bridge, for the reason named."""
    FILTERED = "filtered"
    """By the operator's rule, named."""
    SUMMARISED = "summarised"
    """Counted in the record of a flood instead of sent (gate.flood)."""
    DOUBLED = "doubled"
    """The copy, by another road, of one that was taken (feed.roads)."""


class Posting(NamedTuple):
    """So many records of a stream came onto an account (negative: left it)."""

    stream: Stream
    account: Account
    reason: str
    """The drop's reason, the rule's name, or empty."""
    records: int


class Ledger:
    """The sums of all postings. Not thread-safe: its owner (the queue) guards it with its own lock."""

    __slots__ = ("_sums",)

    def __init__(self, postings: Iterable[Posting] = ()) -> None:
        self._sums: dict[tuple[Stream, Account, str], int] = {}
        for posting in postings:
            self.post(posting)

    def post(self, posting: Posting) -> None:
        """Adds one posting to its sum."""
        key = posting[:3]
        self._sums[key] = self._sums.get(key, 0) + posting.records

    def post_all(self, postings: Iterable[Posting]) -> None:
        """Adds all postings, or, where one of them raises, none."""
        changed: dict[tuple[Stream, Account, str], int] = {}
        for posting in postings:
            key = posting[:3]
            changed[key] = changed.get(key, self._sums.get(key, 0)) + posting.records
        self._sums.update(changed)

    def sums(self) -> Mapping[tuple[Stream, Account, str], int]:
        """The sums by stream, account and reason, as they are: not a copy."""
        return self._sums

    def postings(self) -> list[Posting]:
        """The sums, one posting per stream, account and reason, sorted."""
        return [Posting(*key, records) for key, records in sorted(self._sums.items()) if records]

    def total(self, stream: Stream, account: Account) -> int:
        """What stands on one account of a stream, whatever the reason."""
        return sum(n for (s, a, _), n in self._sums.items() if s == stream and a == account)

    def residue(self, held: Mapping[Stream, int]) -> dict[Stream, int]:
        """Per stream, received minus everything accounted for; 0 everywhere when the ledger balances.

        Args:
            held: records in the bridge's hands, on disk and in memory, counted independently of the postings.
        """
        owed = {stream: -held.get(stream, 0) for stream in STREAM_BY_RANK}
        for (stream, account, _), records in self._sums.items():
            owed[stream] += records if account == Account.RECEIVED else -records
        return owed


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
STEP_NANOS = 1_000_000_000  # less than this is the clock being slewed, or a thread that waited between two readings
LONGEST_WAIT_NANOS = 3_600_000_000_000  # between receipt and put are milliseconds; more is a clock that was set
LATEST_UNIX_NANO = clamp.MAX_UNIX_NANO - 3_155_760_000_000_000_000  # leaves a century to the end of the range


class Reading(NamedTuple):
    """Both clocks of the machine at one instant."""

    unix_nano: int
    """As set by whoever sets it."""
    elapsed_nano: int
    """Since the machine started, suspended or not."""


def boot_id() -> str:
    """Which run of the machine this is; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def elapsed_nanos() -> int:
    """Nanoseconds since the machine started, suspended or not."""
    return time.clock_gettime_ns(ELAPSED_CLOCK)


class QueueClock:
    """Unix time as long as nobody sets the clock; after that, Unix time less what it was set by. Not thread-safe."""

    def __init__(self, unix_nano: Callable[[], int], elapsed_nano: Callable[[], int], boot: str) -> None:
        self.boot = boot
        self._unix_nano = unix_nano
        self._elapsed_nano = elapsed_nano
        unix, elapsed = self.last = self._read()
        self.offset_nano = unix - clamp.count(unix, most=LATEST_UNIX_NANO)
        """What the machine's clock has been set forward by since; and what keeps an absurd clock in range."""
        self._step = (elapsed, 0)
        """When the clock was last set, and by how much."""

    def _read(self) -> Reading:
        return Reading(self._unix_nano(), self._elapsed_nano())

    def resume(self, last: Reading, offset_nano: int, boot: str) -> None:
        """Goes on from an earlier life's last reading: nothing gets older than the time that is known to have passed.

        Of a machine that was started anew no time is known: it may have been off for days, or its clock was wrong.
        """
        self.offset_nano = offset_nano
        unix, elapsed = self.last = self._read()
        if boot and boot == self.boot and elapsed >= last.elapsed_nano:
            expected = last.unix_nano + elapsed - last.elapsed_nano
        else:
            expected = last.unix_nano
        self._set_by(unix - expected, elapsed)

    def now(self) -> int:
        """The queue's time, in nanoseconds."""
        unix, elapsed = self._read()
        self._set_by(unix - self.last.unix_nano - (elapsed - self.last.elapsed_nano), elapsed)
        self.last = Reading(unix, elapsed)
        return unix - self.offset_nano

    def _set_by(self, step: int, elapsed: int) -> None:
        if abs(step) >= STEP_NANOS:
            self.offset_nano += step
            self._step = (elapsed, step)

    def time_of(self, received_unix_nano: int) -> int:
        """The queue's time of something that was received just now, or shortly before the clock was set."""
        now = self.now()
        unix, elapsed = self.last
        age = unix - received_unix_nano
        set_at, step = self._step
        if age > elapsed - set_at:
            age -= step
        return now - age if 0 <= age <= LONGEST_WAIT_NANOS else now

    def unix_nano_of(self, queue_time: int) -> int:
        """A time of the queue by the machine's clock as it is set now, to be shown."""
        self.now()
        shown = queue_time + self.offset_nano
        return shown if 0 <= shown <= clamp.MAX_UNIX_NANO else clamp.unix_nano(shown)


CHECKPOINT_FILE = "queue.checkpoint"
SEAL_BYTES = 4
PAGE_SLOT_BYTES = 64 * 1024  # hundreds of rules' names in the ledger
MOST_BYTES = 4 * 1024 * 1024  # ever read of it
LAST_SEQUENCE = 2**40 - 1  # ids have no room for more
FILE_BYTES = 128 * 1024  # reserved at once, so that a full disk does not keep it from being overwritten


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """The ledger, and where and when the queue is."""

    revision: int = 0
    """Counts the changes; the higher of two pages is the later one."""
    next_sequence: int = 1
    ledger: Ledger = field(default_factory=Ledger)
    floor: dict[Stream, int] = field(default_factory=dict)
    """Per stream, an id below which every batch is settled."""
    empty_at: dict[Stream, int] = field(default_factory=dict)
    """Per stream, when (the queue's time) nothing of it was held last: what is lost came later."""
    written: Reading = field(default=Reading(0, 0))
    """The machine's clocks when this was written."""
    offset_nano: int = 0
    """The queue clock's."""
    boot: str = ""
    """The machine's run under which this was written."""
    unsynced: bool = False
    """The queue is open, and changes are not synced one by one."""

    def page(self) -> bytes:
        """The checkpoint, encoded and sealed.

        JSON put together by hand: it is made for each commit, and took a third of one with the encoder.
        """
        sums = self.ledger.sums().items()
        ledger = ",".join([f"{_posting_head(*key)}{records}]" for key, records in sums])
        floor = ",".join([f'"{stream}":{first}' for stream, first in self.floor.items()])
        empty_at = ",".join([f'"{stream}":{at}' for stream, at in self.empty_at.items()])
        return _sealed(
            f'{{"revision":{self.revision},"next_sequence":{self.next_sequence},"ledger":[{ledger}],'
            f'"floor":{{{floor}}},"empty_at":{{{empty_at}}},"written":[{self.written[0]},{self.written[1]}],'
            f'"offset":{self.offset_nano},"boot":{_quoted(self.boot)},"unsynced":{int(self.unsynced)}}}'
        )


@lru_cache(maxsize=1024)  # more than an operator has rules
def _posting_head(stream: Stream, account: Account, reason: str) -> str:
    return json.dumps([stream, account, reason])[:-1] + ","


@lru_cache(maxsize=4)
def _quoted(text: str) -> str:
    return json.dumps(text)


def read_page(page: bytes | None) -> Checkpoint | None:
    """The checkpoint in a page; None when it is missing, not what was written, or has words of a later version."""
    text = _unsealed(page or b"")
    try:
        return None if text is None else _checkpoint(json.loads(text))
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None  # whole, but of a later version: an older one was installed again


def _checkpoint(tree: Mapping[str, Any]) -> Checkpoint:
    found = Checkpoint(
        revision=_count(tree["revision"]),
        next_sequence=_count(tree["next_sequence"], most=LAST_SEQUENCE),
        ledger=Ledger(
            Posting(Stream(s), Account(a), str(reason), _count(abs(n)) and n) for s, a, reason, n in tree["ledger"]
        ),
        floor={Stream(stream): _count(first) for stream, first in tree["floor"].items()},
        empty_at={Stream(stream): _count(at) for stream, at in tree["empty_at"].items()},
        written=Reading(*map(_clock, tree["written"])),
        offset_nano=_clock(tree["offset"]),
        boot=str(tree["boot"]),
        unsynced=bool(tree["unsynced"]),
    )
    _count(found.written.unix_nano - found.offset_nano)  # the queue's time
    return found


def _clock(number: Any) -> int:
    """The same of a machine's clock, which may be set to any date, before 1970 too."""
    return _count(abs(number), most=10 * clamp.MAX_UNIX_NANO) and int(number)


def _count(number: Any, *, most: int = clamp.MAX_UNIX_NANO) -> int:
    """The number; ValueError where it is none that we write, which SQLite may not take."""
    if not isinstance(number, int) or not 0 <= number <= most:
        raise ValueError(f"{number!r} is no number of ours")
    return number


WATCHING = "watching"
MAX_WATCHED = 3_000  # streams of upstreams; addresses behind a name come and go, the oldest are forgotten

Watched = Mapping[tuple[str, Stream], int]
"""Unix nanoseconds by upstream and stream."""


def note_of(watched: Watched) -> str:
    """Until when streams were watched, as a note for the next life."""
    latest = sorted(watched.items(), key=lambda item: item[1])[-MAX_WATCHED:]
    return json.dumps([[upstream, stream, until] for (upstream, stream), until in latest])


def read_note(note: str | None) -> dict[tuple[str, Stream], int]:
    """Reads what `note_of` wrote; empty when there is no note, or it is damaged."""
    try:
        return {(str(upstream), Stream(stream)): _count(until) for upstream, stream, until in json.loads(note or "[]")}
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        return {}


class CheckpointFile:
    """The file with the copy of the page and of the note on what was watched: it survives the database.

    Not worth a failure: when it can't be written, the database still is.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CHECKPOINT_FILE
        self._descriptor: int | None = None

    def read(self) -> tuple[Checkpoint | None, str]:
        """The last life's checkpoint, None where there is no whole one; its note, empty where there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                content = os.read(descriptor, MOST_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return None, ""
        page, note = content[:PAGE_SLOT_BYTES], content[PAGE_SLOT_BYTES:]
        return read_page(_framed(page)), _unsealed(_framed(note)) or ""

    def write(self, page: bytes) -> None:
        """Overwrites the page in place."""
        if len(page) <= PAGE_SLOT_BYTES - SEAL_BYTES:
            self._put(page, 0)

    def write_note(self, note: str) -> None:
        """Overwrites the note in place."""
        self._put(_sealed(note), PAGE_SLOT_BYTES)

    def _put(self, content: bytes, place: int) -> None:
        content = len(content).to_bytes(SEAL_BYTES, "big") + content
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._descriptor = os.open(self._path, flags, 0o600)
                size = os.fstat(self._descriptor).st_size
                os.pwrite(self._descriptor, bytes(max(0, FILE_BYTES - size)), size)
            os.pwrite(self._descriptor, content, place)
        except OSError:
            self.close()

    def close(self) -> None:
        """Releases the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _sealed(text: str) -> bytes:
    content = text.encode()
    return zlib.crc32(content).to_bytes(SEAL_BYTES, "big") + content


def _unsealed(sealed: bytes) -> str | None:
    seal, content = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
    if not content or zlib.crc32(content).to_bytes(SEAL_BYTES, "big") != seal:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:  # a seal proves nothing: that of four bytes of ones is four bytes of ones
        return None


def _framed(content: bytes) -> bytes:
    length = int.from_bytes(content[:SEAL_BYTES], "big")
    return content[SEAL_BYTES : SEAL_BYTES + length]
