"""What the queue holds: encoded requests of one stream each, and leases on them."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Encoded records of one stream. One stream, so that a rejected count always has an owner in the ledger."""

    stream: Stream
    request: bytes
    """An encoded ExportLogsServiceRequest. Two of them joined end to end are again one (repeated fields merge)."""
    records: int
    oldest_received_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Batches on loan to a courier, oldest first, all of one stream; settled with an outcome exactly once."""

    stream: Stream
    batch_ids: tuple[int, ...]
    request: bytes
    """The batches' requests, joined."""
    records: int
    oldest_received_unix_nano: int
    tries: int = 0
    """How often its oldest batch has been refused or sent back before."""
