from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest

from otelbridge.event import NANOSECONDS, Gap, GapCause, Stream
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS
from otelbridge.feed.nodes import FORGET_SECONDS, Habit, NodeRoster

RELAY = "relay:1"


def speaking(*nodes: str, until: int = 60, upstream: str = RELAY) -> NodeRoster:
    roster = NodeRoster()
    for second in range(until):
        roster.heard(upstream, dict.fromkeys(nodes, second * NANOSECONDS))
        assert roster.to_record(second * NANOSECONDS) == []
    return roster


def test_a_node_that_is_silent_against_its_habit_is_told_once() -> None:
    roster = speaking("a", "b")
    for second in range(60, 90):
        roster.heard(RELAY, {"a": second * NANOSECONDS})
    (silent,) = roster.fallen_silent(90 * NANOSECONDS)
    assert (silent.upstream, silent.node, silent.last_event_unix_nano) == (RELAY, "b", 59 * NANOSECONDS)
    assert roster.fallen_silent(91 * NANOSECONDS) == []
    assert roster.of_upstream(RELAY, 91 * NANOSECONDS) == (2, ("b",))


def test_a_silence_that_has_ended_becomes_a_suspected_gap_with_the_nodes_name() -> None:
    roster = speaking("a", "b")
    roster.fallen_silent(90 * NANOSECONDS)
    roster.heard(RELAY, {"b": 91 * NANOSECONDS})
    assert roster.to_record(92 * NANOSECONDS) == [], "the upstream's own gap may explain it yet"
    (gap,) = roster.to_record(93 * NANOSECONDS)
    assert (gap.stream, gap.upstream, gap.cause, gap.node) == (None, RELAY, GapCause.NODE_SILENT, "b")
    assert gap.suspected
    assert (gap.started_unix_nano, gap.ended_unix_nano) == (59 * NANOSECONDS - IN_FLIGHT_NANOS, 91 * NANOSECONDS)
    assert roster.of_upstream(RELAY, 92 * NANOSECONDS) == (2, ("a",)), "b speaks again; a has fallen silent meanwhile"


def test_a_silence_that_the_upstreams_own_gap_explains_is_none() -> None:
    roster = speaking("a")
    for stream in (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES):
        lost = Gap(
            stream=stream,
            upstream=RELAY,
            cause=GapCause.DISCONNECT,
            started_unix_nano=59 * NANOSECONDS,
            ended_unix_nano=100 * NANOSECONDS,
        )
        roster.excuse(lost)
    assert roster.fallen_silent(101 * NANOSECONDS) == []
    roster.heard(RELAY, {"a": 101 * NANOSECONDS})
    assert roster.to_record(120 * NANOSECONDS) == []


def test_what_explains_a_silence_may_be_told_after_it_has_ended() -> None:
    roster = speaking("a", "b")
    roster.heard(RELAY, {"a": 70 * NANOSECONDS, "b": 70 * NANOSECONDS})
    stalled = Gap(
        stream=Stream.LOGS,
        upstream=RELAY,
        cause=GapCause.STALL,
        started_unix_nano=60 * NANOSECONDS,
        ended_unix_nano=71 * NANOSECONDS,
    )
    roster.excuse(stalled)
    assert roster.to_record(90 * NANOSECONDS) == []


def test_an_upstream_that_is_given_up_leaves_no_node_behind_and_the_open_silence_is_on_record() -> None:
    roster = speaking("a")
    roster.heard("relay:2", {"a": NANOSECONDS})
    (gap,) = roster.forget_upstream(RELAY, 100 * NANOSECONDS)
    assert (gap.node, gap.started_unix_nano, gap.ended_unix_nano) == (
        "a",
        59 * NANOSECONDS - IN_FLIGHT_NANOS,
        100 * NANOSECONDS,
    )
    assert list(roster.last_seen()) == [("relay:2", "a")]
    assert roster.of_upstream(RELAY, 92 * NANOSECONDS) == (0, ())


def test_a_node_that_was_silent_for_a_day_is_put_on_record_and_forgotten() -> None:
    roster = speaking("a")
    day = int(FORGET_SECONDS) * NANOSECONDS
    assert roster.to_record(59 * NANOSECONDS + day) == []
    (gap,) = roster.to_record(60 * NANOSECONDS + day)
    assert gap.node == "a"
    assert roster.last_seen() == {}


def test_the_roster_is_bounded_and_forgets_who_was_heard_least_recently() -> None:
    roster = NodeRoster(max_nodes=3)
    for number in range(5):
        roster.heard(RELAY, {f"n{number}": number * NANOSECONDS})
    assert [node for _, node in roster.last_seen()] == ["n2", "n3", "n4"]


LONG, SHORT = "ip-10-0-0-1.ec2.internal", "ip-10-0-0-1"


@pytest.mark.parametrize("order", [(LONG, SHORT), (SHORT, LONG), (SHORT, LONG, SHORT)])
def test_a_node_has_one_name_whichever_comes_first(order: tuple[str, ...]) -> None:
    roster = NodeRoster()
    for second, name in enumerate(order):
        roster.heard(RELAY, {name: second * NANOSECONDS})
    assert roster.last_seen() == {(RELAY, LONG): (len(order) - 1) * NANOSECONDS}


def test_a_short_name_that_two_nodes_could_have_is_nobodys() -> None:
    roster = NodeRoster()
    roster.heard(RELAY, {"a.one": NANOSECONDS, "a.two": NANOSECONDS})
    roster.heard(RELAY, {"a": 2 * NANOSECONDS})
    assert roster.last_seen() == {(RELAY, "a.one"): NANOSECONDS, (RELAY, "a.two"): NANOSECONDS}


def test_a_full_name_that_was_forgotten_no_longer_claims_the_short_one() -> None:
    roster = NodeRoster(max_nodes=1)
    roster.heard(RELAY, {LONG: NANOSECONDS})
    roster.heard(RELAY, {"b": 2 * NANOSECONDS})
    roster.heard(RELAY, {SHORT: 3 * NANOSECONDS})
    assert list(roster.last_seen()) == [(RELAY, SHORT)]


def test_nodes_of_the_same_name_behind_two_upstreams_are_two() -> None:
    roster = NodeRoster()
    roster.heard(RELAY, {"a": NANOSECONDS})
    roster.heard("relay:2", {"a": 2 * NANOSECONDS})
    assert roster.of_upstream(RELAY, 3 * NANOSECONDS)[0] == roster.of_upstream("relay:2", 3 * NANOSECONDS)[0] == 1


MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def listen(habit: Habit, sounds: Iterator[float]) -> list[tuple[float, float]]:
    """What is unusual: from when to when it was silent, in seconds."""
    absences = []
    for at in sounds:
        now = round(at * NANOSECONDS)
        habit.heard(now)
        absences.append(habit.absence(now))
    absences.append(habit.last_absence())
    return [(one.started / NANOSECONDS, one.ended / NANOSECONDS) for one in absences if one]


def records(sounds: Iterable[float]) -> list[Gap]:
    """What is put on record of a node that is looked at every second."""
    roster, found, looked = NodeRoster(), [], 0
    for at in sounds:
        for second in range(looked, int(at)):
            found += roster.to_record(second * NANOSECONDS)
        looked = int(at)
        roster.heard(RELAY, {"a": round(at * NANOSECONDS)})
    return found + roster.forget_upstream(RELAY, round(at * NANOSECONDS))


def uncovered(gaps: list[Gap], outages: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The outages that no record covers; an edge may be off by what a float is."""
    spans = [(gap.started_unix_nano / NANOSECONDS - 1e-6, gap.ended_unix_nano / NANOSECONDS + 1e-6) for gap in gaps]
    return [
        (start, end) for start, end in outages if not any(began <= start and end <= ended for began, ended in spans)
    ]


def poisson(random: Random, rate: Callable[[float], float], *, until: float, start: float = 0.0) -> Iterator[float]:
    """Sounds at a rate that changes with the time of day, by thinning; no more than 5 a second."""
    at = start
    while (at := at + random.expovariate(5.0)) < until:
        if random.random() < rate(at) / 5.0:
            yield at


def new(floor_seconds: float = 8.0) -> Habit:
    return Habit(0, floor_seconds=floor_seconds)


@pytest.mark.parametrize("outage", [10.0, 15.0, 30.0, 60.0])
def test_an_outage_of_ten_seconds_is_unusual_at_five_sounds_a_second(outage: float) -> None:
    for seed in range(20):
        habit, random = new(), Random(seed)
        before = list(poisson(random, lambda _: 5.0, until=60))
        after = list(poisson(random, lambda _: 5.0, start=before[-1] + outage, until=before[-1] + outage + 60))
        (found,) = listen(habit, iter(before + after))
        assert found == pytest.approx((before[-1], after[0]))


def test_the_fifth_outage_is_noticed_like_the_first() -> None:
    habit, random, at, sounds = new(), Random(1), 0.0, []
    for _ in range(5):
        sounds += list(poisson(random, lambda _: 5.0, start=at, until=at + 60))
        at = sounds[-1] + 12
    assert len(listen(habit, iter([*sounds, at]))) == 5


DAYS = 2
NIGHTS: dict[str, Callable[[float], float]] = {
    "dead quiet": lambda at: 5.0 if 7 * HOUR <= at % DAY <= 11 * HOUR else 0.0,
    "an event every ten minutes": lambda at: 5.0 if 7 * HOUR <= at % DAY <= 11 * HOUR else 1 / 600,
    "an event every minute": lambda at: 5.0 if 7 * HOUR <= at % DAY <= 11 * HOUR else 1 / 60,
    "falling and rising slowly": lambda at: 5.0 * math.exp(-6.0 * (1 - math.cos(2 * math.pi * at / DAY)) / 2),
    "half a minute of work every hour": lambda at: 5.0 if at % HOUR < 30 else 0.0,
    "ten minutes of work every hour": lambda at: 5.0 if at % HOUR < 10 * MINUTE else 0.0,
    "a rare event": lambda _: 1 / 300,
}


@pytest.mark.parametrize("night", NIGHTS)
def test_quiet_nights_bring_no_more_than_one_false_suspicion_a_day(night: str) -> None:
    habit, random = new(), Random(20_261_129)
    found = listen(habit, poisson(random, NIGHTS[night], until=DAYS * DAY))
    assert len(found) <= DAYS, found


EVENING = 2.0 * HOUR
SLOPES = {"at once": 1.0, "in ten minutes": 10 * MINUTE, "in an hour": HOUR}


def evenings(random: Random, *, day: float, night: float, slope: float, number: int) -> Iterator[float]:
    """Twenty minutes of work and then rest, again and again; between them the rate changes by one factor a second."""
    at = 0.0
    while at < number * EVENING:
        into = at % EVENING
        since_work = min(into - 20 * MINUTE, EVENING - into)
        at += random.expovariate(day * (night / day) ** min(1.0, max(0.0, since_work) / slope))
        yield at


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize(("day", "night"), [(5.0, 0.5), (5.0, 0.1), (5.0, 0.02), (1.0, 0.1), (1.0, 0.02)])
def test_an_evening_is_no_more_than_one_false_suspicion(day: float, night: float, slope: str) -> None:
    number = 4
    for seed in range(2):
        gaps = records(evenings(Random(seed), day=day, night=night, slope=SLOPES[slope], number=number))
        assert len(gaps) <= number, f"seed {seed}"


@pytest.mark.parametrize(("pause", "known"), [(1.1, 2), (1.5, 1)])
def test_ten_sounds_at_less_than_half_the_pace_end_the_run(pause: float, known: int) -> None:
    sounds = [*every(0.6, 0, 60), *every(pause, 90, 90 + 11 * pause), *every(0.6, 130, 150)]
    assert len(records(sounds)) == known, "the outage, and the silence after the ten where they are a habit's"


def test_after_the_night_an_outage_is_noticed_again_within_the_hour() -> None:
    habit, random = new(), Random(7)
    listen(habit, poisson(random, NIGHTS["an event every ten minutes"], until=DAY + 8.5 * HOUR))
    away = DAY + 8.5 * HOUR + 12
    assert len(listen(habit, poisson(random, lambda _: 5.0, start=away, until=away + 10))) == 1


@pytest.mark.parametrize("pause_at_night", [10 * HOUR, 10 * MINUTE, MINUTE])
@pytest.mark.parametrize(("into_the_morning", "away"), [(60, 10), (90, 30), (300, 100)])
def test_an_outage_in_the_first_hour_after_a_night_is_on_record(
    pause_at_night: float, into_the_morning: float, away: float
) -> None:
    evening, morning = 2 * HOUR, 12 * HOUR
    lost, back = morning + into_the_morning, morning + into_the_morning + away
    sounds = [
        *every(0.5, 0, evening),
        *every(pause_at_night, evening + pause_at_night, morning),
        *every(0.5, morning, lost + 0.1),
        *every(0.5, back, back + 60),
    ]
    gaps = records(sounds)
    assert not uncovered(gaps, [(lost, back)])
    assert len(gaps) <= 2, "that one, and the evening's"


def test_the_end_of_a_burst_is_no_outage() -> None:
    """Half a minute of work, then an event a minute: what follows an outage is as dense as what was before."""
    sounds = [
        at
        for turn in range(20)
        for at in (*every(0.5, turn * 600, turn * 600 + 30), *every(60, turn * 600 + 90, turn * 600 + 600))
    ]
    assert len(records(sounds)) <= 1


def every(pause: float, start: float, until: float) -> list[float]:
    return [start + step * pause for step in range(math.ceil((until - start) / pause))]


def flapping(random: Random, *, outages: int, away: float, back: Callable[[], float]) -> tuple[Any, Any]:
    """Sounds of a node that is away again and again, and its outages: from its last sound to the next."""
    at, sounds, spans = 0.0, [], []
    for _ in range(outages):
        sounds += list(poisson(random, lambda _: 5.0, start=at, until=at + back()))
        at = sounds[-1] + away
        spans.append((sounds[-1], at))
        sounds.append(at)
    return sounds + list(poisson(random, lambda _: 5.0, start=at, until=at + 60)), spans


@pytest.mark.parametrize("away", [7.0, 10.0, 30.0])
def test_thirty_outages_in_an_hour_are_all_on_record(away: float) -> None:
    for seed in range(5):
        random = Random(seed)
        sounds, spans = flapping(random, outages=30, away=away, back=lambda: random.uniform(40, 120))  # noqa: B023
        gaps = records(sounds)
        assert not uncovered(gaps, spans), f"seed {seed}"
        assert len(gaps) <= 22


def test_a_node_that_comes_back_for_a_moment_only_is_away_in_between_too() -> None:
    random = Random(5)
    before = list(poisson(random, lambda _: 5.0, until=60))
    sounds, spans = flapping(random, outages=4, away=12.0, back=lambda: 2.0)
    shifted = [(start + 70, end + 70) for start, end in spans]
    gaps = records([*before, *(at + 70 for at in sounds)])
    assert not uncovered(gaps, shifted)
    assert len(gaps) <= 2


def test_pauses_that_come_every_minute_have_few_records_and_none_is_without() -> None:
    sounds = [turn * 60 + second / 5 for turn in range(500) for second in range(225)]
    gaps = records(sounds)
    assert len(gaps) <= 22
    # A run is known after 20 s, so the first pause counts as the others do.
    assert not uncovered(gaps, [(turn * 60 + 44.8, turn * 60 + 60) for turn in range(499)])


def test_what_could_not_be_heard_is_no_silence() -> None:
    habit = new()
    for second in range(60):
        habit.heard(second * NANOSECONDS)
    for _ in range(3):  # each of three streams says the same
        habit.excuse(59 * NANOSECONDS, 70 * NANOSECONDS)
    assert not habit.unusual(71 * NANOSECONDS)
    assert habit.unusual(73 * NANOSECONDS), (
        "next to a gap twice the usual silence is enough: the relay may have lost it"
    )
    assert habit.last_unix_nano == 59 * NANOSECONDS, "a record tells the whole silence"


def test_somebody_unknown_is_not_missed() -> None:
    habit = new()
    for second in range(10):
        habit.heard(second * NANOSECONDS)
    assert not habit.unusual(1000 * NANOSECONDS)


def test_an_excuse_that_reaches_into_the_future_holds_beyond_the_next_sound() -> None:
    habit = new()
    for second in range(60):
        habit.heard(second * NANOSECONDS)
    habit.excuse(59 * NANOSECONDS, 75 * NANOSECONDS)
    habit.heard(67 * NANOSECONDS)  # what was under way
    habit.heard(73 * NANOSECONDS)
    assert habit.last_absence() is None
    assert not habit.unusual(76 * NANOSECONDS)
    assert habit.unusual(78 * NANOSECONDS), "and nothing is learnt from it"


def test_two_excuses_add_up() -> None:
    habit = new()
    for second in range(60):
        habit.heard(second * NANOSECONDS)
    habit.excuse(59 * NANOSECONDS, 65 * NANOSECONDS)
    habit.excuse(66 * NANOSECONDS, 70 * NANOSECONDS)
    assert not habit.unusual(70 * NANOSECONDS)
    assert habit.unusual(71 * NANOSECONDS)


def steady(habit: Habit, *, start: float, seconds: float, every: float = 0.5) -> float:
    """Sounds at a steady pace; returns when the last one was."""
    at = start
    for step in range(int(seconds / every) + 1):
        at = start + step * every
        habit.heard(round(at * NANOSECONDS))
    return at


def test_a_run_is_believed_after_twenty_seconds_however_many_sounds_it_had() -> None:
    for seconds, believed in ((19, False), (21, True)):
        habit = Habit(1_000 * NANOSECONDS, floor_seconds=8.0)
        last = steady(habit, start=1_000, seconds=seconds)
        assert habit.unusual(round((last + 9) * NANOSECONDS)) is believed


def test_a_run_that_has_ended_by_itself_makes_the_next_prove_itself_for_twice_as_long() -> None:
    habit = new()
    last = steady(habit, start=1, seconds=600)
    last = steady(habit, start=last + 300, seconds=1_190)
    assert not habit.unusual(round((last + 60) * NANOSECONDS))
    last = steady(habit, start=last + 0.5, seconds=20)
    assert habit.unusual(round((last + 60) * NANOSECONDS))


def test_four_and_a_half_times_the_third_longest_silence_of_late_is_unusual() -> None:
    habit = new()
    last = steady(habit, start=1, seconds=400, every=10)
    assert not habit.unusual(round((last + 42) * NANOSECONDS))
    assert habit.unusual(round((last + 46) * NANOSECONDS))


@pytest.mark.parametrize("pauses", [1, 2])
def test_next_to_a_gap_twice_the_third_longest_silence_of_late_is_unusual(pauses: int) -> None:
    habit, last = new(), 0.0
    for _ in range(pauses):
        last = steady(habit, start=last + 4, seconds=40, every=1)
    habit.excuse(round(last * NANOSECONDS), round((last + 10) * NANOSECONDS))
    assert not habit.unusual(round((last + 11.8) * NANOSECONDS))
    assert habit.unusual(round((last + 12.2) * NANOSECONDS)), "two longer pauses are no habit"


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_is_set_makes_no_absence_and_hides_none(step: int) -> None:
    roster, began, set_by, gaps = NodeRoster(), 1_700_000_000, 0, []
    for second in range(400):
        if second == 200:
            set_by = step
            roster.shift(step * NANOSECONDS)
        now = (began + second + set_by) * NANOSECONDS
        if not 300 <= second < 315:
            roster.heard("relay", {"node": now})
        gaps += roster.to_record(now)
    assert [(gap.ended_unix_nano - gap.started_unix_nano) // NANOSECONDS for gap in gaps] == [16]
