"""The state machines of the feed answer the same rows of events as ever; see `tests/on_file.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from otelbridge.event import NANOSECONDS, Gap, GapCause, Stream
from otelbridge.feed.buffer import ByteBudget, TurnSchedule, gather_seconds
from otelbridge.feed.gap_tracker import GapTracker
from otelbridge.feed.monitor import StallDetector
from otelbridge.feed.nodes import Absence, Habit, Joining, NodeRoster
from otelbridge.feed.overload import Arrived, OverloadDetector
from otelbridge.feed.read_pause import ReadPause
from otelbridge.feed.roads import Roads
from tests.on_file import assert_on_file, told

GOLDEN = Path(__file__).parent / "golden"
BEGAN = 1_800_000_000 * NANOSECONDS
STREAMS = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)


def nanos(seconds: float) -> int:
    return BEGAN + round(seconds * NANOSECONDS)


def since(unix_nano: int | None) -> str:
    """In seconds."""
    return "-" if unix_nano is None else f"{(unix_nano - BEGAN) / NANOSECONDS:.3f}"


def gap_told(gap: Gap | None) -> str:
    if gap is None:
        return "-"
    when = since(gap.started_unix_nano), since(gap.ended_unix_nano)
    records = gap.attempts, gap.lost_records, gap.estimated_records
    return told(gap.stream, gap.upstream, gap.cause, *when, *records, gap.node, repr(gap.detail), gap.suspected)


PACES: dict[str, Callable[[Random, int], float]] = {
    "steady": lambda dice, _: dice.expovariate(2.0) if dice.random() > 0.02 else dice.uniform(5, 15),
    "flapping": lambda dice, step: 0.3 if step % 60 else dice.uniform(4, 40),
    "falling asleep": lambda dice, step: dice.expovariate(4.0 / (1 + step % 400 / 40)),
    "nights": lambda dice, step: 0.25 if step % 250 else dice.choice((90, 130, 700, 4_000)),
    "even": lambda _, step: 10.0 if step % 50 else 46.0,
    "two sounds at once": lambda dice, step: 0.1 if step % 2 else dice.choice((1.0, 1.2, 8.0)),
}


def absences(pace: str) -> Iterator[str]:
    dice, at = Random(pace), 0.0
    habit, joining = Habit(nanos(at), floor_seconds=4.5), Joining()
    for step in range(900):
        pause = PACES[pace](dice, step)
        halves = range(1, 200) if step % 15 == 0 else ()
        silent = next((half / 2 for half in halves if habit.unusual(nanos(at + half / 2))), "-")
        if dice.random() < 0.02:
            habit.excuse(nanos(at + dice.uniform(-3, 1)), nanos(at + pause * dice.uniform(0.1, 1.2)))
        at += pause
        habit.heard(nanos(at))
        found = habit.absence(nanos(at + dice.choice((0.0, 2.0, 5.0, 11.0))))
        if found and step > 880:
            yield told("last", habit.last_absence())
        put = joining.add(found) if found else None
        due = joining.due(nanos(at))
        if found or put or due or step % 15 == 0:
            yield told(step, silent, *(f"{since(one.started)}-{since(one.ended)}*{one.number}" if one else "-"
                                       for one in (found, put, due)))  # fmt: skip
    yield told(habit.last_absence(), joining.rest())


@pytest.mark.parametrize("pace", PACES)
def test_which_silences_are_unusual(pace: str) -> None:
    assert_on_file(GOLDEN / f"absences-{pace.replace(' ', '-')}.txt", absences(pace))


def joined() -> Iterator[str]:
    dice, joining, at = Random(1), Joining(), 0.0
    for _ in range(200):
        at += dice.choice((20.0, 60.0, 200.0, 9_000.0 if dice.random() < 0.1 else 40.0))
        put, due = joining.add(Absence(nanos(at), nanos(at + 7))), joining.due(nanos(at + 9))
        yield told(*(f"{since(one.started)}-{since(one.ended)}*{one.number}" if one else "-" for one in (put, due)))
    yield told(joining.rest(), joining.rest())


def test_which_absences_have_a_record_of_their_own() -> None:
    assert_on_file(GOLDEN / "joined.txt", joined())


def roster(max_nodes: int) -> Iterator[str]:
    dice, nodes, at = Random(1), NodeRoster(max_nodes), 0.0
    names = ("a", "a.one", "b.one", "b.two", "b", "c", "d", "")
    for step in range(600):
        at += 0.5
        upstream = f"relay:{step % 2}"
        quiet = {"c"} if 200 < step % 300 < 240 else {"d"} if step % 90 > 70 else set()
        nodes.heard(upstream, {name: nanos(at) for name in names if name not in quiet and dice.random() < 0.8})
        silent = nodes.fallen_silent(nanos(at))
        gaps = nodes.to_record(nanos(at))
        if step == 400:
            gaps += nodes.forget_upstream("relay:1", nanos(at))
        if silent or gaps or step % 60 == 0:
            yield told(step, [(one.upstream, one.node, since(one.last_event_unix_nano)) for one in silent],
                       *map(gap_told, gaps), *nodes.of_upstream(upstream, nanos(at)))  # fmt: skip
    yield told({key: since(seen) for key, seen in nodes.last_seen().items()})


@pytest.mark.parametrize("max_nodes", [5, 50])
def test_which_nodes_are_known_and_silent(max_nodes: int) -> None:
    assert_on_file(GOLDEN / f"roster-{max_nodes}.txt", roster(max_nodes))


def overloads(seed: int) -> Iterator[str]:
    """Looks at a connection of which the reader, the bridge or the node is slow at times."""
    dice = Random(seed)
    detector = OverloadDetector((1 << 20) << seed, tls=bool(seed % 2))
    at = cpu = 0.0
    arrived = read = events = 0
    rate, reads, sends = 20_000, 40_000, True
    for step in range(4_000):
        if step % 150 == 0:
            rate, reads = dice.choice((0, 2_000, 20_000, 60_000)), dice.choice((100_000, 100_000, 30_000, 3_000))
        elapsed = dice.choice((0.005, 0.01, 0.02)) if dice.random() > 0.01 else dice.choice((0.15, 0.4, 1.5))
        ran = elapsed * (dice.choice((0.0, 0.5)) if elapsed > 0.1 else 1.0)
        at, cpu = at + elapsed, cpu + ran
        full = arrived - read >= 0.95 * ((1 << 20) << seed)
        sends = not full
        arrived += round(rate * elapsed * 914) if sends else 0
        arrived += 17 if dice.random() < 0.01 else 0
        taken = min(round(reads * ran), (arrived - read) // 914)
        events, read = events + taken, read + taken * 914
        room = dice.choice((0, 1 << 18, 1 << 20))
        found = detector.look(nanos(at), round(cpu * NANOSECONDS), Arrived(arrived, room), events * 900,
                              {Stream.LOGS: events})  # fmt: skip
        for one in found:
            yield told(step, since(one.started), since(one.ended), one.events_before[Stream.LOGS])
    yield told("end", *(f"{since(one.started)}-{since(one.ended)}" for one in detector.end()))


@pytest.mark.parametrize("seed", range(6))
def test_which_overloads_are_told(seed: int) -> None:
    assert_on_file(GOLDEN / f"overloads-{seed}.txt", overloads(seed))


def stalls(seed: int) -> Iterator[str]:
    dice, at, asked, last_event = Random(seed), 0.0, 0.0, 0.0
    detector = StallDetector(nanos(at))
    for step in range(400):
        at += dice.choice((1.0, 1.0, 1.0, 3.0, 6.5))
        if dice.random() < (0.8, 0.3)[seed]:
            last_event = at - dice.choice((0.0, 0.4, 2.0))
            detector.look(nanos(last_event))
        wants = detector.wants_probe(nanos(at), nanos(asked))
        if wants or step % 9 == 0:
            asked = at
            stall = detector.answered(nanos(at - dice.choice((0.01, 0.5, 0.9, 5.0))), nanos(at))
            yield told(step, wants, "-" if stall is None else (since(stall.started), since(stall.ended), stall.detail))


@pytest.mark.parametrize("seed", range(2))
def test_which_stalls_are_told(seed: int) -> None:
    assert_on_file(GOLDEN / f"stalls-{seed}.txt", stalls(seed))


def gaps(seed: int) -> Iterator[str]:
    dice, at, offset, events = Random(seed), 0.0, [0], 0
    tracker = GapTracker(
        Stream.LOGS, "relay:1", watched_until_unix_nano=nanos(-40) if seed else None, now_unix_nano=nanos(at),
        clock_offset_nano=lambda: offset[0],
    )  # fmt: skip
    for step in range(400):
        at += dice.choice((0.1, 1.0, 20.0, 400.0 if dice.random() < 0.1 else 2.0))
        now, said = nanos(at + offset[0] / NANOSECONDS), ""
        match dice.choice(("lose", "attempt", "again", "prove", "prove", "end", "goes on", "suspect", "rate", "lost")):
            case "lose":
                tracker.lose(now - dice.randrange(3 * NANOSECONDS), GapCause.DISCONNECT, f"loss {step}")
            case "attempt":
                tracker.attempt()
            case "again":
                tracker.watch_again(now)
            case "prove":
                said = gap_told(tracker.prove(dice.choice((0, now, now - 30 * NANOSECONDS))))
            case "end":
                said = gap_told(tracker.end(now)) if dice.random() < 0.5 else ""
            case "goes on":
                said = gap_told(tracker.goes_on(now))
            case "suspect":
                said = gap_told(tracker.suspect(GapCause.STALL, now - 9 * NANOSECONDS, now, 20, "stood still"))
            case "lost":
                tracker.count_lost(dice.randrange(5))
            case _ if tracker.since_unix_nano is None:
                events += dice.randrange(400)
                tracker.rate.observe(events, at)
        if dice.random() < 0.02:
            offset[0] += dice.choice((-3_600, 3_600)) * NANOSECONDS
        yield told(said, since(tracker.since_unix_nano), tracker.unproven, tracker.rate.per_second,
                   tracker.rate.observed_seconds, tracker.rate.estimate(10.0))  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_which_gaps_are_told(seed: int) -> None:
    assert_on_file(GOLDEN / f"gaps-{seed}.txt", gaps(seed))


def roads(seed: int) -> Iterator[str]:
    dice, at, blind = Random(seed), 100.0, set[tuple[str, Stream]]()
    names = ("a", "b", "c")[: 2 + seed % 2]
    known = Roads(names, 12.0, blind=lambda: blind, now=at)
    sent, late = 0, list[tuple[str, Stream, str, bytes]]()
    for step in range(500):
        at += dice.choice((0.1, 0.5, 0.9))
        known.begin(at)
        if dice.random() < 0.03:
            blind = {(dice.choice(names), dice.choice(STREAMS))} if dice.random() < 0.5 else set()
        if dice.random() < 0.03:
            cause = dice.choice((GapCause.DISCONNECT, GapCause.STALL))
            gap = Gap(stream=Stream.LOGS, upstream="a", cause=cause, started_unix_nano=nanos(at - 3),
                      ended_unix_nano=nanos(at - 1))  # fmt: skip
            known.note([gap], nanos(at))
        passed = []
        for _ in range(dice.randrange(6)):
            sent += dice.random() < 0.9  # else it is the same once more
            event = (dice.choice(STREAMS[:2]), f"n{sent % 3}", b"%d" % sent)
            for name in names:
                if dice.random() < 0.7:
                    passed.append(known.is_new(name, *event))
                elif dice.random() < 0.8:
                    late.append((name, *event))
        dice.shuffle(late)
        while late and dice.random() < 0.6:
            passed.append(known.is_new(*late.pop()))
        if dice.random() < 0.9:  # else the turn is repeated
            known.commit()
        if step % 10 == 0:
            yield told(*map(int, passed), known.waiting, known.shed)
        if step % 100 == 99:
            yield told(*(f"{key}: {loss}" for key, loss in known.losses.items()))


@pytest.mark.parametrize("seed", range(4))
def test_what_roads_lose(seed: int) -> None:
    assert_on_file(GOLDEN / f"roads-{seed}.txt", roads(seed))


def test_ids_are_shed_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.feed.roads.MAX_IDS", 40)
    assert_on_file(GOLDEN / "roads-shed.txt", roads(1))


def pauses() -> Iterator[str]:
    dice, now, events, pause = Random(1), nanos(0), 0, ReadPause(0.02)
    for step in range(300):
        now += dice.choice((1_000_000, 20_000_000, 300_000_000, 1_000_000_000))
        events += dice.choice((0, 1, 10, 100, 4_000 if step % 50 > 25 else 40))
        yield told(pause.seconds(now, events, flooded=step % 3 == 0), pause.rate)
        if step == 200:
            now -= 3_600 * NANOSECONDS


def test_when_a_reader_pauses() -> None:
    assert_on_file(GOLDEN / "pauses.txt", pauses())


def turns() -> Iterator[str]:
    for rate in (0.0, 1.0, 500.0, 700.0, 1_000.0, 1_300.0, 5_000.0, 11_000.0, 12_000.0):
        yield told(gather_seconds(rate))
    dice, schedule, now = Random(1), TurnSchedule(), 100.0
    for _ in range(100):
        now += dice.choice((0.00001, 0.001, 0.01, 0.5))
        schedule.took(dice.choice((1, 3, 100)), now)
        if dice.random() < 0.3:
            schedule.hand_over(0.02)
        yield told(schedule.expects_events, schedule.handed_over, schedule.early_seconds(now + 0.002))
    for max_bytes in (1 << 17, 100 << 20, 1 << 30):
        budget = ByteBudget(max_bytes, elsewhere=lambda: 1_000)
        for streams in (0, 1, 2, 3, 100):
            budget.streams = streams
            yield told(budget.window_bytes, budget.used_bytes(77))


def test_when_a_turn_begins_and_how_much_may_be_under_way() -> None:
    assert_on_file(GOLDEN / "turns.txt", turns())
