"""Encodes what the queue stores beside the batches (ledger, floors, time), and keeps its copy in a file of its own."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.clock import Reading
from otelbridge.telemetry.ledger import Account, Ledger, Posting

CHECKPOINT_FILE = "queue.checkpoint"
SEAL_BYTES = 4
PAGE_SLOT_BYTES = 64 * 1024  # hundreds of rules' names in the ledger
MOST_BYTES = 4 * 1024 * 1024  # ever read of it
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
            f'"offset":{self.offset_nano},"boot":{json.dumps(self.boot)},"unsynced":{int(self.unsynced)}}}'
        )


@lru_cache(maxsize=1024)  # more than an operator has rules
def _posting_head(stream: Stream, account: Account, reason: str) -> str:
    return json.dumps([stream, account, reason])[:-1] + ","


def read_page(page: bytes | None) -> Checkpoint | None:
    """The checkpoint in a page; None when it is missing or not what was written."""
    text = _unsealed(page or b"")
    if text is None:
        return None
    tree = json.loads(text)
    return Checkpoint(
        revision=tree["revision"],
        next_sequence=tree["next_sequence"],
        ledger=Ledger(Posting(Stream(s), Account(a), reason, n) for s, a, reason, n in tree["ledger"]),
        floor={Stream(stream): first for stream, first in tree["floor"].items()},
        empty_at={Stream(stream): at for stream, at in tree["empty_at"].items()},
        written=Reading(*tree["written"]),
        offset_nano=tree["offset"],
        boot=tree["boot"],
        unsynced=bool(tree["unsynced"]),
    )


WATCHING = "watching"
MAX_WATCHED = 3_000  # streams of upstreams; addresses behind a name come and go, the oldest are forgotten

Watched = Mapping[tuple[str, Stream], int]
"""Unix nanoseconds by upstream and stream."""


def note_of(watched: Watched) -> str:
    """Until when streams were watched, as a note for the next life."""
    latest = sorted(watched.items(), key=lambda item: item[1])[-MAX_WATCHED:]
    return json.dumps([[upstream, stream, until] for (upstream, stream), until in latest])


def read_note(note: str | None) -> dict[tuple[str, Stream], int]:
    """The other way round; empty when there is no note, or it is damaged."""
    try:
        return {(str(upstream), Stream(stream)): int(until) for upstream, stream, until in json.loads(note or "[]")}
    except (ValueError, TypeError):
        return {}


class Mirror:
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
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
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
    return content.decode()


def _framed(content: bytes) -> bytes:
    length = int.from_bytes(content[:SEAL_BYTES], "big")
    return content[SEAL_BYTES : SEAL_BYTES + length]
