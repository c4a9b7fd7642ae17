"""What the state machines of the sender answer to made-up events, on file: see `tests/on_file.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from tests.on_file import Row, assert_on_file
from tests.records import request_of

GOLDEN = Path(__file__).parent / "golden"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def numbers(group: Iterable[int] | None) -> str:
    """`3-6 9` for 3, 4, 5, 6 and 9."""
    runs: list[list[int]] = []
    for number in group or ():
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def sizes(endpoint: str, requests: int) -> Iterator[Row]:
    dice = Random(endpoint)
    settings = {"max_request_records": 100} if endpoint == "small" else {}
    size = RequestSize(section_from(SendSettings, settings))
    for step in range(requests):
        limits = size.limits()
        share = dice.choice((1.0, 1.0, 1.0, 0.9, 0.5, 0.4, 0.1, 1.5))
        records = max(1, round(limits.max_records * share)) if step % 17 else 1
        request_bytes = max(1, round(limits.max_bytes * share * dice.choice((1.0, 0.3))))
        seconds, answer = 0.02, "accepted"
        if endpoint in {"chance", "small"}:
            answer = "failed" if dice.random() < 0.4 else answer
        elif endpoint == "limit":
            answer = "too large" if records > 700 else answer
        elif endpoint == "silent limit":
            answer = "failed" if records > 700 or dice.random() < 0.1 else answer
        elif endpoint == "slow":
            seconds = 0.3 + records * 0.004
            answer = "timed out" if seconds > 10 else answer
        elif endpoint == "slower and slower":
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
        if endpoint not in {"chance", "small", "silent limit"} or size.limits() != limits:
            yield (step, request_bytes, records, seconds, answer, smaller, *size.limits(),
                   size.is_unproven(limits.max_bytes // 2, 1))  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "does", "requests"),
    [
        ("chance", "fails four requests in ten; shown are requests that change the size", 120),
        ("small", "does the same, where full requests hold 100 records", 120),
        ("limit", "says of more than 700 records that they are too many", 20),
        (
            "silent limit",
            "fails more than 700 records, and one request in ten by chance; shown are those that change the size",
            120,
        ),
        ("slow", "takes 4 ms a record", 20),
        ("slower and slower", "takes ever longer for a record", 30),
        ("mixed", "answers all sorts of things, after a while", 75),
    ],
)
def test_how_large_requests_are(endpoint: str, does: str, requests: int) -> None:
    assert_on_file(
        GOLDEN / f"sizes-{endpoint.replace(' ', '-')}.txt",
        f"The size of requests to an endpoint that {does}.",
        "request, bytes, records, seconds, answer, a smaller one now, most bytes, most records, half is unproven",
        sizes(endpoint, requests),
    )


def backlog(factor: float, steps: int) -> Iterator[Row]:
    dice, clock, held = Random(factor), Clock(), [500_000]
    limiter = BacklogLimiter(
        factor, held=lambda: held[0], clock=clock, wall_clock_nano=lambda: round(clock.now * 1_000_000_000)
    )
    for step in range(steps):
        clock.now += dice.choice((0.1, 0.5, 1.0, 1.0, 3.0))
        arrived, left, charged = dice.randrange(3_000), dice.randrange(9_000), dice.randrange(9_000)
        held[0] += arrived - left
        limiter.departed(left)
        limiter.observe()
        age = dice.choice((1.0, 9.9, 10.1, 3_600.0))
        limiter.charge(charged, round((clock.now - age) * 1_000_000_000))
        also = ""
        if step % 7 == 0:
            also = f"{(returned := dice.randrange(3_000))} back"
            limiter.returned(returned, round((clock.now - 60) * 1_000_000_000))
        if step in {steps // 2, steps // 2 + 1}:
            also = ("ends", "begins")[step - steps // 2]
            (limiter.end, limiter.begin)[step - steps // 2]()
        if step == steps - 2:
            also = "is lifted"
            limiter.lift()
        yield (clock.now - 1_000, arrived, left, charged, age, also, limiter.max_records(8192), limiter.wait_seconds())


@pytest.mark.parametrize(("factor", "steps"), [(0, 9), (2, 80), (4, 24)])
def test_how_fast_a_backlog_goes_out(factor: float, steps: int) -> None:
    assert_on_file(
        GOLDEN / f"backlog-{factor}.txt",
        f"A backlog of 500,000 records goes out {factor} times as fast as new records come; 0 sets no limit.",
        "second, arrived, left, leased, seconds old, also, most of 8192, wait",
        backlog(factor, steps),
    )


def searches(seed: int, requests: int, records: int) -> Iterator[Row]:
    dice, sources, refusals = Random(seed), BadSources(), Refusals()
    for _ in range(requests):
        names = [f"n{dice.randrange(6)}" for _ in range(records)]
        contents = Contents(b"".join(request_of("x", node=name) for name in sorted(names)))
        guilty = {n for n in range(contents.records) if dice.random() < (0.0, 0.05, 0.3)[seed % 3] or n < seed}
        search = Search(contents, sources.share, lambda: 16)
        if seed == 1:
            search.refused(whole := search.whole(), proven=refusals.proven)
            yield ("refused whole", numbers(whole), "", "", "", "")
        while (group := search.next_group(proven=refusals.proven)) is not None:
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
                answer = "passed"
                if search.passed(group):
                    refusals.contradicted()
                    answer = "passed after all"
            if answer not in {"failed", "too large"} and not (len(group) > 1 and answer == "refused"):
                for source, number in contents.sources(group).items():
                    sources.learn(source, records=number, bad=number if answer == "refused" else 0)
            yield (answer, numbers(group), again, suspected, stained, refusals.proven)
        yield ("bad", numbers(search.bad), "", "", "", "")
        yield ("failing", ", ".join(map(numbers, search.failing)), "", "", "", "")
        yield ("left", numbers(search.left()), "", "", "", "")
        last = {contents.source(n): n for n in range(contents.records)}
        known = [f"{sources.share(source):.3g}{' of the bad' if sources.known_bad(source) else ''}" for source in last]
        yield ("shares", ", ".join(known), "", "", "", "")


@pytest.mark.parametrize(("seed", "bad"), list(enumerate(["no record", "0 and 1 in 20", "0, 1 and 3 in 10", "0 to 2"])))
def test_how_bad_records_are_searched(seed: int, bad: str) -> None:
    assert_on_file(
        GOLDEN / f"search-{seed}.txt",
        f"The endpoint refuses {bad} of each request, and some by chance; it fails at 1 of 25; some are too large.",
        "answer, records, again, suspected, stained, proven",
        searches(seed, 2, 18),
    )


def trials(events: int) -> Iterator[Row]:
    """1 (one record) is to blame, 2 (one) and 3 (five) are at times; the others mostly pass."""
    dice, suspects = Random(1), Suspects()
    for step in range(events):
        number = dice.choice((1, 1, 2, 3, 0, 0, 0)) or 10 + step
        if step > events // 2:
            number = 1 if step % 2 else 10 + step  # in turn
        records = 1 if number < 3 else 5
        innocent = 1.0 if step > events // 2 else 0.95
        passes = {1: 0.0, 2: 0.1, 3: 0.05}.get(number, innocent)
        at_last = ("failed",) if number == 1 else ("gone",)
        otherwise = dice.choice((*["failed"] * 5, "failed early", "accused", "accused", *at_last))
        event = "passed" if dice.random() < passes else otherwise
        answer = ""
        match event:
            case "passed":
                suspects.passed(number)
            case "accused":
                suspects.accuse(number)
            case "gone":
                suspects.dismiss(number)
            case _:
                answer = suspects.failed(number, records=records, waited=event == "failed")
        yield (number, records, event, answer, *(suspects.alternations(suspect) for suspect in (1, 2, 3)),
               len(suspects.trials))  # fmt: skip


def test_how_guilt_is_found() -> None:
    assert_on_file(
        GOLDEN / "trials.txt",
        "Requests on trial and others: how often 1, 2 and 3 failed while others passed.",
        "request, records, event, answer, of 1, of 2, of 3, on trial",
        trials(80),
    )


OUTCOMES = (
    RetryLater(code="UNAVAILABLE", why="busy"),
    RetryLater(code="UNAVAILABLE", why="busy"),
    RetryLater(code="INTERNAL", why="boom", perhaps_its_own_fault=True),
    RetryLater(code="429", why="slow down", after_seconds=7.0),
    RetryLater(code="504", why="silence"),
    Hold(code="401", why="who are you", cure="a key"),
)


def answers(seed: int, steps: int) -> Iterator[Row]:
    dice, clock = Random(seed), Clock()
    breaker = CircuitBreaker(SendSettings(), clock=clock, random=dice.random, wall_clock_nano=lambda: int(clock.now))
    share = (0.3, 0.6, 0.9)[seed]

    def row(event: str, answer: object = "") -> Row:
        state = breaker.snapshot()
        return (clock.now - 1_000, event, answer, state.state, state.code, state.cure, state.since_unix_nano - 1_000,
                state.delay_seconds, state.next_try_seconds, breaker.held, state.last_accepted_unix_nano)  # fmt: skip

    asked = ""
    for step in range(steps):
        clock.now += dice.choice((0.01, 0.5, 2.0, 40.0))
        permits = [breaker.ask(within_seconds=0, unsuspected=dice.random() < 0.5) for _ in range(2)]
        before, asked = asked, " ".join("no" if one is None else "probe" if one.probe else "yes" for one in permits)
        if asked != before:
            yield row("asked twice", asked)
        for permit in filter(None, permits):
            if dice.random() > share:
                away, later = breaker.accepted(permit)
                yield row("accepted", f"{away:.6g}, era {later.era}")
            elif dice.random() < 0.1:
                breaker.unused(permit)
                yield row("unused")
            else:
                outcome = dice.choice(OUTCOMES if step % 3 else OUTCOMES[:1])
                suspected, smaller = dice.random() < 0.5, dice.random() < 0.1
                told = (outcome.code, "suspected" * suspected, "a smaller one follows" * smaller)
                yield row(
                    ", ".join(filter(None, told)), breaker.failed(permit, outcome, suspected=suspected, smaller=smaller)
                )
        if step % 20 == 19:
            breaker.cured()
            yield row("cured")
    breaker.hurry(within_seconds=20.0)
    for _ in range(3):
        yield row("hurry", breaker.over)
        clock.now += 10.0
    yield row("hurry", breaker.over)


@pytest.mark.parametrize(("seed", "share"), list(enumerate(["3", "6", "9"])))
def test_how_the_circuit_breaker_delays_and_holds(seed: int, share: str) -> None:
    assert_on_file(
        GOLDEN / f"breaker-{seed}.txt",
        f"An endpoint that does not take {share} requests of 10.",
        "second, event, answer, state, code, cure, since, delay, next try, held, last accepted",
        answers(seed, 60),
    )


def kept_apart(events: int) -> Iterator[Row]:
    dice, clock = Random(1), Clock()
    apart = Apart(SendSettings(), clock=clock, random=dice.random)
    streams = (Stream.ALERTS, Stream.LOGS, Stream.SPANS)
    for number in range(events):
        clock.now += dice.choice((0.0, 0.1, 2.0))
        lease = Lease(
            stream=streams[number % 3], batch_ids=(number,), parts=(b"",), records=1, oldest_received_unix_nano=0,
            request_bytes=dice.choice((10, 400_000)),
        )  # fmt: skip
        without = (Stream.SPANS,) if dice.random() < 0.3 else ()
        gone: list[Lease] = []
        match event := dice.choice(
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
        kept = [numbers(one.batch_ids[0] for one in some) for some in (gone, apart.leases, apart.due)]
        yield (clock.now - 1_000, f"{event} {number}", bool(without), *kept, apart.wait_seconds(), apart.resting,
               apart.first, apart.has_any(without=without), apart.has_room(lease), apart.idle_step)  # fmt: skip


def test_what_is_kept_apart() -> None:
    assert_on_file(
        GOLDEN / "apart.txt",
        "Leases of alerts, logs and spans in turn; without spans in some rows.",
        "second, event, no spans, taken, kept, due, wait, resting, first, any, room, idle step",
        kept_apart(70),
    )
