"""Takes leases from the queue and sends them: whole and one at a time, or in small parts several at once.

| outcome of a request | its records |
|---|---|
| accepted | gone, and counted |
| retry later, hold | given back; the circuit breaker waits |
| refused as a firewall does, by an endpoint that accepted others | held, but others are tried at once |
| too large, refused, perhaps its own fault | as `unaccepted.Unaccepted` decides |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from threading import RLock
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.queue.model import Accepted, Hold, Lease, Outcome, Refused, RetryLater, TooLarge
from otelbridge.queue.packing import DamagedRequest, joined, unpacked
from otelbridge.send.circuit_breaker import Permit
from otelbridge.send.classify import MISCOUNTED, PERHAPS_ITS_CONTENT, counted
from otelbridge.send.request_limits import Limits
from otelbridge.send.unaccepted import DAMAGED, FREE_REFUSALS, PARALLEL, ExportContext, Job, Round, Unaccepted
from otelbridge.telemetry.events import BatchAccepted, DeliveryResumed

SEARCH_RECORDS = 2048
"""Of a lease while sources are suspected: what was accepted of it is settled when all of it is judged."""
PAUSE_SHARE = 0.1
"""Of a failed request's duration, waited before the next one while failures may be chance."""
MAX_PAUSE_SECONDS = 1.0
TIMEOUT_CODES = frozenset({"DEADLINE_EXCEEDED", "timeout", "504", "524", "598", MISCOUNTED})
"""It may have stored what it did not answer to in time, or not in a way that can be true."""


class _Sent(NamedTuple):
    """The outcome of one job."""

    job: Job
    outcome: Outcome | BaseException
    seconds: float


class Export:
    """Takes leases from the queue, sends and settles them. Thread-safe."""

    def __init__(self, context: ExportContext) -> None:
        self._context = context
        self._endpoint = context.sender.endpoint
        self._full = Limits(context.settings.max_request_bytes, context.settings.max_request_records)
        self._lock = RLock()  # also around settlements: their order is the order in which outcomes were judged
        self._unaccepted = Unaccepted(context)
        self._size, self._apart = self._unaccepted.size, self._unaccepted.apart
        self._suspects, self._sources = self._unaccepted.suspects, self._unaccepted.sources
        self._rounds: list[Round] = []
        """Under way: with what is kept apart they have every lease that is out."""
        self._pool: ThreadPoolExecutor | None = None

    # --- taking ---

    def has_work(self) -> bool:
        """Whether there may be something to send."""
        return self._context.queue.has_work() or self._suspects_are_due()

    def idle(self) -> bool:
        """Whether nothing is kept apart."""
        with self._lock:
            return not self._apart.suspects and not self._apart.unproven

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Waits until there may be something to send."""
        with self._lock:
            if self._apart.has_any(without=self._context.queue.left_out):
                timeout_seconds = min(timeout_seconds, self._apart.wait_seconds())
        self._context.queue.wait_for_work(timeout_seconds)

    def hurry(self) -> None:
        """Tries what is kept apart at once."""
        with self._lock:
            self._apart.hurry()

    def _take(self, *, probing: bool) -> list[Lease]:
        """With the lock held: what to send next, suspects whose turn it is or the next lease of the queue.

        Of a probe, one lease, and rather the queue's next one: it tells more about the endpoint.
        """
        most, without = 1 if probing else self._unaccepted.parallel, self._context.queue.left_out
        if self._apart.suspects:
            self._unaccepted.release_too_large()
        suspects: list[Lease] = []
        if self._apart.due and not (probing and self._context.queue.has_work() and not self._apart.first):
            suspects = self._apart.taken(most, without=without)
        if not suspects and (lease := self._next_fresh()) is not None:
            return [lease]
        if not suspects and self._apart.due:
            suspects = self._apart.taken(most, without=without)
        if not suspects and self._suspects_are_due():
            suspects = self._apart.taken_while_idle(most, without=without)
        return suspects

    def _suspects_are_due(self) -> bool:
        with self._lock:
            apart, out = self._apart, self._context.queue.left_out
            if any(lease.stream not in out for lease in apart.due):
                return True
            # Whatever failed while nothing else passed is paced by the circuit breaker.
            if not apart.has_any(without=out):
                return False
            suspects = [lease for lease in apart.suspects if lease.stream not in out]
            unpaced = any(not self._suspects.alternations(lease.batch_ids[0]) for lease in suspects)
            return (unpaced and not apart.resting) or not apart.wait_seconds()

    def _next_fresh(self) -> Lease | None:
        limits, context = self._size.limits(), self._context
        if self._sources.tallies:  # it will be sent in groups
            limits = Limits(self._full.max_bytes, min(self._full.max_records, SEARCH_RECORDS))
        records = context.backlog.max_records(limits.max_records)
        if self._unaccepted.single_batches:
            self._unaccepted.single_batches -= 1
            return context.queue.take(max_bytes=1, max_records=1)
        lease = context.queue.take(max_bytes=limits.max_bytes, max_records=records)
        if lease is not None and self._is_cut(lease):
            lease = context.queue.take(max_bytes=limits.max_bytes, max_records=records)
        if lease is not None:
            context.backlog.charge(lease.records, lease.oldest_received_unix_nano)
        return lease

    def _is_cut(self, lease: Lease) -> bool:
        """Whether it was one batch, so large that smaller ones have been put in its place."""
        if len(lease.batch_ids) > 1 or lease.records == 1 or self._sources.tallies:
            return False
        share = self._size.share_of(lease)
        return share > 1 and self._unaccepted.cut(lease, math.ceil(share))

    # --- sending ---

    def deliver(self, permit: Permit, beat: Callable[[], None]) -> float:
        """Takes leases, sends and settles them, or keeps them apart; the permit is given back.

        Returns the seconds to wait before the next request.
        """
        round_, streams = Round(permit), set[Stream]()
        sent: SimpleQueue[_Sent] = SimpleQueue()
        try:
            with self._lock:  # also around the streams: no other worker may take of one in between
                leases = self._take(probing=permit.probe)
                round_.pending.extend(leases)
                self._rounds.append(round_)
                # Where records are to arrive in order, one request of a stream is under way.
                if self._context.settings.ordered:
                    streams = {lease.stream for lease in leases}
                    self._context.queue.leave_out(streams)
            if not leases:  # another worker was quicker
                self._context.breaker.unused(permit)
                return 0.0
            round_.suspected = leases[0].batch_ids[0] in self._suspects.trials
            if len(leases) > 1:
                round_.parallel = self._unaccepted.parallel
            if self._sources.tallies:
                with self._lock:
                    self._unaccepted.set_suspected_apart(round_)
            while True:
                self._start(round_, sent)
                if not round_.in_flight:
                    break
                beat()
                answer = sent.get()
                round_.unheard -= 1
                self._answered(answer, round_)
            with self._lock:
                self._end(round_)
        except BaseException:
            for _ in range(round_.unheard):
                sent.get()
            self._context.breaker.unused(permit)
            raise
        finally:
            with self._lock:
                self._rounds = [other for other in self._rounds if other is not round_]
            if streams:
                self._context.queue.let_in(streams)
        return round_.pause_seconds

    def give_back_all(self) -> None:
        """Gives everything kept apart back to the queue, as the bridge closes."""
        with self._lock:
            closing = RetryLater(code="CANCELLED", why="the bridge is closing")
            for lease in self._apart.leases:
                self._context.queue.settle(lease, closing)
            self._apart.forget(self._apart.leases)
        if self._pool is not None:
            self._pool.shutdown()

    def give_back_lost(self) -> None:
        """After a fault, wherever it was: gives back every lease that is out and that nobody has any more."""
        with self._lock:
            out = {id(lease): lease for lease in self._context.queue.leases()}
            self._apart.forget([lease for lease in self._apart.leases if id(lease) not in out])
            held = [*self._apart.leases, *(lease for round_ in self._rounds for lease in round_.leases())]
            for key in out.keys() - set(map(id, held)):
                self._unaccepted.give_back(out[key], RetryLater(code="INTERNAL", why="a fault of the bridge"))

    def _start(self, round_: Round, sent: SimpleQueue[_Sent]) -> None:
        """Sends what there is: one request on this thread, or several small ones on others, together a full one."""
        with self._lock:
            jobs = list(self._jobs(round_))
        if len(jobs) == len(round_.in_flight) == 1:
            sent.put(self._send(jobs[0]))
            round_.unheard += 1
            return
        if jobs and self._pool is None:
            self._pool = ThreadPoolExecutor(2 * PARALLEL, thread_name_prefix="send-apart")
        for job in jobs:
            assert self._pool is not None
            self._pool.submit(self._send, job).add_done_callback(partial(_hand_over, job, sent))
            round_.unheard += 1

    def _jobs(self, round_: Round) -> Iterator[Job]:
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

    def _next_job(self, round_: Round) -> Job | None:
        if round_.pending:
            lease = round_.pending.popleft()
            return Job(lease, joined(lease.parts), lease.request_bytes, lease.records)
        for part in tuple(round_.parts):
            group = part.search.next_group(proven=self._unaccepted.refusals.proven)
            if group is not None:
                part.under_way += 1
                request = part.search.contents.part(group)
                return Job(part.lease, request, len(request), len(group), part, group)
            if not part.under_way:
                self._unaccepted.conclude(part, round_)
        return None

    def _send(self, job: Job) -> _Sent:
        context = self._context
        began = context.clock()
        outcome: Outcome | BaseException
        try:
            outcome = counted(context.sender.send(job.request, records=job.records), job.records)
            if isinstance(outcome, RetryLater) and outcome.perhaps_its_own_fault:
                unpacked(job.request)  # what went as it is packed may be damaged, and the endpoint says it in any words
        except DamagedRequest as damage:  # narrowed down to its batch, and set aside, as if the endpoint had said so
            outcome = Refused(code=DAMAGED, why=str(damage))
        except BaseException as fault:  # noqa: BLE001  # raised again by the worker that waits for it
            outcome = fault
        return _Sent(job, outcome, context.clock() - began)

    # --- judging, with the lock held ---

    def _answered(self, sent: _Sent, round_: Round) -> None:
        """Applies an answer to its records and to the round."""
        job, outcome, seconds = sent
        with self._lock:
            round_.in_flight.remove(job)
            if isinstance(outcome, BaseException):
                raise outcome
            self._context.counts.requests += 1
            match outcome:
                case Accepted():
                    self._accept(job, outcome, seconds, round_)
                case TooLarge() | Refused():
                    self._unaccepted.refuse(job, outcome, round_)
                case RetryLater() | Hold():
                    self._failed(job, outcome, seconds, round_)
            if job.part is not None:
                job.part.under_way -= 1

    def _failed(self, job: Job, outcome: RetryLater | Hold, seconds: float, round_: Round) -> None:
        unaccepted, code = self._unaccepted, outcome.code
        round_.pause_seconds = min(MAX_PAUSE_SECONDS, seconds * PAUSE_SHARE)
        firewall = isinstance(outcome, Hold) and code in PERHAPS_ITS_CONTENT
        round_.smaller |= self._size.failed(
            job.request_bytes, job.records, timed_out=code in TIMEOUT_CODES, at_first=firewall
        )
        if isinstance(outcome, RetryLater) and (outcome.perhaps_its_own_fault or unaccepted.may_never_pass(job)):
            unaccepted.stumble(job, replace(outcome, perhaps_its_own_fault=True), round_)
        elif firewall and unaccepted.others_pass(job, round_):
            unaccepted.stumble(job, RetryLater(code=code, why=outcome.why, perhaps_its_own_fault=True), round_)
        elif firewall and unaccepted.accepted_once and job.part is None:
            round_.failure, round_.failed = outcome, job.lease
            unaccepted.put_apart(job.lease)
        else:
            if round_.failure is None or _weight(outcome) > _weight(round_.failure):
                round_.failure, round_.failed = outcome, job.lease
            if job.part is None:
                unaccepted.give_back(job.lease, outcome)

    def _accept(self, job: Job, outcome: Accepted, seconds: float, round_: Round) -> None:
        context, number, part, rejected = self._context, job.lease.batch_ids[0], job.part, outcome.rejected
        if part is None:
            context.queue.settle(job.lease, outcome)
            context.backlog.departed(job.records)
            self._unaccepted.refusals.recent.append(False)
            self._unaccepted.refusals.unsuspected += 1
        else:
            self._unaccepted.part_accepted(part, job.group, rejected, outcome.message)
        if self._apart.suspects and number not in self._suspects.trials:
            self._apart.call()
        if self._suspects.trials and (part is None or number not in self._suspects.trials):
            self._suspects.passed(number)
        self._size.accepted(job.request_bytes, job.records, seconds)
        if self._sources.tallies:
            self._unaccepted.learn(job, bad=False)
        round_.accepted += 1
        round_.refusals = round_.stumbles = 0
        if not self._unaccepted.accepted_once:
            self._unaccepted.first_accepted(round_)
        self._unaccepted.free_refusals = FREE_REFUSALS
        self._apart.idle_step = 0
        context.counts.delivered_records += job.records - rejected
        context.counts.rejected_records += rejected
        context.tell(
            BatchAccepted(
                endpoint=self._endpoint,
                stream=job.lease.stream,
                records=job.records,
                rejected=rejected,
                message=outcome.message,
                request_bytes=job.request_bytes,
                seconds=seconds,
                age_seconds=max(0, context.wall_clock_nano() - job.lease.oldest_received_unix_nano) / 1e9,
            )
        )
        if round_.unproven or self._apart.unproven:
            self._unaccepted.witnessed(round_)

    def _end(self, round_: Round) -> None:
        """Ends the round: judges refusals with nothing accepted beside them, returns unsent leases and the permit."""
        context = self._context
        for part in tuple(round_.parts):
            self._unaccepted.conclude(part, round_)
        if round_.failure is not None:
            for lease in round_.pending:
                self._unaccepted.give_back(lease, round_.failure)
        if round_.unproven:
            self._unaccepted.without_witness(round_)
        permit = round_.permit
        if round_.accepted:
            away_seconds, permit = context.breaker.accepted(permit)
            if away_seconds:
                context.backlog.begin()
                self._unaccepted.said_of_spans = None
                context.tell(DeliveryResumed(endpoint=self._endpoint, away_seconds=round(away_seconds, 3)))
        stumbled = round_.stumbled
        failure = round_.failure or (stumbled if stumbled and (stumbled.after_seconds or not round_.accepted) else None)
        if failure is None or round_.failed is None:
            context.breaker.unused(permit)
            return
        suspected = round_.suspected or (failure.code in PERHAPS_ITS_CONTENT and not permit.probe)
        delay = context.breaker.failed(permit, failure, suspected=suspected, smaller=round_.smaller)
        if delay is not None:  # else another request under way met the same, and told; or it may be chance
            self._unaccepted.tell_failure(failure, round_.failed, delay)


def _hand_over(job: Job, sent: SimpleQueue[_Sent], done: Future[_Sent]) -> None:
    fault = done.exception()
    sent.put(done.result() if fault is None else _Sent(job, fault, 0.0))


def _weight(failure: RetryLater | Hold) -> float:
    """Orders failures by weight: those that need an operator first, then by the delay that was asked for."""
    return math.inf if isinstance(failure, Hold) else failure.after_seconds or 0.0
