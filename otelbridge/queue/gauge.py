"""How full the queue is: holding and letters go in, a depth comes out."""

from __future__ import annotations

from otelbridge.queue.depth import Depth
from otelbridge.queue.finding import oldest_received_unix_nano
from otelbridge.queue.holding import Holding
from otelbridge.queue.letters import Letters


def depth_of(holding: Holding, letters: Letters) -> Depth:
    """What is held at this instant; from counters, and a look at the oldest row of each stream."""
    return Depth(
        batches=sum(holding.counts.batches.values()),
        records=sum(holding.counts.records.values()),
        bytes=holding.counts.total_bytes(),
        leased_records=sum(loan.lease.records for loan in holding.desk.loans()),
        memory_records=holding.room.records,
        oldest_received_unix_nano=oldest_received_unix_nano(holding),
        by_stream=dict(holding.counts.records),
        dead_letters=letters.dead_letters,
        dead_letter_bytes=letters.dead_letter_bytes,
        retained_bytes=letters.retained_bytes,
        degraded=holding.weather is not None,
    )
