"""What the queue holds: encoded requests of one stream each, and leases on them."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.queue.packing import joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Encoded records of one stream. One stream, so that a rejected count always has an owner in the ledger."""

    stream: Stream
    request: bytes
    """An encoded ExportLogsServiceRequest, packed or as it is (packing.py). Two joined are again one."""
    records: int
    oldest_received_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Batches on loan to a courier, oldest first, all of one stream; settled with an outcome exactly once."""

    stream: Stream
    batch_ids: tuple[int, ...]
    parts: tuple[bytes, ...]
    """The batches' requests, as they are held."""
    request_bytes: int
    """Of all of them, unpacked: what an endpoint's limit is about."""
    records: int
    oldest_received_unix_nano: int
    tries: int = 0
    """How often its oldest batch has been refused or sent back before."""

    @property
    def request(self) -> bytes:
        """The batches' requests, joined, packed or as they are; made anew each time, outside the queue's lock."""
        return joined(self.parts)
