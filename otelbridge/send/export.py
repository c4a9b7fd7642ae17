"""What becomes of one lease: its outcome in, its settlement out. Splits what is too large, finds what is refused.

Splitting never destroys anything, so it needs no proof. Setting a record aside does: the endpoint said so for this
record alone, or it fails again and again at this record (INTERNAL, 500) and takes others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from otelbridge.event import Stream
from otelbridge.queue.model import Accepted, Batch, Hold, Lease, Outcome, Refused, RetryLater, TooLarge
from otelbridge.queue.packing import DamagedRequest, packed, unpacked
from otelbridge.send.circuit_breaker import CircuitBreaker, Permit, SendCounts
from otelbridge.send.request_limits import BacklogLimiter, RequestSize
from otelbridge.send.sender import Sender
from otelbridge.send.split import halves
from otelbridge.telemetry.events import (
    BatchAccepted,
    BatchRefused,
    BatchSplit,
    DeliveryDelayed,
    DeliveryHeld,
    Tell,
)

SUSPECT_TRIES = 5
"""So often may a lease meet INTERNAL or 500 before we look whether it is to blame itself."""
FREE_REFUSALS = 8
"""So many records set aside without one accepted between them, and the endpoint itself is under suspicion: from then on
each waits for the ladder, so that a wrong address cannot turn the queue into dead letters in minutes."""


class LeasingQueue(Protocol):
    """As much of the durable queue as this room needs."""

    def take(self, *, max_bytes: int, max_records: int) -> Lease | None:
        """The next lease, within the limits unless a single batch exceeds them; None when nothing is free."""
        ...

    def has_work(self) -> bool:
        """Whether there may be something to take."""
        ...

    def wait_for_work(self, timeout_seconds: float) -> bool:
        """Waits until there may be something to take."""
        ...

    def lift_linger(self) -> None:
        """From now on nothing waits for more to share a request with."""
        ...

    def wake(self) -> None:
        """Ends everybody's `wait_for_work`."""
        ...

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Ends a lease: deleted if accepted, else given back."""
        ...

    def dead_letter(self, lease: Lease, outcome: Refused | TooLarge) -> None:
        """Ends a lease: its records are set aside."""
        ...

    def replace(self, lease: Lease, batches: Sequence[Batch], *, keep: bool = False) -> list[Lease]:
        """Ends a lease: these batches, of the same records, take the place of its own."""
        ...

    def held(self) -> Mapping[Stream, int]:
        """Records held per stream, those on loan included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What all couriers share."""

    queue: LeasingQueue
    sender: Sender
    tell: Tell
    patience: CircuitBreaker
    width: RequestSize
    replay: BacklogLimiter
    tally: SendCounts
    clock: Callable[[], float] = time.monotonic


class Export:
    """Delivers leases. Thread-safe; what it remembers between leases is only whom it suspects."""

    def __init__(self, desk: ExportContext) -> None:
        self._desk = desk
        self._endpoint = desk.sender.endpoint
        self._suspects: dict[int, int] = {}
        self._refused_in_a_row = 0

    def deliver(self, lease: Lease, permit: Permit) -> None:
        """Sends a lease and settles it; the permit is given back."""
        outcome, seconds = self._sent(lease)
        match outcome:
            case Accepted():
                self._accept(lease, outcome, seconds, permit)
            case TooLarge():
                self._desk.width.too_large(lease.request_bytes)
                self._reduce(lease, outcome, permit)
            case Refused():
                self._desk.width.faulty(lease.records)
                self._reduce(lease, outcome, permit)
            case RetryLater(perhaps_its_own_fault=True) if self._on_trial(lease):
                self._try(lease, outcome, permit)
            case RetryLater() | Hold():
                self._give_back(lease, outcome, permit)

    def _sent(self, lease: Lease) -> tuple[Outcome, float]:
        desk = self._desk
        with desk.tally.counting() as tally:
            tally.in_flight += 1
        began = desk.clock()
        try:
            outcome: Outcome = desk.sender.send(lease.request, records=lease.records)
        except DamagedRequest as damage:  # narrowed down to its batch, and set aside, as if the endpoint had said so
            outcome = Refused(code="corrupt", why=str(damage))
        finally:
            seconds = desk.clock() - began
            with desk.tally.counting() as tally:
                tally.in_flight -= 1
            desk.tally.sent(lease.request_bytes, seconds)
        return outcome, seconds

    def _accept(self, lease: Lease, outcome: Accepted, seconds: float, permit: Permit) -> None:
        desk = self._desk
        rejected = min(outcome.rejected, lease.records)  # an endpoint may claim to have rejected more than it was sent
        desk.queue.settle(lease, outcome)
        desk.replay.departed(lease.records)
        desk.width.accepted()
        if not desk.width.narrowed:
            self._suspects.clear()
        self._refused_in_a_row = 0
        if desk.patience.accepted(permit):
            desk.replay.begin()
        with desk.tally.counting() as tally:
            tally.accepted_requests += 1
            tally.delivered_records += lease.records - rejected
            tally.rejected_records += rejected
        desk.tell(
            BatchAccepted(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                rejected=rejected,
                message=outcome.message,
                request_bytes=lease.request_bytes,
                seconds=seconds,
            )
        )

    def _give_back(self, lease: Lease, outcome: RetryLater | Hold, permit: Permit) -> None:
        desk = self._desk
        desk.queue.settle(lease, outcome)
        with desk.tally.counting() as tally:
            tally.retries += 1
        delay = desk.patience.failed(permit, outcome)
        if delay is None:
            return  # another request under way met the same weather, and told
        happening = DeliveryHeld if isinstance(outcome, Hold) else DeliveryDelayed
        why = f"{outcome.why}; {outcome.cure}" if isinstance(outcome, Hold) else outcome.why
        desk.tell(
            happening(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                code=outcome.code,
                why=why,
                delay_seconds=delay,
            )
        )

    def _reduce(self, lease: Lease, outcome: TooLarge | Refused, permit: Permit) -> None:
        """Makes the next request smaller, down to a single record; that one is set aside."""
        desk = self._desk
        if len(lease.batch_ids) > 1:
            desk.queue.settle(lease, outcome)  # taken apart along its batches, by the narrowed width
        else:
            pieces = _pieces(lease)
            if not pieces:
                self._set_aside(lease, outcome, permit)
                return
            desk.queue.replace(lease, pieces)
        desk.patience.unused(permit)
        with desk.tally.counting() as tally:
            tally.splits += 1
        desk.tell(BatchSplit(endpoint=self._endpoint, stream=lease.stream, records=lease.records, why=outcome.why))

    def _set_aside(self, lease: Lease, outcome: TooLarge | Refused, permit: Permit) -> None:
        desk = self._desk
        desk.queue.dead_letter(lease, outcome)
        desk.replay.departed(lease.records)
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= FREE_REFUSALS:
            desk.patience.failed(permit, RetryLater(code=outcome.code, why=f"refuses everything: {outcome.why}"))
        else:
            desk.patience.unused(permit)
        with desk.tally.counting() as tally:
            tally.dead_letter_records += lease.records
        desk.tell(
            BatchRefused(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                code=outcome.code,
                why=outcome.why,
            )
        )

    def _on_trial(self, lease: Lease) -> bool:
        """Whether this lease has met such answers often enough, or is a part of one that has."""
        first = lease.batch_ids[0]
        self._suspects[first] = tries = self._suspects.get(first, 0) + 1
        return tries > SUSPECT_TRIES or self._desk.width.narrowed

    def _try(self, lease: Lease, outcome: RetryLater, permit: Permit) -> None:
        """The lease may be what makes the endpoint fail: closes in on one record, then asks for a witness."""
        guilty = Refused(code=outcome.code, why=f"fails again and again: {outcome.why}")
        if lease.records > 1:
            self._desk.width.faulty(lease.records)
            self._reduce(lease, guilty, permit)
            return
        if not self._others_are_accepted(permit):
            self._give_back(lease, outcome, permit)
            return
        again, seconds = self._sent(lease)
        match again:
            case Accepted():
                self._accept(lease, again, seconds, permit)
            case RetryLater(perhaps_its_own_fault=True) | Refused() | TooLarge():
                self._set_aside(lease, guilty, permit)
            case RetryLater() | Hold():
                self._give_back(lease, again, permit)

    def _others_are_accepted(self, permit: Permit) -> bool:
        """Whether the endpoint takes another lease now, while it fails at this one."""
        limits = self._desk.width.limits()
        witness = self._desk.queue.take(max_bytes=limits.max_bytes, max_records=limits.max_records)
        if witness is None:
            return False
        try:
            outcome, seconds = self._sent(witness)
            if isinstance(outcome, Accepted):
                self._accept(witness, outcome, seconds, permit)
                return True
            self._desk.queue.settle(witness, outcome)
        except Exception as fault:
            give_back_after_fault(self._desk.queue, witness, fault)
            raise
        return False


def give_back_after_fault(queue: LeasingQueue, lease: Lease, fault: Exception) -> None:
    """Gives back a lease whose delivery met a fault of ours, where it is still out."""
    with contextlib.suppress(ValueError):  # it was settled before the fault
        queue.settle(lease, RetryLater(code="INTERNAL", why=f"a fault of the bridge: {fault!r}"))


def _pieces(lease: Lease) -> list[Batch]:
    """Two batches with half of the lease's records each; none where it cannot be taken apart."""
    try:
        parts = halves(unpacked(lease.request))
    except ValueError:  # one record, or not what it should be; or damaged
        return []
    if sum(records for _, records in parts) != lease.records:
        return []
    return [
        Batch(
            stream=lease.stream,
            request=packed(request),
            records=records,
            oldest_received_unix_nano=lease.oldest_received_unix_nano,
        )
        for request, records in parts
    ]
