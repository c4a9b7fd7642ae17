"""Decides what becomes of records that an endpoint did not take: searched, kept apart, set aside or given back.

| what a request met | its records |
|---|---|
| too large, refused; several records | searched for the bad ones: parts are sent at once (`bad_records.Search`) |
| too large, refused; one record | set aside, if that is no chance and others are accepted; else tried again later |
| perhaps its own fault | kept apart, tried between others until accepted, split or convicted (`bad_records.Suspects`) |
| a failure, twice; one record, larger than all that was accepted | the same |
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.net.backoff import Random
from otelbridge.queue.model import Accepted, Batch, Hold, Lease, Refused, RetryLater, TooLarge
from otelbridge.queue.packing import joined, packed, unpacked
from otelbridge.queue.queue import LeasingQueue
from otelbridge.send.apart import MAX_APART, Apart
from otelbridge.send.bad_records import BadSources, Contents, FailureAction, Group, Refusals, Search, Suspects, halves
from otelbridge.send.circuit_breaker import CircuitBreaker, Permit, SendCounts
from otelbridge.send.request_limits import BacklogLimiter, RequestSize
from otelbridge.send.sender import Sender
from otelbridge.send.settings import SendSettings
from otelbridge.telemetry.events import BatchRefused, BatchSplit, DeliveryDelayed, DeliveryHeld, Tell

PARALLEL = 64
"""Small parts of one lease in flight at once while bad records are looked for; together no more than a full request."""
FREE_REFUSALS = 8
"""So many records set aside without one accepted between them, and the endpoint itself is under suspicion: from then on
records are kept apart until it accepts others, so that a wrong address cannot turn the queue into dead letters."""
REFUSALS_TO_GIVE_UP = 64
"""Refusals with nothing accepted between them, of a lease of an endpoint that has accepted before."""
STAINED_WEIGHT = 1 / 8
"""Of a refusal that says nothing new: others of the same sources were refused before."""
STUMBLES_TO_GIVE_UP = 8
"""Parts in a row that fail: the endpoint is ill now, and what is left of their lease goes back."""
DAMAGED = "corrupt"
LATER = RetryLater(code="", why="")
"""A lease goes back to the queue, whatever it met."""


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
class Part:
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


class Job(NamedTuple):
    """One request to send."""

    lease: Lease
    request: bytes
    request_bytes: int
    records: int
    part: Part | None = None
    group: Group = ()
    """Of the part; the whole lease where there is none."""


@dataclass(slots=True)
class Round:
    """What one permit's requests came to so far."""

    permit: Permit
    suspected: bool = False
    """What it began with had failed before."""
    parallel: int = 1
    """Requests in flight at once; more while bad records are looked for."""
    pending: deque[Lease] = field(default_factory=deque)
    parts: list[Part] = field(default_factory=list)
    in_flight: list[Job] = field(default_factory=list)
    unheard: int = 0
    """Requests whose answers nobody has taken yet."""
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
    smaller: bool = False
    """The limit has just fallen: whether a smaller request passes tells whether size is to blame."""
    pause_seconds: float = 0.0

    def leases(self) -> list[Lease]:
        """All that are not settled yet."""
        whole = [job.lease for job in self.in_flight if job.part is None]
        return [*whole, *self.pending, *(part.lease for part in self.parts), *(lease for lease, _ in self.unproven)]


class Unaccepted:
    """What the endpoint's answers have shown, and what becomes of records that it did not accept.

    Not thread-safe: its `Export` holds a lock around each call.
    """

    def __init__(self, context: ExportContext) -> None:
        self._context = context
        self.parallel = 1 if context.settings.ordered else PARALLEL
        self._endpoint = context.sender.endpoint
        self.size = RequestSize(context.settings)
        self.suspects = Suspects()
        self.sources = BadSources()
        self.refusals = Refusals()
        self.apart = Apart(context.settings, clock=context.clock, random=context.random)
        self.accepted_once = False
        self.free_refusals = FREE_REFUSALS
        self.said_of_spans: tuple[str, str] | None = None
        """Why spans are held, as it was told last: of an endpoint that takes records only it is told once."""
        self.single_batches = 0
        """So many of the next leases are of one batch each: one of them is damaged."""

    def cut(self, lease: Lease, pieces: int) -> bool:
        """Puts smaller batches in the place of one that is so many times too large: each twice as large as the last.

        So the first ones can be sent at once, and one that will still be too large costs little to cut again. Returns
        whether it can be cut.
        """
        contents = _contents(lease)
        if contents is None:
            return False
        size, groups, first = max(1, lease.records // pieces), [], 0
        while first < lease.records:
            groups.append(range(first, min(first + size, lease.records)))
            first, size = first + size, size * 2 if len(groups) > 1 else size
        try:
            self._context.queue.replace(lease, _batches(lease, contents, groups))
        except ValueError:  # there are no numbers left between it and the next batch
            return False
        return True

    def release_too_large(self) -> None:
        """Suspects larger than the limit go back to the queue, to be sent in smaller requests."""
        for lease in [one for one in self.apart.suspects if one.records > 1 and self.size.share_of(one) > 1]:
            self.apart.forget([lease])
            self.suspects.dismiss(lease.batch_ids[0])
            self.give_back(lease, LATER)

    def set_suspected_apart(self, round_: Round) -> None:
        """The records of suspected sources are sent in small groups, those of all others together."""
        lease = round_.pending[0]
        if len(round_.pending) > 1 or lease.batch_ids[0] in self.suspects.trials:
            return
        contents = _contents(lease)
        if contents is None:
            return
        suspected = [n for n in range(contents.records) if self.sources.share(contents.source(n))]
        if not suspected:
            return
        others = sorted(set(range(contents.records)).difference(suspected))
        round_.pending.popleft()
        if others:
            with suppress(ValueError):  # no numbers left for the parts: then they are searched together
                trusted, lease = self._replaced(lease, contents, [others, suspected])
                round_.pending.append(trusted)
                contents = Contents(unpacked(joined(lease.parts)))
        self._search(lease, contents, round_)
        round_.parallel = self.parallel

    def _search(self, lease: Lease, contents: Contents, round_: Round) -> Part:
        def most() -> int:
            return max(1, int(lease.records / self.size.share_of(lease)))

        part = Part(lease, Search(contents, self.sources.share, most))
        round_.parts.append(part)
        return part

    def refuse(self, job: Job, outcome: TooLarge | Refused, round_: Round) -> None:
        """The bad records among several are searched for; a single one is set aside where others are accepted."""
        if isinstance(outcome, TooLarge):
            self.size.too_large(job.request_bytes, job.records)
        known_bad = self._sources_are(job, self.sources.known_bad)
        stained = round_.accepted > 0 and job.part is not None and job.part.search.stained(job.group)
        round_.refusals += 0 if known_bad else STAINED_WEIGHT if stained else 1
        if round_.refusals >= (REFUSALS_TO_GIVE_UP if self.accepted_once else FREE_REFUSALS):
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
            round_.parallel = self.parallel
            if again:
                self.refusals.repeated()
            else:
                self.refusals.first_try(refused=True, suspected=part.search.suspected(group))
                if len(group) == 1:
                    self._learn(part.search.contents.sources(group), bad=True)
            part.search.refused(group, proven=self.refusals.proven)

    def _refuse_damaged(self, lease: Lease, outcome: TooLarge | Refused, round_: Round) -> None:
        """Sets a request aside that cannot be taken apart."""
        if len(lease.batch_ids) > 1:  # one of its batches is damaged: each goes alone
            self._context.queue.settle(lease, outcome)
            self.single_batches += len(lease.batch_ids)
        elif outcome.code == DAMAGED or round_.accepted:
            self._set_aside(lease, outcome)
        else:
            round_.unproven.append((lease, Refused(code=DAMAGED, why=outcome.why)))

    def part_accepted(self, part: Part, group: Group, rejected: int, message: str) -> None:
        """Some records of a lease were accepted; it is settled when all of it is judged."""
        if not part.search.refused_before(group):
            self.refusals.first_try(refused=False, suspected=part.search.suspected(group))
        part.unwitnessed.clear()
        part.rejected, part.message = part.rejected + rejected, message or part.message
        if part.search.passed(group):
            self.refusals.contradicted()

    def first_accepted(self, round_: Round) -> None:
        """The first accepted request: what was refused before it is tried again, as the cause may have been cured."""
        self.accepted_once = True
        self.apart.unproven.extend(round_.unproven)
        round_.unproven.clear()

    def witnessed(self, round_: Round) -> None:
        """A later request was accepted: sets single records aside that were refused before it, if not by chance."""
        doubted, round_.unproven = round_.unproven, []
        for lease, refusal in doubted:
            if self._no_chance(refusal):
                self._set_aside(lease, refusal)
            else:
                round_.unproven.append((lease, refusal))
        for doubtful, _ in self.apart.unproven:  # refused before something was mended, perhaps: they get another try
            self.give_back(doubtful, LATER)
        self.apart.unproven.clear()

    def without_witness(self, round_: Round) -> None:
        """Ends a round with refused single records: sets a few aside, keeps the rest until others are accepted."""
        for lease, refusal in round_.unproven:
            if self.accepted_once and self.free_refusals and self._no_chance(refusal):
                self.free_refusals -= 1
                self._set_aside(lease, refusal)
                continue
            if round_.failure is None and not round_.accepted:
                round_.failure, round_.failed = _refuses_everything(refusal), lease
                # Perhaps it is this record alone: others need not wait to find out.
                round_.suspected = round_.suspected or (self.accepted_once and not round_.permit.probe)
            if len(self.apart.unproven) < MAX_APART:
                self.apart.unproven.append((lease, refusal))
            else:
                self.give_back(lease, round_.failure or LATER)

    def conclude(self, part: Part, round_: Round) -> None:
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
            self.give_back(part.lease, round_.failure or LATER)
            return
        if unsettled and round_.failure is not None:
            self.give_back(next(pieces), round_.failure)
        for _ in search.failing:
            self.put_apart(next(pieces))
        for (number,) in alone:
            refusal = part.refusals[number]
            known_bad = self.sources.known_bad(search.contents.source(number))
            witnessed = number not in part.unwitnessed or len(part.unwitnessed) <= FREE_REFUSALS
            if self._no_chance(refusal) and (known_bad or (round_.accepted and witnessed)):
                self._set_aside(next(pieces), refusal)
            else:
                round_.unproven.append((next(pieces), refusal))
        for piece in pieces:
            self._context.queue.settle(piece, Accepted(rejected=part.rejected, message=part.message))
            self._context.backlog.departed(piece.records)

    def _no_chance(self, refusal: Refused | TooLarge) -> bool:
        """Whether a refusal is about the record itself, rather than chance; sizes and damaged requests always are."""
        return isinstance(refusal, TooLarge) or refusal.code == DAMAGED or self.refusals.proven

    def others_pass(self, job: Job, round_: Round) -> bool:
        """Whether others were accepted since it failed."""
        if job.part is not None:
            return round_.accepted > 0
        return job.lease.batch_ids[0] in self.suspects.trials and not round_.permit.probe

    def may_never_pass(self, job: Job) -> bool:
        """Whether it is one record, larger than any accepted request, that may be too large whatever the answer."""
        lease = job.lease
        if job.part is not None or job.records > 1 or not self.accepted_once:
            return False
        again = lease.tries > 0 and self.size.is_unproven(job.request_bytes, job.records)
        return again or lease.batch_ids[0] in self.suspects.trials

    def put_apart(self, lease: Lease) -> None:
        """Keeps a failed lease apart: its records may be the cause."""
        number = lease.batch_ids[0]
        if not self.apart.has_room(lease):
            self.suspects.dismiss(number)
            self.give_back(lease, LATER)
            return
        self.suspects.accuse(number)
        self.apart.add_due([lease])

    def _sources_are(self, job: Job, kind: Callable[[bytes], bool]) -> bool:
        """Whether it holds records of such sources only."""
        return bool(self.sources.tallies) and all(map(kind, self._sources_of(job)))

    def _sources_of(self, job: Job) -> Counter[bytes]:
        if job.part is not None:
            return job.part.search.contents.sources(job.group)
        contents = _contents(job.lease)
        return contents.sources(range(contents.records)) if contents is not None else Counter()

    def _tell_split(self, lease: Lease, outcome: TooLarge | Refused | RetryLater) -> None:
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
        self.suspects.dismiss(lease.batch_ids[0])
        context.counts.dead_letter_records += lease.records
        context.tell(
            BatchRefused(
                endpoint=self._endpoint,
                stream=lease.stream,
                records=lease.records,
                code=outcome.code,
                why=outcome.why,
            )
        )

    def learn(self, job: Job, *, bad: bool) -> None:
        """Remembers whose records were refused for good, or accepted."""
        self._learn(self._sources_of(job), bad=bad)

    def _learn(self, sources: Counter[bytes], *, bad: bool) -> None:
        for source, records in sources.items():
            self.sources.learn(source, records=records, bad=records if bad else 0)

    def stumble(self, job: Job, outcome: RetryLater, round_: Round) -> None:
        """Handles a failure that may be chance or the request's own fault, as its trial decides."""
        lease, number = job.lease, job.lease.batch_ids[0]
        fresh = number not in self.suspects.trials
        if outcome.after_seconds or not self.suspects.alternations(number):
            round_.stumbled, round_.failed = outcome, lease
        if job.part is not None:
            round_.stumbles += 1
            if outcome.after_seconds or round_.stumbles >= STUMBLES_TO_GIVE_UP:
                round_.failure = outcome
            job.part.search.failed(job.group)
            return
        waited = round_.permit.probe or not outcome.after_seconds
        match self.suspects.failed(number, records=lease.records, waited=waited):
            case FailureAction.SPLIT if parts := self._halves(lease, outcome):
                self.suspects.dismiss(number)
                for part in parts:
                    self.suspects.accuse(part.batch_ids[0])
                self.apart.add_due(parts)
            case FailureAction.CONVICT:
                self.learn(job, bad=True)
                self._set_aside(lease, Refused(code=outcome.code, why=f"fails while others pass: {outcome.why}"))
            case _ if fresh and not self.apart.has_room(lease):
                self.suspects.dismiss(number)
                self.give_back(lease, outcome)
            case _:
                if outcome.after_seconds:
                    self.apart.refused_with_delay(lease, outcome.after_seconds, waited=waited)
                else:
                    self.apart.suspects.append(lease)
        if fresh:
            self.apart.call(but=lease)

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

    def give_back(self, lease: Lease, outcome: RetryLater | Hold) -> None:
        """Ends a lease without having delivered it."""
        self._context.queue.settle(lease, outcome)
        self._context.backlog.returned(lease.records, lease.oldest_received_unix_nano)

    def tell_failure(self, failure: RetryLater | Hold, lease: Lease, delay: float) -> None:
        """Reports that the endpoint is delayed or held because of this lease; for spans, each reason once."""
        if isinstance(failure, Hold) and lease.stream is Stream.SPANS:
            said, self.said_of_spans = self.said_of_spans, (failure.code, failure.cure)
            if said == self.said_of_spans:
                return
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
