"""The books after a recount: what is missing is posted as dropped, and said; what came back is held again."""

from __future__ import annotations

from pathlib import Path

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.telemetry.happenings import GapEnded, RecordsShed, Tell
from otelbridge.telemetry.ledger import Account, Ledger, Posting


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
