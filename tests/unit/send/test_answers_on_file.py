"""The state machines of the sender answer the same rows of events as ever; see `tests/on_file.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from otelbridge.event import Stream
from otelbridge.queue.model import Hold, Lease, Refused, RetryLater
from otelbridge.send.apart import Apart
from otelbridge.send.bad_records import BadSources, Contents, Refusals, Search, Suspects
from otelbridge.send.circuit_breaker import CircuitBreaker
from otelbridge.send.request_limits import BacklogLimiter, RequestSize
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from tests.on_file import assert_on_file, told
from tests.records import request_of

GOLDEN = Path(__file__).parent / "golden"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def sizes(kind: str) -> Iterator[str]:
    """Requests of all sizes to an endpoint of some kind."""
    dice = Random(kind)
    settings = {"max_request_records": 100} if kind == "small" else {}
    size = RequestSize(section_from(SendSettings, settings))
    yield told(*size.limits())
    for step in range(120):
        limits = size.limits()
        share = dice.choice((1.0, 1.0, 1.0, 0.9, 0.5, 0.4, 0.1, 1.5))
        records = max(1, round(limits.max_records * share)) if step % 17 else 1
        request_bytes = max(1, round(limits.max_bytes * share * dice.choice((1.0, 0.3))))
        seconds, answer = 0.02, "accepted"
        if kind in {"chance", "small"}:
            answer = "failed" if dice.random() < 0.4 else answer
        elif kind == "limit":
            answer = "too large" if records > 700 else answer
        elif kind == "silent limit":
            answer = "failed" if records > 700 or dice.random() < 0.1 else answer
        elif kind == "slow":
            seconds = 0.3 + records * 0.004
            answer = "timed out" if seconds > 10 else answer
        elif kind == "slower and slower":
            seconds = 0.02 + records * 0.00002 * step
            answer = "timed out" if seconds > 10 else answer
        else:
            answer = dice.choice((*["accepted"] * 9, "failed", "failed", "timed out", "too large", "at first"))
            seconds = dice.choice((0.01, 1.0, 6.0, 9.0))
        smaller: object = ""
        if answer == "accepted":
            size.accepted(request_bytes, records, seconds)
        elif answer == "too large":
            size.too_large(request_bytes, records)
        else:
            smaller = size.failed(
                request_bytes, records, timed_out=answer == "timed out", at_first=answer == "at first"
            )
        yield told(answer, request_bytes, records, smaller, *size.limits(), size.is_unproven(limits.max_bytes // 2, 1))


@pytest.mark.parametrize("kind", ["chance", "small", "limit", "silent limit", "slow", "slower and slower", "mixed"])
def test_how_large_requests_are(kind: str) -> None:
    assert_on_file(GOLDEN / f"sizes-{kind.replace(' ', '-')}.txt", sizes(kind))


def backlog(factor: float) -> Iterator[str]:
    dice, clock, held = Random(factor), Clock(), [500_000]
    limiter = BacklogLimiter(
        factor, held=lambda: held[0], clock=clock, wall_clock_nano=lambda: round(clock.now * 1_000_000_000)
    )
    for step in range(150):
        clock.now += dice.choice((0.1, 0.5, 1.0, 1.0, 3.0))
        arrived, left = dice.randrange(3_000), dice.randrange(9_000)
        held[0] += arrived - left
        limiter.departed(left)
        limiter.observe()
        age = dice.choice((1.0, 9.9, 10.1, 3_600.0))
        limiter.charge(dice.randrange(9_000), round((clock.now - age) * 1_000_000_000))
        if step % 7 == 0:
            limiter.returned(dice.randrange(3_000), round((clock.now - 60) * 1_000_000_000))
        if step in {60, 61}:
            (limiter.end, limiter.begin)[step - 60]()
        if step == 140:
            limiter.lift()
        yield told(limiter.max_records(8192), limiter.wait_seconds())


@pytest.mark.parametrize("factor", [0, 2, 4])
def test_how_fast_a_backlog_goes_out(factor: float) -> None:
    assert_on_file(GOLDEN / f"backlog-{factor}.txt", backlog(factor))


def searches(seed: int) -> Iterator[str]:
    """Requests with some bad records, to an endpoint that fails and refuses by chance as well."""
    dice, sources, refusals = Random(seed), BadSources(), Refusals()
    for _ in range(6):
        names = [f"n{dice.randrange(6)}" for _ in range(40)]
        contents = Contents(b"".join(request_of("x", node=name) for name in sorted(names)))
        guilty = {n for n in range(contents.records) if dice.random() < (0.0, 0.05, 0.3)[seed % 3] or n < seed}
        search = Search(contents, sources.share, lambda: 16)
        yield told("request", search.whole() if seed == 1 else "")
        for _ in range(400):
            group = search.next_group(proven=refusals.proven)
            if group is None:
                break
            again, suspected, stained = search.refused_before(group), search.suspected(group), search.stained(group)
            if dice.random() < 0.04:
                search.failed(group)
                answer = "failed"
            elif len(group) > 12 and dice.random() < 0.1:
                search.too_large(group)
                answer = "too large"
            elif refused := bool(guilty & set(group)) or dice.random() < 0.02:
                refusals.repeated() if again else refusals.first_try(refused=refused, suspected=suspected)
                search.refused(group, proven=refusals.proven)
                answer = "refused"
            else:
                refusals.first_try(refused=False, suspected=suspected)
                if search.passed(group):
                    refusals.contradicted()
                answer = "passed"
            if answer in {"refused", "passed"} and not (len(group) > 1 and answer == "refused"):
                for source, records in contents.sources(group).items():
                    sources.learn(source, records=records, bad=records if answer == "refused" else 0)
            yield told(answer, group, again, suspected, stained, refusals.proven)
        yield told("bad", search.bad, "failing", search.failing, "left", search.left())
        yield told(*(sources.share(contents.source(n)) for n in range(0, contents.records, 4)))
        yield told(*(sources.known_bad(contents.source(n)) for n in range(0, contents.records, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_how_bad_records_are_searched(seed: int) -> None:
    assert_on_file(GOLDEN / f"search-{seed}.txt", searches(seed))


def trials() -> Iterator[str]:
    dice, suspects = Random(1), Suspects()
    for _ in range(400):
        number = dice.choice((1, 2, 3, dice.randrange(10, 1_000)))
        records = 1 if number < 3 else 5
        match dice.choice(("failed", "failed", "passed", "passed", "accuse", "dismiss")):
            case "failed":
                waited = dice.random() < 0.9
                yield told("failed", number, waited, suspects.failed(number, records=records, waited=waited))
            case "passed":
                if number > 3 or dice.random() < 0.1:
                    suspects.passed(number)
                    yield told("passed", number)
            case "accuse":
                suspects.accuse(number)
            case _ if dice.random() < 0.2:
                suspects.dismiss(number)
        yield told(*(suspects.alternations(suspect) for suspect in (1, 2, 3)), len(suspects.trials))


def test_how_guilt_is_found() -> None:
    assert_on_file(GOLDEN / "trials.txt", trials())


OUTCOMES = (
    RetryLater(code="UNAVAILABLE", why="busy"),
    RetryLater(code="UNAVAILABLE", why="busy"),
    RetryLater(code="INTERNAL", why="boom", perhaps_its_own_fault=True),
    RetryLater(code="429", why="slow down", after_seconds=7.0),
    RetryLater(code="504", why="silence"),
    Hold(code="401", why="who are you", cure="a key"),
)


def answers(seed: int) -> Iterator[str]:
    dice, clock = Random(seed), Clock()
    breaker = CircuitBreaker(SendSettings(), clock=clock, random=dice.random, wall_clock_nano=lambda: int(clock.now))
    share = (0.3, 0.6, 0.9)[seed]
    for step in range(120):
        clock.now += dice.choice((0.01, 0.5, 2.0, 40.0))
        permits = [breaker.ask(within_seconds=0, unsuspected=dice.random() < 0.5) for _ in range(2)]
        for permit in filter(None, permits):
            if dice.random() > share:
                yield told("accepted", *breaker.accepted(permit))
            elif dice.random() < 0.1:
                breaker.unused(permit)
            else:
                outcome = dice.choice(OUTCOMES if step % 3 else OUTCOMES[:1])
                suspected, smaller = dice.random() < 0.5, dice.random() < 0.1
                delay = breaker.failed(permit, outcome, suspected=suspected, smaller=smaller)
                yield told("failed", outcome.code, suspected, smaller, delay)
        if step % 60 == 59:
            breaker.cured()
        state = breaker.snapshot()
        yield told(*(permit and permit.probe for permit in permits), state.state, state.code, state.cure,
                   state.since_unix_nano, state.delay_seconds, state.next_try_seconds, breaker.held,
                   state.last_accepted_unix_nano)  # fmt: skip
    breaker.hurry(within_seconds=20.0)
    for _ in range(3):
        yield told(breaker.over, breaker.snapshot().next_try_seconds)
        clock.now += 10.0
    yield told(breaker.over)


@pytest.mark.parametrize("seed", range(3))
def test_how_the_circuit_breaker_delays_and_holds(seed: int) -> None:
    assert_on_file(GOLDEN / f"breaker-{seed}.txt", answers(seed))


def kept_apart() -> Iterator[str]:
    dice, clock = Random(1), Clock()
    apart = Apart(SendSettings(), clock=clock, random=dice.random)
    streams = (Stream.ALERTS, Stream.LOGS, Stream.SPANS)
    for number in range(300):
        clock.now += dice.choice((0.0, 0.1, 2.0))
        lease = Lease(
            stream=streams[number % 3], batch_ids=(number,), parts=(b"",), records=1, oldest_received_unix_nano=0,
            request_bytes=dice.choice((10, 400_000)),
        )  # fmt: skip
        without = (Stream.SPANS,) if dice.random() < 0.3 else ()
        gone: list[Lease] = []
        match dice.choice(
            ("due", "suspect", "delayed", "unproven", "call", "taken", "idle", "idle", "forget", "hurry")
        ):
            case "due" if apart.has_room(lease):
                apart.add_due([lease])
            case "suspect" if apart.has_room(lease):
                apart.suspects.append(lease)
            case "delayed":
                apart.refused_with_delay(lease, 3.0, waited=dice.random() < 0.5)
            case "unproven":
                apart.unproven.append((lease, Refused(code="400", why="")))
            case "call":
                apart.call(but=apart.suspects[0] if apart.suspects else None)
            case "taken":
                gone = apart.taken(2, without=without)
            case "idle":
                gone = apart.taken_while_idle(2, without=without)
            case "forget":
                apart.forget(apart.leases[:1])
            case "hurry" if number % 5 == 0:
                apart.hurry()
                apart.idle_step = 0
        yield told([one.batch_ids[0] for one in gone], [one.batch_ids[0] for one in apart.leases],
                   [one.batch_ids[0] for one in apart.due], apart.wait_seconds(), apart.resting, apart.first,
                   apart.has_any(without=without), apart.has_room(lease), apart.idle_step)  # fmt: skip


def test_what_is_kept_apart() -> None:
    assert_on_file(GOLDEN / "apart.txt", kept_apart())
