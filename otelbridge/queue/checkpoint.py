"""The books after a recount: what is missing is posted as dropped, and said; what came back is held again."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.telemetry.events import GapEnded, RecordsShed, Tell
from otelbridge.telemetry.ledger import Account, Ledger, Posting

SEAL_BYTES = 4


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """What the queue remembers beside the batches."""

    revision: int = 0
    """Counts the changes; the higher of two pages is the later one."""
    next_sequence: int = 1
    ledger: Ledger = field(default_factory=Ledger)
    floor: dict[Stream, int] = field(default_factory=dict)
    """Per stream, an id below which every batch is settled."""
    written_unix_nano: int = 0
    open_under_boot: str = ""
    """The run of the machine under which the queue is open without syncing each change; empty when it was closed."""

    def page(self) -> bytes:
        """The books, encoded and sealed."""
        text = json.dumps(
            {
                "revision": self.revision,
                "next_sequence": self.next_sequence,
                "ledger": self.ledger.postings(),
                "floor": self.floor,
                "written": self.written_unix_nano,
                "boot": self.open_under_boot,
            },
            separators=(",", ":"),
        ).encode()
        return zlib.crc32(text).to_bytes(SEAL_BYTES, "big") + text


def read_page(page: bytes | None) -> Checkpoint | None:
    """The books of a page; None when it is missing or not what was written."""
    if page is None or len(page) <= SEAL_BYTES:
        return None
    text = page[SEAL_BYTES:]
    if zlib.crc32(text).to_bytes(SEAL_BYTES, "big") != page[:SEAL_BYTES]:
        return None
    tree = json.loads(text)
    return Checkpoint(
        revision=tree["revision"],
        next_sequence=tree["next_sequence"],
        ledger=Ledger(Posting(Stream(s), Account(a), reason, n) for s, a, reason, n in tree["ledger"]),
        floor={Stream(stream): first for stream, first in tree["floor"].items()},
        written_unix_nano=tree["written"],
        open_under_boot=tree["boot"],
    )


MIRROR_BYTES = 16 * 1024  # reserved at once, so that a full disk does not keep it from being overwritten


class Mirror:
    """The file with the copy. Not worth a failure: when it can't be written, the database still is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def read(self) -> Checkpoint | None:
        """The copy of the last life, if there is a whole one."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        length = int.from_bytes(content[:SEAL_BYTES], "big")
        return read_page(content[SEAL_BYTES : SEAL_BYTES + length])

    def write(self, page: bytes) -> None:
        """Overwrites the copy in place."""
        content = len(page).to_bytes(SEAL_BYTES, "big") + page
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                content = content.ljust(MIRROR_BYTES, b"\0")
            os.pwrite(self._descriptor, content, 0)
        except OSError:
            self.close()

    def close(self) -> None:
        """Releases the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def post_lost(ledger: Ledger, stream: Stream, lost: int, *, where: Path, now_unix_nano: int, tell: Tell) -> None:
    """Makes the ledger balance again.

    Args:
        ledger: the queue's.
        stream: whose records were counted.
        lost: how many fewer there are than there should be; negative when there are more.
        where: the file that was damaged.
        now_unix_nano: the time of the recount.
        tell: is told of a loss.
    """
    if lost > 0:
        ledger.post(Posting(stream, Account.DROPPED, "corrupt", lost))
        tell(RecordsShed(stream=stream, reason="corrupt", records=lost))
        gap = Gap(
            stream=stream,
            upstream="",
            cause=GapCause.CORRUPTION,
            started_unix_nano=now_unix_nano,
            ended_unix_nano=now_unix_nano,
            lost_records=lost,
            detail=f"The queue file {where} was damaged.",
        )
        tell(GapEnded(gap=gap))
    elif lost < 0:
        # Batches that were delivered came back with an older state of the file: they are held again.
        delivered = min(-lost, ledger.total(stream, Account.DELIVERED))
        ledger.post(Posting(stream, Account.DELIVERED, "", -delivered))
        ledger.post(Posting(stream, Account.RECEIVED, "", -lost - delivered))
