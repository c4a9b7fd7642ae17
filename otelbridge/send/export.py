"""Sends one lease to its settlement: what the endpoint's answer does to its records.

| outcome of a request | its records |
|---|---|
| accepted | gone, and counted |
| retry later, hold | given back; the circuit breaker waits |
| too large, refused; several records | searched for the bad ones: parts are sent at once (`bad_records.Search`) |
| too large, refused; one record | set aside, if that is no chance and others are accepted; else tried again later |
| refused as a firewall does, by an endpoint that accepted others | held, but others are tried at once; then as below |
| perhaps its own fault | kept apart, tried between others until accepted, split or convicted (`bad_records.Suspects`) |
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import RLock
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.net.backoff import Random
from otelbridge.queue.model import Accepted, Batch, Hold, Lease, Outcome, Refused, RetryLater, TooLarge
from otelbridge.queue.packing import DamagedRequest, joined, packed, unpacked
from otelbridge.queue.queue import LeasingQueue
from otelbridge.send.apart import MAX_APART, Apart
from otelbridge.send.bad_records import BadSources, Contents, Group, Refusals, Search, Suspects, Verdict, halves
from otelbridge.send.circuit_breaker import CircuitBreaker, Permit, SendCounts
from otelbridge.send.classify import PERHAPS_ITS_CONTENT
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
SEARCH_RECORDS = 2048
"""Of a lease while sources are suspected: what was accepted of it is settled when all of it is judged."""
FREE_REFUSALS = 8
"""So many records set aside without one accepted between them, and the endpoint itself is under suspicion: from then on
records are kept apart until it accepts others, so that a wrong address cannot turn the queue into dead letters."""
REFUSALS_TO_GIVE_UP = 64
"""Refusals with nothing accepted between them, of a lease of an endpoint that has accepted before."""
STAINED_WEIGHT = 1 / 8
"""Of a refusal that says nothing new: others of the same sources were refused before."""
STUMBLES_TO_GIVE_UP = 8
"""Parts in a row that fail: the endpoint is ill now, and what is left of their lease goes back."""
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

    queue: LeasingQueue
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
class _Part:
    """A lease that is sent in parts, to find its bad records."""

    lease: Lease
    search: Search
    under_way: int = 0
    refusals: dict[int, Refused | TooLarge] = field(default_factory=dict)
    """What was said of each record that is bad, or was refused alone."""
    unwitnessed: set[int] = field(default_factory=set)
    """Of these, what was refused since a part was accepted."""
    rejected: int = 0
    """Of the accepted records, by partial successes."""
    message: str = ""


class _Job(NamedTuple):
    """One request to send."""

    lease: Lease
    request: bytes
    request_bytes: int
    records: int
    part: _Part | None = None
    group: Group = ()
    """Of the part; the whole lease where there is none."""


class _Sent(NamedTuple):
    """What came of one."""

    job: _Job
    outcome: Outcome | Exception
    seconds: float


@dataclass(slots=True)
class _Round:
    """What one permit's requests came to so far."""

    permit: Permit
    suspected: bool
    """What it began with had failed before."""
    parallel: int = 1
    """Requests in flight at once; more while bad records are looked for."""
    pending: deque[Lease] = field(default_factory=deque)
    parts: list[_Part] = field(default_factory=list)
    in_flight: list[_Job] = field(default_factory=list)
    accepted: int = 0
    refusals: float = 0
    """Requests refused, of any size, since one was accepted; less where that was to be expected."""
    stumbles: int = 0
    """Parts that failed in a way that may be chance, since one was accepted."""
    unproven: list[tuple[Lease, Refused | TooLarge]] = field(default_factory=list)
    """Single records that were refused while nothing was accepted yet, or perhaps by chance."""
    failure: RetryLater | Hold | None = None
    """Ends the round."""
    failed: Lease | None = None
    stumbled: RetryLater | None = None
    """A failure that may be chance, of a request that has not failed while others passed."""
    pause_seconds: float = 0.0

    def leases(self) -> list[Lease]:
        """All that are not settled yet."""
        whole = [job.lease for job in self.in_flight if job.part is None]
        return [*whole, *self.pending, *(part.lease for part in self.parts), *(lease for lease, _ in self.unproven)]


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
        self._refusals = Refusals()
        self._apart = Apart(context.settings, clock=context.clock, random=context.random)
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
            return not self._apart.suspects and not self._apart.unproven

    def apart_records(self) -> int:
        """Records that are kept apart from the others."""
        with self._lock:
            return sum(lease.records for lease in self._apart.leases)

    def limits(self) -> Limits:
        """For the next request."""
        with self._lock:
            return self._size.limits()

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Waits until there may be something to send."""
        with self._lock:
            if self._apart.suspects or self._apart.unproven:
                timeout_seconds = min(timeout_seconds, self._apart.wait_seconds())
        self._context.queue.wait_for_work(timeout_seconds)

    def hurry(self) -> None:
        """What is kept apart is tried at once."""
        with self._lock:
            self._apart.hurry()

    def _take(self, *, probing: bool) -> list[Lease]:
        """What to send next: suspects whose turn it is, or the next lease of the queue; nothing when there is none.

        Args:
            probing: one lease only, and rather the next one of the queue: it tells more about the endpoint.
        """
        most, without = 1 if probing else self._parallel, self._streams_out
        with self._lock:
            suspects = []
            if not (probing and self._context.queue.has_work()):
                suspects = self._apart.taken(most, without=without)
            if not suspects and (lease := self._next_fresh()) is not None:
                return [lease]
            if not suspects:
                suspects = self._apart.taken(most, without=without)
            if not suspects and self._suspects_are_due():
                suspects = self._apart.taken_while_idle(most, without=without)
            return suspects

    def _suspects_are_due(self) -> bool:
        with self._lock:
            if self._apart.due:
                return True
            # Whatever failed while nothing else passed is paced by the circuit breaker.
            if not self._apart.suspects and not self._apart.unproven:
                return False
            unpaced = any(not self._suspects.alternations(lease.batch_ids[0]) for lease in self._apart.suspects)
            return unpaced or not self._apart.wait_seconds()

    def _next_fresh(self) -> Lease | None:
        limits, context = self._size.limits(), self._context
        if self._sources.tallies:  # it will be sent in groups
            limits = Limits(self._full.max_bytes, min(self._full.max_records, SEARCH_RECORDS))
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
        size, groups, first = max(1, int(lease.records / share)), [], 0
        while first < lease.records:
            groups.append(range(first, min(first + size, lease.records)))
            first, size = first + size, size * 2 if len(groups) > 1 else size
        self._context.queue.replace(lease, _batches(lease, contents, groups))
        return True

    # --- sending ---

    def deliver(self, permit: Permit, beat: Callable[[], None]) -> float:
        """Takes leases, sends and settles them, or keeps them apart; the permit is given back.

        Returns the seconds to wait before the next request.
        """
        try:
            with self._lock:  # also around the streams: no other worker may take of one in between
                leases = self._take(probing=permit.probe)
                streams = [lease.stream for lease in leases] if self._context.settings.ordered else []
                self._streams_out.extend(streams)
        except Exception:
            self._context.breaker.unused(permit)
            raise
        if not leases:  # another worker was quicker
            self._context.breaker.unused(permit)
            return 0.0
        suspected = leases[0].batch_ids[0] in self._suspects.trials
        round_ = _Round(permit, suspected=suspected, pending=deque(leases))
        if len(leases) > 1:
            round_.parallel = self._parallel
        sent: SimpleQueue[_Sent] = SimpleQueue()
        try:
            self._set_suspected_apart(round_)
            while True:
                self._start(round_, sent)
                if not round_.in_flight:
                    break
                beat()
                self._answered(sent.get(), round_)
            with self._lock:
                self._end(round_)
        except Exception as fault:
            while round_.in_flight:
                round_.in_flight.remove(sent.get().job)
            self._give_back_after_fault(round_.leases(), fault)
            self._context.breaker.unused(permit)
            raise
        finally:
            with self._lock:
                for stream in streams:
                    self._streams_out.remove(stream)
        return round_.pause_seconds

    def give_back_all(self) -> None:
        """What is kept apart goes back to the queue: the bridge closes."""
        with self._lock:
            closing = RetryLater(code="CANCELLED", why="the bridge is closing")
            for lease in self._apart.leases:
                self._context.queue.settle(lease, closing)
            self._apart.forget(self._apart.leases)
        if self._pool is not None:
            self._pool.shutdown()

    def _give_back_after_fault(self, leases: list[Lease], fault: Exception) -> None:
        outcome = RetryLater(code="INTERNAL", why=f"a fault of the bridge: {fault!r}")
        with self._lock:
            self._apart.forget(leases)
            for lease in leases:
                with contextlib.suppress(ValueError):  # it was settled before the fault
                    self._context.queue.settle(lease, outcome)

    def _set_suspected_apart(self, round_: _Round) -> None:
        """The records of suspected sources are sent in small groups, those of all others together."""
        lease = round_.pending[0]
        if len(round_.pending) > 1 or not self._sources.tallies or lease.batch_ids[0] in self._suspects.trials:
            return
        with self._lock:
            contents = _contents(lease)
            if contents is None:
                return
            suspected = [n for n in range(contents.records) if self._sources.share(contents.source(n))]
            if not suspected:
                return
            others = sorted(set(range(contents.records)).difference(suspected))
            round_.pending.popleft()
            if others:
                with contextlib.suppress(ValueError):  # no numbers left for the parts: then they are searched together
                    trusted, lease = self._replaced(lease, contents, [others, suspected])
                    round_.pending.append(trusted)
                    contents = Contents(unpacked(joined(lease.parts)))
            self._search(lease, contents, round_)
            round_.parallel = self._parallel

    def _search(self, lease: Lease, contents: Contents, round_: _Round) -> _Part:
        def most() -> int:
            return max(1, int(lease.records / self._size.share_of(lease)))

        part = _Part(lease, Search(contents, self._sources.share, most))
        round_.parts.append(part)
        return part

    def _start(self, round_: _Round, sent: SimpleQueue[_Sent]) -> None:
        """Sends what there is: one request on this thread, or several small ones on others, together a full one."""
        with self._lock:
            jobs = list(self._jobs(round_))
        if len(jobs) == len(round_.in_flight) == 1:
            sent.put(self._sent(jobs[0]))
            return
        if jobs and self._pool is None:
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="send-apart")
        for number, job in enumerate(jobs):
            assert self._pool is not None
            try:
                self._pool.submit(self._send_beside, job, sent)
            except RuntimeError:  # no thread can be started: nobody waits for these
                for unsent in jobs[number:]:
                    round_.in_flight.remove(unsent)
                    round_.pending.extend([unsent.lease] if unsent.part is None else [])
                raise

    def _jobs(self, round_: _Round) -> Iterator[_Job]:
        """The requests that may be sent now."""
        request_bytes = sum(job.request_bytes for job in round_.in_flight)
        records = sum(job.records for job in round_.in_flight)
        while round_.failure is None and len(round_.in_flight) < round_.parallel:
            if round_.in_flight and (request_bytes >= self._full.max_bytes or records >= self._full.max_records):
                return
            job = self._next_job(round_)
            if job is None:
                return
            request_bytes, records = request_bytes + job.request_bytes, records + job.records
            round_.in_flight.append(job)
            yield job

    def _next_job(self, round_: _Round) -> _Job | None:
        if round_.pending:
            lease = round_.pending.popleft()
            return _Job(lease, joined(lease.parts), lease.request_bytes, lease.records)
        for part in tuple(round_.parts):
            group = part.search.next_group(proven=self._refusals.proven)
            if group is not None:
                part.under_way += 1
                request = part.search.contents.part(group)
                return _Job(part.lease, request, len(request), len(group), part, group)
            if not part.under_way:
                self._conclude(part, round_)
        return None

    def _send_beside(self, job: _Job, sent: SimpleQueue[_Sent]) -> None:
        sent.put(self._sent(job))

    def _sent(self, job: _Job) -> _Sent:
        context = self._context
        with context.counts.counting() as counts:
            counts.in_flight += 1
        began = context.clock()
        outcome: Outcome | Exception
        try:
            outcome = context.sender.send(job.request, records=job.records)
        except DamagedRequest as damage:  # narrowed down to its batch, and set aside, as if the endpoint had said so
            outcome = Refused(code=DAMAGED, why=str(damage))
        except Exception as fault:  # noqa: BLE001  # raised again by the worker that waits for it
            outcome = fault
        seconds = context.clock() - began
        with context.counts.counting() as counts:
            counts.in_flight -= 1
        context.counts.sent(job.request_bytes, seconds)
        return _Sent(job, outcome, seconds)

    # --- judging, with the lock held ---

    def _answered(self, sent: _Sent, round_: _Round) -> None:
        """What follows from the answer to a request, for its records and for the round."""
        job, outcome, seconds = sent
        round_.in_flight.remove(job)
        if isinstance(outcome, Exception):
            if job.part is None:
                round_.pending.append(job.lease)
            raise outcome
        with self._lock:
            match outcome:
                case Accepted():
                    self._accept(job, outcome, seconds, round_)
                case TooLarge() | Refused():
                    self._refuse(job, outcome, round_)
                case RetryLater(perhaps_its_own_fault=True):
                    self._stumble(job, outcome, round_)
                    round_.pause_seconds = min(MAX_PAUSE_SECONDS, seconds * PAUSE_SHARE)
                case Hold(code=code, why=why) if code in PERHAPS_ITS_CONTENT and self._others_pass(job, round_):
                    self._stumble(job, RetryLater(code=code, why=why, perhaps_its_own_fault=True), round_)
                case Hold(code=code) if code in PERHAPS_ITS_CONTENT and self._accepted_once and job.part is None:
                    round_.failure, round_.failed = outcome, job.lease
                    self._put_apart(job.lease)
                case RetryLater() | Hold():
                    timed_out = outcome.code in TIMEOUT_CODES
                    self._size.failed(job.request_bytes, job.records, timed_out=timed_out)
                    if round_.failure is None or _weight(outcome) > _weight(round_.failure):
                        round_.failure, round_.failed = outcome, job.lease
                    if job.part is None:
                        self._give_back(job.lease, outcome)
                    round_.pause_seconds = min(MAX_PAUSE_SECONDS, seconds * PAUSE_SHARE)
            if job.part is not None:
                job.part.under_way -= 1

    def _accept(self, job: _Job, outcome: Accepted, seconds: float, round_: _Round) -> None:
        context, number, part = self._context, job.lease.batch_ids[0], job.part
        rejected = min(outcome.rejected, job.records)  # an endpoint may claim to have rejected more than it was sent
        if part is None:
            context.queue.settle(job.lease, outcome)
            context.backlog.departed(job.records)
            self._refusals.recent.append(False)
            self._refusals.unsuspected += 1
        else:
            if not part.search.refused_before(job.group):
                self._refusals.first_try(refused=False, suspected=part.search.suspected(job.group))
            part.unwitnessed.clear()
            part.rejected, part.message = part.rejected + rejected, outcome.message or part.message
            if part.search.passed(job.group):
                self._refusals.contradicted()
        if self._apart.suspects and number not in self._suspects.trials:
            self._apart.call()
        if self._suspects.trials and (part is None or number not in self._suspects.trials):
            self._suspects.passed(number)
        self._size.accepted(job.request_bytes, job.records, seconds)
        if self._sources.tallies:
            self._learn(self._sources_of(job), bad=False)
        round_.accepted += 1
        round_.refusals = round_.stumbles = 0
        if not self._accepted_once:  # what it refused before may have been about us, and have been mended meanwhile
            self._accepted_once = True
            self._apart.unproven.extend(round_.unproven)
            round_.unproven.clear()
        self._free_refusals = FREE_REFUSALS
        self._apart.idle_step = 0
        with context.counts.counting() as counts:
            counts.accepted_requests += 1
            counts.delivered_records += job.records - rejected
            counts.rejected_records += rejected
        context.tell(
            BatchAccepted(
                endpoint=self._endpoint,
                stream=job.lease.stream,
                records=job.records,
                rejected=rejected,
                message=outcome.message,
                request_bytes=job.request_bytes,
                seconds=seconds,
                age_seconds=max(0.0, (context.wall_clock_nano() - job.lease.oldest_received_unix_nano) / 1e9),
            )
        )
        doubted, round_.unproven = round_.unproven, []
        for lease, refusal in doubted:
            if self._no_chance(refusal):
                self._set_aside(lease, refusal)
            else:
                round_.unproven.append((lease, refusal))
        for doubtful, _ in self._apart.unproven:  # refused before something was mended, perhaps: they get another try
            context.queue.settle(doubtful, RetryLater(code="", why=""))
        self._apart.unproven.clear()

    def _give_back(self, lease: Lease, outcome: RetryLater | Hold) -> None:
        self._context.queue.settle(lease, outcome)
        with self._context.counts.counting() as counts:
            counts.retries += 1

    def _refuse(self, job: _Job, outcome: TooLarge | Refused, round_: _Round) -> None:
        """The bad records among several are searched for; a single one is set aside where others are accepted."""
        if isinstance(outcome, TooLarge):
            self._size.too_large(job.request_bytes, job.records)
        known_bad = self._sources_are(job, self._sources.known_bad)
        stained = round_.accepted > 0 and job.part is not None and job.part.search.stained(job.group)
        round_.refusals += 0 if known_bad else STAINED_WEIGHT if stained else 1
        if round_.refusals >= (REFUSALS_TO_GIVE_UP if self._accepted_once else FREE_REFUSALS):
            round_.failure, round_.failed = _refuses_everything(outcome), job.lease
        part, group = job.part, job.group
        if part is None:
            contents = _contents(job.lease) if outcome.code != DAMAGED else None
            if contents is None:
                self._refuse_damaged(job.lease, outcome, round_)
                return
            part = self._search(job.lease, contents, round_)
            group = part.search.whole()
            if len(group) > 1:
                self._tell_split(job.lease, outcome)
        again = part.search.refused_before(group)
        if len(group) == 1:
            part.refusals[group[0]] = outcome
            part.unwitnessed.add(group[0])
        if isinstance(outcome, TooLarge):
            part.search.too_large(group)
        else:
            round_.parallel = self._parallel
            if again:
                self._refusals.repeated()
            else:
                self._refusals.first_try(refused=True, suspected=part.search.suspected(group))
                if len(group) == 1:
                    self._learn(part.search.contents.sources(group), bad=True)
            part.search.refused(group, proven=self._refusals.proven)

    def _refuse_damaged(self, lease: Lease, outcome: TooLarge | Refused, round_: _Round) -> None:
        """It cannot be taken apart."""
        if len(lease.batch_ids) > 1:  # one of its batches is damaged: each goes alone
            self._context.queue.settle(lease, outcome)
            self._single_batches += len(lease.batch_ids)
        elif outcome.code == DAMAGED or round_.accepted:
            self._set_aside(lease, outcome)
        else:
            round_.unproven.append((lease, Refused(code=DAMAGED, why=outcome.why)))

    def _conclude(self, part: _Part, round_: _Round) -> None:
        """Settles a lease that was sent in parts: each of its records as the search judged it."""
        round_.parts.remove(part)
        search, left = part.search, part.search.left()
        doubtful = [] if round_.failure is not None else left  # refused alone, again and again, and perhaps by chance
        # What stays comes first: the numbers of what goes are free for it, should it be cut again.
        unsettled = [left] if round_.failure is not None and left else []
        alone = [[number] for number in (*doubtful, *search.bad)]
        accepted = [search.accepted] if search.accepted else []
        try:
            pieces = iter(self._replaced(part.lease, search.contents, [*unsettled, *search.failing, *alone, *accepted]))
        except ValueError:  # there are no numbers left between it and the next batch: all of it once more
            self._give_back(part.lease, round_.failure or RetryLater(code="", why=""))
            return
        if unsettled and round_.failure is not None:
            self._give_back(next(pieces), round_.failure)
        for _ in search.failing:
            self._put_apart(next(pieces))
        for (number,) in alone:
            refusal = part.refusals[number]
            known_bad = self._sources.known_bad(search.contents.source(number))
            witnessed = number not in part.unwitnessed or len(part.unwitnessed) <= FREE_REFUSALS
            if self._no_chance(refusal) and (known_bad or (round_.accepted and witnessed)):
                self._set_aside(next(pieces), refusal)
            else:
                round_.unproven.append((next(pieces), refusal))
        for piece in pieces:
            self._context.queue.settle(piece, Accepted(rejected=part.rejected, message=part.message))
            self._context.backlog.departed(piece.records)

    def _no_chance(self, refusal: Refused | TooLarge) -> bool:
        """Whether it is about the record that was sent alone; a size, and damage of ours, are nobody's chance."""
        return isinstance(refusal, TooLarge) or refusal.code == DAMAGED or self._refusals.proven

    def _others_pass(self, job: _Job, round_: _Round) -> bool:
        """Whether it failed before, and others were accepted since."""
        if job.part is not None:
            return round_.accepted > 0
        return job.lease.batch_ids[0] in self._suspects.trials and not round_.permit.probe

    def _put_apart(self, lease: Lease) -> None:
        """It failed, and nobody knows yet whether that is its fault."""
        number = lease.batch_ids[0]
        if not self._apart.has_room(lease):
            self._suspects.dismiss(number)
            self._give_back(lease, RetryLater(code="", why=""))
            return
        self._suspects.accuse(number)
        self._apart.add_due([lease])

    def _sources_are(self, job: _Job, kind: Callable[[bytes], bool]) -> bool:
        """Whether it holds records of such sources only."""
        return bool(self._sources.tallies) and all(map(kind, self._sources_of(job)))

    def _sources_of(self, job: _Job) -> Counter[bytes]:
        if job.part is not None:
            return job.part.search.contents.sources(job.group)
        contents = _contents(job.lease)
        return contents.sources(range(contents.records)) if contents is not None else Counter()

    def _tell_split(self, lease: Lease, outcome: TooLarge | Refused | RetryLater) -> None:
        with self._context.counts.counting() as counts:
            counts.splits += 1
        self._context.tell(
            BatchSplit(endpoint=self._endpoint, stream=lease.stream, records=lease.records, why=outcome.why)
        )

    def _replaced(self, lease: Lease, contents: Contents, groups: Sequence[Sequence[int]]) -> list[Lease]:
        if len(groups) == 1:
            return [lease]
        return self._context.queue.replace(lease, _batches(lease, contents, groups), keep=True)

    def _set_aside(self, lease: Lease, outcome: TooLarge | Refused) -> None:
        context = self._context
        context.queue.dead_letter(lease, outcome)
        context.backlog.departed(lease.records)
        self._suspects.dismiss(lease.batch_ids[0])
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

    def _learn(self, sources: Counter[bytes], *, bad: bool) -> None:
        """Remembers whose records were refused for good, or accepted."""
        for source, records in sources.items():
            self._sources.learn(source, records=records, bad=records if bad else 0)

    def _stumble(self, job: _Job, outcome: RetryLater, round_: _Round) -> None:
        """The endpoint failed, by chance or at this request: what the trial says is done."""
        lease, number = job.lease, job.lease.batch_ids[0]
        fresh = number not in self._suspects.trials
        if not self._suspects.alternations(number):
            round_.stumbled, round_.failed = outcome, lease
        if job.part is not None:
            round_.stumbles += 1
            if round_.stumbles >= STUMBLES_TO_GIVE_UP:
                round_.failure = outcome
            job.part.search.failed(job.group)
            return
        match self._suspects.failed(number, records=lease.records):
            case Verdict.SPLIT if parts := self._halves(lease, outcome):
                self._suspects.dismiss(number)
                for part in parts:
                    self._suspects.accuse(part.batch_ids[0])
                self._apart.add_due(parts)
            case Verdict.CONVICT:
                self._learn(self._sources_of(job), bad=True)
                self._set_aside(lease, Refused(code=outcome.code, why=f"fails while others pass: {outcome.why}"))
            case _ if fresh and not self._apart.has_room(lease):
                self._suspects.dismiss(number)
                self._give_back(lease, outcome)
            case _:
                self._apart.suspects.append(lease)
                with self._context.counts.counting() as counts:
                    counts.retries += 1
        if fresh:
            self._apart.call(but=lease)

    def _halves(self, lease: Lease, outcome: RetryLater) -> list[Lease]:
        contents = _contents(lease)
        if contents is None or contents.records == 1:
            return []
        try:
            parts = self._replaced(lease, contents, halves(contents, tuple(range(contents.records))))
        except ValueError:  # there are no numbers left between it and the next batch
            return []
        self._tell_split(lease, outcome)
        return parts

    def _end(self, round_: _Round) -> None:
        """Judges what was refused without a witness, gives back what was not sent, and the permit."""
        context = self._context
        for part in tuple(round_.parts):
            self._conclude(part, round_)
        if round_.failure is not None:
            for lease in round_.pending:
                self._give_back(lease, round_.failure)
        for lease, refusal in round_.unproven:
            if self._accepted_once and self._free_refusals and self._no_chance(refusal):
                self._free_refusals -= 1
                self._set_aside(lease, refusal)
                continue
            if round_.failure is None and not round_.accepted:
                round_.failure, round_.failed = _refuses_everything(refusal), lease
                # Perhaps it is this record alone: others need not wait to find out.
                round_.suspected = round_.suspected or (self._accepted_once and not round_.permit.probe)
            if len(self._apart.unproven) < MAX_APART:
                self._apart.unproven.append((lease, refusal))
            else:
                self._give_back(lease, round_.failure or RetryLater(code="", why=""))
        permit = round_.permit
        if round_.accepted:
            away_seconds, permit = context.breaker.accepted(permit)
            if away_seconds:
                context.backlog.begin()
                context.tell(DeliveryResumed(endpoint=self._endpoint, away_seconds=round(away_seconds, 3)))
        failure = round_.failure or (None if round_.accepted else round_.stumbled)
        if failure is None or round_.failed is None:
            context.breaker.unused(permit)
            return
        suspected = round_.suspected or (failure.code in PERHAPS_ITS_CONTENT and not permit.probe)
        delay = context.breaker.failed(permit, failure, suspected=suspected)
        if delay is not None:  # else another request under way met the same, and told; or it may be chance
            self._tell_failure(failure, round_.failed, delay)

    def _tell_failure(self, failure: RetryLater | Hold, lease: Lease, delay: float) -> None:
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


def _contents(lease: Lease) -> Contents | None:
    """The records of a lease; None where they cannot be taken apart, or it is not what it should be."""
    try:
        contents = Contents(unpacked(joined(lease.parts)))
    except ValueError:
        return None
    return contents if contents.records == lease.records else None


def _batches(lease: Lease, contents: Contents, groups: Iterable[Sequence[int]]) -> list[Batch]:
    return [
        Batch(
            stream=lease.stream,
            request=packed(contents.part(group)),
            records=len(group),
            oldest_received_unix_nano=lease.oldest_received_unix_nano,
        )
        for group in groups
    ]
