"""Sends leases and settles each by its outcome. Bad records are searched by bisecting, and set aside on proof only.

| outcome of a request | its records |
|---|---|
| accepted | gone, and counted |
| retry later, hold | given back; the circuit breaker waits |
| too large, refused; several records | split, and the parts sent at once |
| too large, refused; one record | set aside, if the endpoint accepts others now; else tried again when it does |
| perhaps its own fault | kept apart, tried between others until accepted, split or convicted (`bad_records.py`) |
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import RLock

from otelbridge.event import Stream
from otelbridge.net.backoff import Random, full_jitter_seconds
from otelbridge.queue.model import Accepted, Batch, Hold, Lease, Outcome, Refused, RetryLater, TooLarge
from otelbridge.queue.packing import DamagedRequest, joined, packed, unpacked
from otelbridge.queue.queue import DurableQueue
from otelbridge.send.bad_records import BadSources, Contents, Range, Suspects, Verdict, halves
from otelbridge.send.circuit_breaker import CircuitBreaker, Permit, SendCounts
from otelbridge.send.request_limits import BacklogLimiter, Limits, RequestSize
from otelbridge.send.sender import Sender
from otelbridge.send.settings import SendSettings
from otelbridge.telemetry.events import (
    BatchAccepted,
    BatchRefused,
    BatchSplit,
    DeliveryDelayed,
    DeliveryHeld,
    DeliveryResumed,
    Tell,
)

PARALLEL = 32
"""Small parts of one lease in flight at once while bad records are looked for; together no more than a full request."""
APART_REQUESTS = 2
"""So many full requests' worth of suspects are kept apart; beyond that a failing lease is given back to the queue."""
MAX_APART = 64
"""Leases kept apart at most, of either kind."""
FREE_REFUSALS = 8
"""So many records set aside without one accepted between them, and the endpoint itself is under suspicion: from then on
records are kept apart until it accepts others, so that a wrong address cannot turn the queue into dead letters."""
REFUSALS_TO_GIVE_UP = 64
"""Refusals with nothing accepted between them, of a lease of an endpoint that has accepted before."""
IDLE_STEPS_BELOW = 4
"""Suspects that nothing else is sent beside are tried at a sixteenth of the first backoff, then ever more rarely."""
OVERSIZE = 1.5
"""A batch so many times the limit is cut before it is sent."""
PAUSE_SHARE = 0.2
"""Of a failed request's duration, waited before the next one while failures may be chance."""
MAX_PAUSE_SECONDS = 1.0
TIMEOUT_CODES = frozenset({"DEADLINE_EXCEEDED", "timeout"})
DAMAGED = "corrupt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What all workers share."""

    queue: DurableQueue
    sender: Sender
    settings: SendSettings
    tell: Tell
    breaker: CircuitBreaker
    backlog: BacklogLimiter
    counts: SendCounts
    random: Random
    clock: Callable[[], float] = time.monotonic
    wall_clock_nano: Callable[[], int] = time.time_ns


@dataclass(slots=True)
class _Round:
    """What one permit's requests came to so far."""

    permit: Permit
    parallel: int = 1
    """Requests in flight at once; more while bad records are looked for."""
    accepted: int = 0
    refusals: int = 0
    """Requests refused, of any size, since one was accepted."""
    unproven: list[tuple[Lease, Refused | TooLarge]] = field(default_factory=list)
    """Single records that were refused while nothing was accepted yet."""
    failure: RetryLater | Hold | None = None
    """Ends the round."""
    failed: Lease | None = None
    stumbled: RetryLater | None = None
    """A failure that may be chance, of a request that has not failed while others passed."""
    pause_seconds: float = 0.0


class Export:
    """Takes leases from the queue, sends and settles them. Thread-safe."""

    def __init__(self, context: ExportContext) -> None:
        self._context = context
        self._endpoint = context.sender.endpoint
        self._full = Limits(context.settings.max_request_bytes, context.settings.max_request_records)
        self._parallel = 1 if context.settings.ordered else PARALLEL
        self._lock = RLock()  # also around settlements: their order is the order in which outcomes were judged
        self._size = RequestSize(context.settings)
        self._suspects = Suspects()
        self._sources = BadSources()
        self._apart: list[Lease] = []
        """Suspects, between two tries."""
        self._due: deque[Lease] = deque()
        """Of those, what is to be tried before the next fresh lease."""
        self._unproven: list[tuple[Lease, Refused | TooLarge]] = []
        """Records that were refused while nothing was accepted."""
        self._idle_step = 0
        self._idle_until = 0.0
        """When nothing else is to be sent, suspects wait for this moment."""
        self._accepted_once = False
        self._free_refusals = FREE_REFUSALS
        self._single_batches = 0
        """So many of the next leases are of one batch each: one of them is damaged."""
        self._streams_out: list[Stream] = []
        self._pool: ThreadPoolExecutor | None = None

    # --- taking ---

    def has_work(self) -> bool:
        """Whether there may be something to send now."""
        return self._context.queue.has_work() or self._suspects_are_due()

    def idle(self) -> bool:
        """Whether nothing is kept apart."""
        with self._lock:
            return not self._apart and not self._unproven

    def apart_records(self) -> int:
        """Records that are kept apart from the others."""
        with self._lock:
            return sum(lease.records for lease in self._apart) + sum(lease.records for lease, _ in self._unproven)

    def limits(self) -> Limits:
        """For the next request."""
        with self._lock:
            return self._size.limits()

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Waits until there may be something to send."""
        with self._lock:
            if self._apart or self._unproven:
                timeout_seconds = min(timeout_seconds, max(0.0, self._idle_until - self._context.clock()))
        self._context.queue.wait_for_work(timeout_seconds)

    def _take(self) -> list[Lease]:
        """What to send next: suspects whose turn it is, or the next lease of the queue; nothing when there is none."""
        with self._lock:
            if self._due:
                return self._next_suspects()
            lease = self._next_fresh()
            if lease is not None:
                return [lease]
            if self._suspects_are_due():
                self._postpone_idle_tries()
                self._due.extend(self._apart)
                if self._due:
                    return self._next_suspects()
                unproven = [lease for lease, _ in self._unproven]
                self._unproven.clear()
                return unproven
            return []

    def hurry(self) -> None:
        """What is kept apart is tried at once."""
        with self._lock:
            self._idle_until = 0.0

    def _suspects_are_due(self) -> bool:
        with self._lock:
            if self._due or any(not self._suspects.alternations(lease.batch_ids[0]) for lease in self._apart):
                return True  # whatever failed while nothing else passed is paced by the circuit breaker
            return bool(self._apart or self._unproven) and self._context.clock() >= self._idle_until

    def _postpone_idle_tries(self) -> None:
        settings = self._context.settings
        self._idle_until = self._context.clock() + full_jitter_seconds(
            self._idle_step - IDLE_STEPS_BELOW,
            initial=settings.retry_initial_seconds,
            longest=settings.retry_max_seconds,
            random=self._context.random,
        )
        self._idle_step += 1

    def _next_suspects(self) -> list[Lease]:
        leases = [self._due.popleft() for _ in range(min(len(self._due), self._parallel))]
        for lease in leases:
            self._apart.remove(lease)
        return leases

    def _next_fresh(self) -> Lease | None:
        limits = self._full if self._sources.tallies else self._size.limits()  # it will be sent in groups
        context = self._context
        records = context.backlog.max_records(limits.max_records)
        without = tuple(self._streams_out)
        if self._single_batches:
            self._single_batches -= 1
            return context.queue.take(max_bytes=1, max_records=1, without=without)
        lease = context.queue.take(max_bytes=limits.max_bytes, max_records=records, without=without)
        if lease is None:
            return None
        try:
            if len(lease.batch_ids) == 1 and not self._sources.tallies and self._cut(lease):
                lease = context.queue.take(max_bytes=limits.max_bytes, max_records=records, without=without)
            if lease is not None:
                age_seconds = (context.wall_clock_nano() - lease.oldest_received_unix_nano) / 1e9
                context.backlog.charge(lease.records, age_seconds=age_seconds)
        except Exception as fault:
            self._give_back_after_fault([lease] if lease is not None else [], fault)
            raise
        return lease

    def _cut(self, lease: Lease) -> bool:
        """Puts smaller batches in the place of one that is far beyond the limits: each twice as large as the last.

        So the first ones can be sent at once, and one that will still be too large costs little to cut again.
        """
        share = self._size.share_of(lease)
        contents = _contents(lease) if share > OVERSIZE and lease.records > 1 else None
        if contents is None:
            return False
        size, ranges, first = max(1, int(lease.records / share)), [], 0
        while first < lease.records:
            ranges.append((first, min(first + size, lease.records)))
            first, size = first + size, size * 2 if len(ranges) > 1 else size
        self._context.queue.replace(lease, _batches(lease, contents, ranges))
        return True

    # --- sending ---

    def deliver(self, permit: Permit, beat: Callable[[], None]) -> float:
        """Takes leases, sends and settles them, or keeps them apart; the permit is given back.

        Returns the seconds to wait before the next request.
        """
        try:
            leases = self._take()
        except Exception:
            self._context.breaker.unused(permit)
            raise
        if not leases:  # another worker was quicker
            self._context.breaker.unused(permit)
            return 0.0
        streams = [lease.stream for lease in leases] if self._context.settings.ordered else []
        round_ = _Round(permit, parallel=self._parallel if len(leases) > 1 else 1)
        pending: deque[Lease] = deque(leases)
        in_flight: dict[Future[tuple[Outcome, float]], Lease] = {}
        with self._lock:
            self._streams_out.extend(streams)
        try:
            if self._group(pending):
                round_.parallel = self._parallel
            while in_flight or (pending and round_.failure is None):
                beat()
                if round_.failure is None:
                    self._send_next(pending, in_flight, round_.parallel)
                for sent in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    outcome, seconds = sent.result()
                    with self._lock:
                        pending.extend(self._handled(in_flight[sent], outcome, seconds, round_))
                    del in_flight[sent]
        except Exception as fault:
            wait(in_flight)
            self._give_back_after_fault([*in_flight.values(), *pending, *(one for one, _ in round_.unproven)], fault)
            self._context.breaker.unused(permit)
            raise
        finally:
            with self._lock:
                for stream in streams:
                    self._streams_out.remove(stream)
        with self._lock:
            self._end(round_, pending)
        return round_.pause_seconds

    def give_back_all(self) -> None:
        """What is kept apart goes back to the queue: the bridge closes."""
        with self._lock:
            closing = RetryLater(code="CANCELLED", why="the bridge is closing")
            for lease in (*self._apart, *(lease for lease, _ in self._unproven)):
                self._context.queue.settle(lease, closing)
            self._apart.clear()
            self._due.clear()
            self._unproven.clear()
        if self._pool is not None:
            self._pool.shutdown()

    def _give_back_after_fault(self, leases: list[Lease], fault: Exception) -> None:
        outcome = RetryLater(code="INTERNAL", why=f"a fault of the bridge: {fault!r}")
        with self._lock:
            self._apart = [lease for lease in self._apart if lease not in leases]
            self._due = deque(lease for lease in self._due if lease not in leases)
            self._unproven = [(lease, refusal) for lease, refusal in self._unproven if lease not in leases]
            for lease in leases:
                with contextlib.suppress(ValueError):  # it was settled before the fault
                    self._context.queue.settle(lease, outcome)

    def _group(self, pending: deque[Lease]) -> bool:
        """Makes parts of a lease where some of its sources are bad: one of the others together, small ones of these."""
        if len(pending) > 1 or not self._sources.tallies or pending[0].batch_ids[0] in self._suspects.trials:
            return False
        with self._lock:
            contents = _contents(pending[0], apart=self._sources.__contains__)
            most = max(1, int(pending[0].records / self._size.share_of(pending[0])))
            ranges = list(self._sources.groups(contents.sources, most=most)) if contents is not None else []
            if contents is not None and len(ranges) > 1:
                parts = self._replaced(pending[0], contents, ranges)
                if parts:
                    pending.clear()
                    pending.extend(parts)
                    return True
        return False

    def _send_next(
        self, pending: deque[Lease], in_flight: dict[Future[tuple[Outcome, float]], Lease], parallel: int
    ) -> None:
        """Sends one lease on this thread; or several small ones, together no more than a full request, on others."""
        if not in_flight and (len(pending) == 1 or parallel == 1):
            alone: Future[tuple[Outcome, float]] = Future()
            in_flight[alone] = pending.popleft()
            try:
                alone.set_result(self._sent(in_flight[alone]))
            except Exception as fault:  # noqa: BLE001  # raised again by whoever asks for the result, as a pool's is
                alone.set_exception(fault)
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="send-apart")
        request_bytes = sum(lease.request_bytes for lease in in_flight.values())
        records = sum(lease.records for lease in in_flight.values())
        while pending and len(in_flight) < parallel:
            request_bytes, records = request_bytes + pending[0].request_bytes, records + pending[0].records
            if in_flight and (request_bytes > self._full.max_bytes or records > self._full.max_records):
                return
            lease = pending.popleft()
            in_flight[self._pool.submit(self._sent, lease)] = lease

    def _sent(self, lease: Lease) -> tuple[Outcome, float]:
        context = self._context
        with context.counts.counting() as counts:
            counts.in_flight += 1
        began = context.clock()
        try:
            outcome: Outcome = context.sender.send(joined(lease.parts), records=lease.records)
        except DamagedRequest as damage:  # narrowed down to its batch, and set aside, as if the endpoint had said so
            outcome = Refused(code=DAMAGED, why=str(damage))
        finally:
            seconds = context.clock() - began
            with context.counts.counting() as counts:
                counts.in_flight -= 1
            context.counts.sent(lease.request_bytes, seconds)
        return outcome, seconds

    # --- judging, with the lock held ---

    def _handled(self, lease: Lease, outcome: Outcome, seconds: float, round_: _Round) -> list[Lease]:
        """Settles a lease by its outcome; returns the parts of it that are to be sent at once."""
        match outcome:
            case Accepted():
                self._accept(lease, outcome, seconds, round_)
            case TooLarge():
                self._size.too_large(lease.request_bytes, lease.records)
                return self._split_or_doubt(lease, outcome, round_)
            case Refused():
                round_.parallel = self._parallel
                return self._split_or_doubt(lease, outcome, round_)
            case RetryLater(perhaps_its_own_fault=True):
                self._stumbled(lease, outcome, round_)
                round_.pause_seconds = min(MAX_PAUSE_SECONDS, seconds * PAUSE_SHARE)
            case RetryLater() | Hold():
                timed_out = outcome.code in TIMEOUT_CODES
                self._size.failed(lease.request_bytes, lease.records, timed_out=timed_out)
                if round_.failure is None or _weight(outcome) > _weight(round_.failure):
                    round_.failure, round_.failed = outcome, lease
                self._give_back(lease, outcome)
        return []

    def _accept(self, lease: Lease, outcome: Accepted, seconds: float, round_: _Round) -> None:
        context, number = self._context, lease.batch_ids[0]
        rejected = min(outcome.rejected, lease.records)  # an endpoint may claim to have rejected more than it was sent
        context.queue.settle(lease, outcome)
        context.backlog.departed(lease.records)
        if number not in self._suspects.trials:
            self._due.extend(suspect for suspect in self._apart if suspect not in self._due)
        if self._suspects.trials:
            self._suspects.passed(number)
        self._size.accepted(lease.request_bytes, lease.records, seconds)
        self._learn(lease, bad=False)
        round_.accepted += 1
        round_.refusals = 0
        if not self._accepted_once:  # what it refused before may have been about us, and have been mended meanwhile
            self._accepted_once = True
            self._unproven.extend(round_.unproven)
            round_.unproven.clear()
        self._free_refusals = FREE_REFUSALS
        self._idle_step = 0
        with context.counts.counting() as counts:
            counts.accepted_requests += 1
            counts.delivered_records += lease.records - rejected
            counts.rejected_records += rejected
        context.tell(
            BatchAccepted(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                rejected=rejected,
                message=outcome.message,
                request_bytes=lease.request_bytes,
                seconds=seconds,
                age_seconds=max(0.0, (context.wall_clock_nano() - lease.oldest_received_unix_nano) / 1e9),
            )
        )
        for proven, refusal in round_.unproven:
            self._set_aside(proven, refusal)
        round_.unproven.clear()
        for doubtful, _ in self._unproven:  # refused before something was mended, perhaps: they get another try
            context.queue.settle(doubtful, RetryLater(code="", why=""))
        self._unproven.clear()

    def _give_back(self, lease: Lease, outcome: RetryLater | Hold) -> None:
        self._context.queue.settle(lease, outcome)
        with self._context.counts.counting() as counts:
            counts.retries += 1

    def _split_or_doubt(self, lease: Lease, outcome: TooLarge | Refused, round_: _Round) -> list[Lease]:
        """The halves of a lease; a single record is set aside where others are accepted."""
        known_bad = self._known_bad(lease)
        round_.refusals += not known_bad
        parts = self._halves(lease, outcome)
        if not parts and len(lease.batch_ids) > 1:  # one of its batches is damaged: each goes alone
            self._context.queue.settle(lease, outcome)
            self._single_batches += len(lease.batch_ids)
        elif not parts:
            if outcome.code == DAMAGED or round_.accepted or known_bad:
                self._set_aside(lease, outcome)
            else:
                round_.unproven.append((lease, outcome))
        if round_.refusals >= (REFUSALS_TO_GIVE_UP if self._accepted_once else FREE_REFUSALS):
            round_.failure, round_.failed = _refuses_everything(outcome), lease
        return parts

    def _known_bad(self, lease: Lease) -> bool:
        """Whether it holds records of such sources only that are refused while others are accepted."""
        contents = _contents(lease) if self._sources.tallies else None
        return contents is not None and all(self._sources.known_bad(source.key) for source in contents.sources)

    def _halves(self, lease: Lease, outcome: TooLarge | Refused | RetryLater) -> list[Lease]:
        contents = _contents(lease)
        ranges = halves(contents.sources) if contents is not None else []
        if contents is None or not ranges:
            return []
        parts = self._replaced(lease, contents, ranges)
        with self._context.counts.counting() as counts:
            counts.splits += 1
        self._context.tell(
            BatchSplit(endpoint=self._endpoint, stream=lease.stream, records=lease.records, why=outcome.why)
        )
        return parts

    def _replaced(self, lease: Lease, contents: Contents, ranges: Sequence[Range]) -> list[Lease]:
        try:
            return self._context.queue.replace(lease, _batches(lease, contents, ranges), keep=True)
        except ValueError:  # there are no numbers left between it and the next batch
            return []

    def _set_aside(self, lease: Lease, outcome: TooLarge | Refused) -> None:
        context = self._context
        context.queue.dead_letter(lease, outcome)
        context.backlog.departed(lease.records)
        self._suspects.dismiss(lease.batch_ids[0])
        if isinstance(outcome, Refused) and outcome.code != DAMAGED:  # else its source may well be a good one
            self._learn(lease, bad=True)
        with context.counts.counting() as counts:
            counts.dead_letter_records += lease.records
        context.tell(
            BatchRefused(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                code=outcome.code,
                why=outcome.why,
            )
        )

    def _learn(self, lease: Lease, *, bad: bool) -> None:
        """Remembers whose records were refused; what is accepted matters only where some source is suspected."""
        if bad or self._sources.tallies:
            contents = _contents(lease)
            for source in contents.sources if contents is not None else ():
                self._sources.learn(source.key, records=source.records, bad=source.records if bad else 0)

    def _stumbled(self, lease: Lease, outcome: RetryLater, round_: _Round) -> None:
        """The endpoint failed, by chance or at this request: what the trial says is done."""
        number = lease.batch_ids[0]
        fresh = number not in self._suspects.trials
        if not self._suspects.alternations(number):
            round_.stumbled, round_.failed = outcome, lease
        match self._suspects.failed(number, records=lease.records):
            case Verdict.SPLIT if parts := self._halves(lease, outcome):
                self._suspects.dismiss(number)
                for part in parts:
                    self._suspects.accuse(part.batch_ids[0])
                self._apart.extend(parts)
                self._due.extend(parts)
            case Verdict.CONVICT:
                self._set_aside(lease, Refused(code=outcome.code, why=f"fails while others pass: {outcome.why}"))
            case _ if fresh and not self._room_apart(lease):
                self._suspects.dismiss(number)
                self._give_back(lease, outcome)
            case _:
                self._apart.append(lease)
                with self._context.counts.counting() as counts:
                    counts.retries += 1
        if fresh:
            self._due.extend(suspect for suspect in self._apart if suspect is not lease and suspect not in self._due)

    def _room_apart(self, lease: Lease) -> bool:
        kept = sum(suspect.request_bytes for suspect in self._apart) + lease.request_bytes
        return len(self._apart) < MAX_APART and kept <= APART_REQUESTS * self._full.max_bytes

    def _end(self, round_: _Round, pending: Iterable[Lease]) -> None:
        """Judges what was refused without a witness, gives back what was not sent, and the permit."""
        context = self._context
        if round_.failure is not None:
            for lease in pending:
                self._give_back(lease, round_.failure)
        for lease, refusal in round_.unproven:
            if self._accepted_once and self._free_refusals:
                self._free_refusals -= 1
                self._set_aside(lease, refusal)
                continue
            if round_.failure is None:
                round_.failure, round_.failed = _refuses_everything(refusal), lease
            if len(self._unproven) < MAX_APART:
                self._unproven.append((lease, refusal))
            else:
                self._give_back(lease, round_.failure)
        permit = round_.permit
        if round_.accepted:
            away_seconds, permit = context.breaker.accepted(permit)
            if away_seconds:
                context.backlog.begin()
                context.tell(DeliveryResumed(endpoint=self._endpoint, away_seconds=round(away_seconds, 3)))
        failure = round_.failure or (None if round_.accepted else round_.stumbled)
        if failure is not None and round_.failed is not None:
            self._tell_failure(failure, round_.failed, context.breaker.failed(permit, failure))
        else:
            context.breaker.unused(permit)

    def _tell_failure(self, failure: RetryLater | Hold, lease: Lease, delay: float | None) -> None:
        if delay is None:
            return  # another request under way met the same, and told; or it may be chance
        if isinstance(failure, RetryLater) and failure.perhaps_its_own_fault:
            self._size.failed(lease.request_bytes, lease.records, timed_out=False)
        event = DeliveryHeld if isinstance(failure, Hold) else DeliveryDelayed
        why = f"{failure.why}; {failure.cure}" if isinstance(failure, Hold) else failure.why
        self._context.tell(
            event(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                code=failure.code,
                why=why,
                delay_seconds=delay,
            )
        )


def _weight(failure: RetryLater | Hold) -> float:
    """Which of several failures counts: the longest delay that was asked for, and before all what needs a human."""
    return math.inf if isinstance(failure, Hold) else failure.after_seconds or 0.0


def _refuses_everything(outcome: Refused | TooLarge) -> Hold:
    cure = outcome.cure if isinstance(outcome, Refused) and outcome.cure else "see what the endpoint says"
    return Hold(code=outcome.code, why=f"refuses everything: {outcome.why}", cure=cure)


def _contents(lease: Lease, *, apart: Callable[[bytes], bool] = lambda _: False) -> Contents | None:
    """The records of a lease; None where they cannot be taken apart, or it is not what it should be."""
    try:
        contents = Contents(unpacked(joined(lease.parts)), apart=apart)
    except ValueError:
        return None
    return contents if contents.records == lease.records else None


def _batches(lease: Lease, contents: Contents, ranges: Iterable[Range]) -> list[Batch]:
    return [
        Batch(
            stream=lease.stream,
            request=packed(contents.part(first, end)),
            records=end - first,
            oldest_received_unix_nano=lease.oldest_received_unix_nano,
        )
        for first, end in ranges
    ]
