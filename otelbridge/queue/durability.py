"""Until when each upstream's streams were watched, as a note for the next life: how it is written and read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS, Gap, GapCause, Stream
from otelbridge.queue.checkpoint import Checkpoint
from otelbridge.telemetry.events import GapEnded, Tell
from otelbridge.telemetry.ledger import Account

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
WINDOW_NANOS = 1_000_000_000  # between two syncs, with the time that a sync takes


def boot_id() -> str:
    """Which run of the machine this is; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Log:
    """The write-ahead log, as far as bringing it to the platter goes."""

    def __init__(self, database: Path, *, synced_by_itself: bool) -> None:
        self._path = Path(f"{database}-wal")
        self._synced_by_itself = synced_by_itself
        self._synced_revision = 0

    def sync(self, revision: int) -> None:
        """Syncs the log if the books have moved on; SQLite keeps no lock on this file that closing it could drop.

        Raises:
            OSError: the disk did not take it.
        """
        if self._synced_by_itself or revision == self._synced_revision:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nothing was written since the log was moved into the database
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._synced_revision = revision


def tell_of_power_cut(books: Checkpoint, boot: str, tell: Tell) -> None:
    """Says what a cut may have cost, if the machine was started anew while an unsynced queue was open."""
    if not books.open_under_boot or not boot or books.open_under_boot == boot:
        return
    for stream in UPSTREAM_STREAMS:
        if books.ledger.total(stream, Account.RECEIVED):
            gap = Gap(
                stream=stream,
                upstream="",
                cause=GapCause.CORRUPTION,
                started_unix_nano=books.written_unix_nano,
                ended_unix_nano=books.written_unix_nano + WINDOW_NANOS,
                detail="The machine stopped without notice; its last second may not have reached the disk.",
            )
            tell(GapEnded(gap=gap))


WATCHING = "watching"
MAX_WATCHED = 3_000  # streams of upstreams; addresses behind a name come and go, the oldest are forgotten

Watched = Mapping[tuple[str, Stream], int]
"""Unix nanoseconds by upstream and stream."""


def note_of(watched: Watched) -> str:
    """The note."""
    latest = sorted(watched.items(), key=lambda item: item[1])[-MAX_WATCHED:]
    return json.dumps([[upstream, stream, until] for (upstream, stream), until in latest])


def read_note(note: str | None) -> dict[tuple[str, Stream], int]:
    """The other way round; empty when there is no note."""
    return {(upstream, Stream(stream)): until for upstream, stream, until in json.loads(note or "[]")}
