"""Tracks the log's sync, and makes gap records of what the disk has lost."""

from __future__ import annotations

import os
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS, Gap, GapCause, RecordGap, Stream
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


def corruption_gap(stream: Stream, times: tuple[int, int], lost_records: int | None, detail: str) -> Gap:
    """The record of what the disk has lost, of which upstream is not known.

    Args:
        stream: whose records they were.
        times: between which (Unix nanoseconds) they were received.
        lost_records: how many, where that is known.
        detail: one sentence for a human.
    """
    return Gap(
        stream=stream,
        upstream="",
        cause=GapCause.CORRUPTION,
        started_unix_nano=times[0],
        ended_unix_nano=times[1],
        lost_records=lost_records,
        detail=detail,
    )


def record_crash(last: Checkpoint, boot: str, record_gap: RecordGap) -> None:
    """Records what a power cut may have cost, if the machine was started anew while an unsynced queue was open."""
    if not last.unsynced or not boot or last.boot == boot:
        return
    written = last.written.unix_nano
    detail = "The machine stopped without notice; its last second may not have reached the disk."
    for stream in UPSTREAM_STREAMS:
        if last.ledger.total(stream, Account.RECEIVED):
            record_gap(corruption_gap(stream, (written, written + WINDOW_NANOS), None, detail))


def record_lost_history(folder: Path, trace_unix_nano: int, *, now_unix_nano: int, record_gap: RecordGap) -> None:
    """Records that an earlier life left files, but neither ledger nor batches: what it held and missed is unknown."""
    detail = f"A bridge has used the folder {folder} before, and its queue is gone."
    for stream in UPSTREAM_STREAMS:
        times = (trace_unix_nano, max(trace_unix_nano, now_unix_nano))
        record_gap(corruption_gap(stream, times, None, detail))
