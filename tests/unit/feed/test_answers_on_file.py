"""What the state machines of the feed answer to made-up events, on file: see `tests/on_file.py`."""

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
from tests.on_file import Row, assert_on_file

GOLDEN = Path(__file__).parent / "golden"
BEGAN = 1_800_000_000 * NANOSECONDS
STREAMS = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)


def nanos(seconds: float) -> int:
    return BEGAN + round(seconds * NANOSECONDS)


def since(unix_nano: int | None) -> str:
    """In seconds."""
    return "-" if unix_nano is None else f"{(unix_nano - BEGAN) / NANOSECONDS:.3f}".rstrip("0").rstrip(".")


def stretch(absence: Absence | None) -> str:
    """`29.5-66 x2` for an absence of two parts."""
    if absence is None:
        return ""
    number = "" if absence.number == 1 else f" x{absence.number}"
    return f"{since(absence.started)}-{since(absence.ended)}{number}"


def gap_of(gap: Gap | None) -> str:
    if gap is None:
        return ""
    where = f" {gap.node}" if gap.node else ""
    known = [f"{gap.attempts} attempts" if gap.attempts is not None else "",
             f"{gap.lost_records} lost" if gap.lost_records is not None else "",
             f"{gap.estimated_records} estimated" if gap.estimated_records is not None else "",
             "suspected" if gap.suspected else "", gap.detail]  # fmt: skip
    when = f"{since(gap.started_unix_nano)}-{since(gap.ended_unix_nano)}"
    return f"{gap.cause}{where} {when}: {', '.join(filter(None, known))}"


PACES: dict[str, tuple[str, int, Callable[[Random, int], float]]] = {
    "steady": ("sounds twice a second, and pauses now and then", 900,
               lambda dice, _: dice.expovariate(2.0) if dice.random() > 0.02 else dice.uniform(5, 15)),
    "flapping": ("pauses once in 60 sounds", 900, lambda dice, step: 0.3 if step % 60 else dice.uniform(4, 40)),
    "falling asleep": ("sounds ever less often, and begins anew after 400 sounds", 900,
                       lambda dice, step: dice.expovariate(4.0 / (1 + step % 400 / 40))),
    "nights": ("sounds four times a second, with long pauses", 900,
               lambda dice, step: 0.25 if step % 250 else dice.choice((90, 130, 700, 4_000))),
    "even": ("sounds every 10 s, and pauses once in 50 times", 900, lambda _, step: 10.0 if step % 50 else 46.0),
    "two sounds at once": ("sounds twice within 0.1 s, then pauses", 900,
                           lambda dice, step: 0.1 if step % 2 else dice.choice((1.0, 1.2, 8.0))),
}  # fmt: skip


def absences(pace: str) -> Iterator[Row]:
    """A row for each absence, and for every 15th sound where that finds another limit than before."""
    dice, at = Random(pace), 0.0
    _, sounds, pause_of = PACES[pace]
    habit, joining = Habit(nanos(at), floor_seconds=4.5), Joining()
    before: float | None = None
    for step in range(sounds):
        pause, excused = pause_of(dice, step), ""
        halves = range(1, 200) if step % 15 == 0 else ()
        unusual = next((half / 2 for half in halves if habit.unusual(nanos(at + half / 2))), None)
        if dice.random() < 0.02:
            from_, until = at + dice.uniform(-3, 1), at + pause * dice.uniform(0.1, 1.2)
            habit.excuse(nanos(from_), nanos(until))
            excused = f"{from_:.3f}-{until:.3f}"
        at += pause
        habit.heard(nanos(at))
        later = dice.choice((0.0, 2.0, 5.0, 11.0))
        found = habit.absence(nanos(at + later))
        put = joining.add(found) if found else None
        due = joining.due(nanos(at))
        if found or put or due or (step % 15 == 0 and unusual != before):
            before = unusual
            yield step, f"{at:.3f}", excused, unusual, later, stretch(found), stretch(put), stretch(due)
    yield "end", "", "", "", "", stretch(habit.last_absence()), "", stretch(joining.rest())


@pytest.mark.parametrize("pace", PACES)
def test_which_silences_are_unusual(pace: str) -> None:
    assert_on_file(
        GOLDEN / f"absences-{pace.replace(' ', '-')}.txt",
        f"A node that {PACES[pace][0]}.",
        "sound, second, excused, unusual after, asked after, absence, recorded, joined",
        absences(pace),
    )


def joined(number: int) -> Iterator[Row]:
    dice, joining, at = Random(1), Joining(), 0.0
    for _ in range(number):
        at += dice.choice((20.0, 60.0, 200.0, 9_000.0 if dice.random() < 0.1 else 40.0))
        put, due = joining.add(Absence(nanos(at), nanos(at + 7))), joining.due(nanos(at + 9))
        yield at, stretch(put), stretch(due)
    yield "end", "", stretch(joining.rest())
    yield "again", "", stretch(joining.rest())


def test_which_absences_have_a_record_of_their_own() -> None:
    assert_on_file(GOLDEN / "joined.txt", "Absences of 7 s each.", "second, recorded, joined", joined(70))


def roster(max_nodes: int, steps: int) -> Iterator[Row]:
    """A row for each answer, and one in 30 s."""
    dice, nodes, at = Random(1), NodeRoster(max_nodes), 0.0
    names = ("a", "a.one", "b.one", "b.two", "b", "c", "d", "")
    for step in range(steps):
        at += 0.5
        upstream = f"relay:{step % 2}"
        quiet = {"c"} if 200 < step % 300 < 240 else {"d"} if step % 90 > 70 else set()
        nodes.heard(upstream, {name: nanos(at) for name in names if name not in quiet and dice.random() < 0.8})
        silent = nodes.fallen_silent(nanos(at))
        gaps = nodes.to_record(nanos(at))
        if step == 400:
            gaps += nodes.forget_upstream("relay:1", nanos(at))
        if silent or gaps or step % 60 == 0:
            known, silent_now = nodes.of_upstream(upstream, nanos(at))
            yield (at, upstream, ", ".join(f"{one.node} of {one.upstream} since {since(one.last_event_unix_nano)}"
                                           for one in silent),
                   ", ".join(f"{gap.upstream} {gap_of(gap)}" for gap in gaps), known, " ".join(silent_now))  # fmt: skip
    for (upstream, name), seen in nodes.last_seen().items():
        yield since(seen), upstream, f"last seen: {name}", "", "", ""


@pytest.mark.parametrize("max_nodes", [5, 50])
def test_which_nodes_are_known_and_silent(max_nodes: int) -> None:
    assert_on_file(
        GOLDEN / f"roster-{max_nodes}.txt",
        f"Two relays with the same six nodes, of which {max_nodes} are kept at most; c and d are silent at times.",
        "second, upstream, fallen silent, recorded, known nodes, silent nodes",
        roster(max_nodes, 600),
    )


def overloads(seed: int, looks: int) -> Iterator[Row]:
    """Looks at a connection of which the reader, the bridge or the node is slow at times."""
    dice = Random(seed)
    detector = OverloadDetector((1 << 20) << seed, tls=bool(seed % 2))
    at = cpu = 0.0
    arrived = read = events = 0
    rate, reads, sends = 20_000, 40_000, True
    for step in range(looks):
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
            yield (at, rate, reads, arrived - read, events, since(one.started), since(one.ended),
                   one.events_before[Stream.LOGS])  # fmt: skip
    for one in detector.end():
        yield "end", "", "", "", "", since(one.started), since(one.ended), one.events_before[Stream.LOGS]


@pytest.mark.parametrize("seed", range(6))
def test_which_overloads_are_told(seed: int) -> None:
    assert_on_file(
        GOLDEN / f"overloads-{seed}.txt",
        f"A window of {1 << seed} MiB{', with TLS' if seed % 2 else ''}; events come and are read at changing rates.",
        "second, come/s, could be read/s, unread bytes, events read, overload from, to, events before",
        overloads(seed, 4_000),
    )


def stalls(seed: int, steps: int) -> Iterator[Row]:
    """A row for each health check, and for every ninth step."""
    dice, at, asked, last_event = Random(seed), 0.0, 0.0, 0.0
    detector = StallDetector(nanos(at))
    for step in range(steps):
        at += dice.choice((1.0, 1.0, 1.0, 3.0, 6.5))
        if dice.random() < (0.8, 0.3)[seed]:
            last_event = at - dice.choice((0.0, 0.4, 2.0))
            detector.look(nanos(last_event))
        wants = detector.wants_probe(nanos(at), nanos(asked))
        if wants or step % 9 == 0:
            asked = at
            late = dice.choice((0.01, 0.5, 0.9, 5.0))
            stall = detector.answered(nanos(at - late), nanos(at))
            told = (since(stall.started), since(stall.ended), stall.detail) if stall else ("", "", "")
            yield at, last_event, wants, late, *told


@pytest.mark.parametrize("seed", range(2))
def test_which_stalls_are_told(seed: int) -> None:
    assert_on_file(
        GOLDEN / f"stalls-{seed}.txt",
        f"Events come in {(8, 3)[seed]} looks of 10; health checks are answered late.",
        "second, last event, wants a check, answered after, stall from, to, detail",
        stalls(seed, 120),
    )


def gaps(seed: int, steps: int) -> Iterator[Row]:
    dice, at, offset, events = Random(seed), 0.0, [0], 0
    tracker = GapTracker(
        Stream.LOGS, "relay:1", watched_until_unix_nano=nanos(-40) if seed else None, now_unix_nano=nanos(at),
        clock_offset_nano=lambda: offset[0],
    )  # fmt: skip
    for _ in range(steps):
        at += dice.choice((0.1, 1.0, 20.0, 400.0 if dice.random() < 0.1 else 2.0))
        now = nanos(at + offset[0] / NANOSECONDS)
        told: Gap | None = None
        match event := dice.choice(
            ("lose", "attempt", "again", "prove", "prove", "end", "goes on", "suspect", "rate", "lost")
        ):
            case "lose":
                lost_before = dice.randrange(3_000) / 1_000
                event = f"lost {lost_before} s ago"
                tracker.lose(now - round(lost_before * NANOSECONDS), GapCause.DISCONNECT, "a loss")
            case "attempt":
                tracker.attempt()
            case "again":
                tracker.watch_again(now)
            case "prove":
                heard = dice.choice((0, now, now - 30 * NANOSECONDS))
                event = f"proven, heard {since(heard) if heard else 'never'}"
                told = tracker.prove(heard)
            case "end" if dice.random() < 0.5:
                told = tracker.end(now)
            case "goes on":
                told = tracker.goes_on(now)
            case "suspect":
                told = tracker.suspect(GapCause.STALL, now - 9 * NANOSECONDS, now, 20, "stood still")
            case "lost":
                tracker.count_lost(records := dice.randrange(5))
                event = f"{records} records lost"
            case "rate" if tracker.since_unix_nano is None:
                events += dice.randrange(400)
                event = f"{events} events so far"
                tracker.rate.observe(events, at)
            case _:
                continue
        if dice.random() < 0.02:
            offset[0] += dice.choice((-3_600, 3_600)) * NANOSECONDS
            event += ", clock set"
        rate = tracker.rate
        yield (since(now), event, since(tracker.since_unix_nano), tracker.unproven, rate.per_second,
               rate.observed_seconds, rate.estimate(10.0), gap_of(told))  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_which_gaps_are_told(seed: int) -> None:
    assert_on_file(
        GOLDEN / f"gaps-{seed}.txt",
        f"One stream of a bridge that {'was not running for 40 s' if seed else 'starts for the first time'}.",
        "second, event, blind since, unproven, events/s, observed, in 10 s, record",
        gaps(seed, 110),
    )


def losses(known: Roads, at: float) -> Iterator[Row]:
    for (road, node), loss in sorted(known.losses.items()):
        said = f"{loss.compared} compared, {loss.missed} missed, {loss.unknown} unknown"
        yield at, f"{road} of {node}: {said}{'' if loss.carried else ', brought none'}", "", ""


def roads(seed: int, turns: int) -> Iterator[Row]:
    """A row for every eighth turn, and what is lost after a hundred."""
    dice, at, blind = Random(seed), 100.0, set[tuple[str, Stream]]()
    names = ("a", "b", "c")[: 2 + seed % 2]
    known = Roads(names, 12.0, blind=lambda: blind, now=at)
    sent, late, brought = 0, list[tuple[str, Stream, str, bytes]](), list[str]()

    def bring(road: str, stream: Stream, node: str, uid: bytes) -> None:
        brought.append(f"{road}{uid.decode()}{'' if known.is_new(road, stream, node, uid) else ' copy'}")

    for step in range(turns):
        at += dice.choice((0.1, 0.5, 0.9))
        known.begin(at)
        brought.clear()
        if dice.random() < 0.03:
            blind = {(dice.choice(names), dice.choice(STREAMS))} if dice.random() < 0.5 else set()
        if dice.random() < 0.03:
            cause = dice.choice((GapCause.DISCONNECT, GapCause.STALL))
            gap = Gap(stream=Stream.LOGS, upstream="a", cause=cause, started_unix_nano=nanos(at - 3),
                      ended_unix_nano=nanos(at - 1))  # fmt: skip
            known.note([gap], nanos(at))
        for _ in range(dice.randrange(6)):
            sent += dice.random() < 0.9  # else it is the same once more
            event = (dice.choice(STREAMS[:2]), f"n{sent % 3}", b"%d" % sent)
            for name in names:
                at_once = dice.random() < 0.7
                if at_once:
                    bring(name, *event)
                late += [(name, *event)] * (not at_once and dice.random() < 0.8)
        dice.shuffle(late)
        while late and dice.random() < 0.6:
            bring(*late.pop())
        if dice.random() < 0.9:  # else the turn is repeated
            known.commit()
        if step % 8 == 0:
            yield at, ", ".join(brought), known.waiting, known.shed
        if step % 100 == 99:
            yield from losses(known, at)


ROADS = "second, events, waiting, shed"


@pytest.mark.parametrize("seed", range(4))
def test_what_roads_lose(seed: int) -> None:
    assert_on_file(
        GOLDEN / f"roads-{seed}.txt",
        f"{2 + seed % 2} roads, each of which brings 7 of 10 events at once and most others late.",
        ROADS,
        roads(seed, 200),
    )


def test_ids_are_shed_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.feed.roads.MAX_IDS", 40)
    assert_on_file(GOLDEN / "roads-shed.txt", "The same with room for 40 ids.", ROADS, roads(1, 200))


def pauses(steps: int) -> Iterator[Row]:
    dice, now, events, pause = Random(1), nanos(0), 0, ReadPause(0.02)
    for step in range(steps):
        now += dice.choice((1_000_000, 20_000_000, 300_000_000, 1_000_000_000))
        events += dice.choice((0, 1, 10, 100, 4_000 if step % 20 > 12 else 40))
        flooded = step % 3 == 0
        yield since(now), events, flooded, pause.seconds(now, events, flooded=flooded), pause.rate
        if step == steps * 2 // 3:
            now -= 3_600 * NANOSECONDS


def test_when_a_reader_pauses() -> None:
    assert_on_file(
        GOLDEN / "pauses.txt",
        "A reader that may pause for 20 ms; the clock is set back by an hour once.",
        "second, events, flooded, pause, events/s",
        pauses(75),
    )


def turns(number: int) -> Iterator[Row]:
    dice, schedule, now = Random(1), TurnSchedule(), 100.0
    for _ in range(number):
        now += dice.choice((0.00001, 0.001, 0.01, 0.5))
        events = dice.choice((1, 3, 100))
        schedule.took(events, now)
        if dice.random() < 0.3:
            schedule.hand_over(0.02)
        yield (f"{now:.5f}", events, schedule.expects_events, schedule.handed_over,
               schedule.early_seconds(now + 0.002))  # fmt: skip


def test_when_a_turn_begins() -> None:
    assert_on_file(
        GOLDEN / "turns.txt",
        "The encoder takes events; a reader hands over for 20 ms at times.",
        "second, events taken, expects events, handed over, next turn 2 ms later is in",
        turns(30),
    )


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(0, 0.015), (1, 0.015), (500, 0.015), (700, 10 / 700), (1_000, 0.01), (1_300, 0.0106), (5_000, 0.018),
     (11_000, 0.03), (12_000, 0.03)],
)  # fmt: skip
def test_turns_are_ten_events_apart_at_low_rates_and_further_at_high_ones(rate: float, seconds: float) -> None:
    assert gather_seconds(rate) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("mebibytes", "streams", "window", "windows"),
    [
        (100, 0, 32 << 20, 0),
        (100, 1, 32 << 20, 32 << 20),
        (100, 2, 30 << 20, 60 << 20),
        (100, 3, 20 << 20, 60 << 20),
        (100, 100, 629_145, 62_914_500),
        (1 / 8, 1, 78_643, 78_643),
        (1 / 8, 2, 64 << 10, 78_643),
        (1024, 100, 6_442_450, 644_245_000),
    ],
)
def test_streams_share_six_tenths_of_the_memory_as_windows(
    mebibytes: float, streams: int, window: int, windows: int
) -> None:
    budget = ByteBudget(round(mebibytes * (1 << 20)), elsewhere=lambda: 1_000)
    budget.streams = streams
    assert (budget.window_bytes, budget.used_bytes(77)) == (window, windows + 1_077)
