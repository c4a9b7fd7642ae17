"""How far the disk can be relied on: the log's own sync, and what a crash of the machine may have cost."""

from __future__ import annotations

import os
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS, Gap, GapCause, RecordGap
from otelbridge.queue.checkpoint import Checkpoint
from otelbridge.telemetry.ledger import Account

WINDOW_NANOS = 1_000_000_000  # between two syncs, with the time that a sync takes


class LogSync:
    """Brings the write-ahead log to the platter, where SQLite does not do so itself."""

    def __init__(self, database: Path, *, synced_by_itself: bool) -> None:
        self._path = Path(f"{database}-wal")
        self._synced_by_itself = synced_by_itself
        self._synced_revision = 0

    def sync(self, revision: int) -> None:
        """Syncs the log if there are changes since; SQLite keeps no lock on this file that closing it could drop.

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


def record_crash(last: Checkpoint, boot: str, record_gap: RecordGap) -> None:
    """Records what a power cut may have cost, if the machine was started anew while an unsynced queue was open."""
    if not last.unsynced or not boot or last.boot == boot:
        return
    for stream in UPSTREAM_STREAMS:
        if last.ledger.total(stream, Account.RECEIVED):
            gap = Gap(
                stream=stream,
                upstream="",
                cause=GapCause.CORRUPTION,
                started_unix_nano=last.written.unix_nano,
                ended_unix_nano=last.written.unix_nano + WINDOW_NANOS,
                detail="The machine stopped without notice; its last second may not have reached the disk.",
            )
            record_gap(gap)
