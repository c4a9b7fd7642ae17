"""Copies of one event that come by several roads are told from repetitions, and what a road lacks is its loss."""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed import roads as module
from otelbridge.feed.roads import SLICES, Loss, Roads

WINDOW = 60.0
A, B, C = "relay-a:32767", "relay-b:32767", "node:32767"
NODE = "n1"


class Bench:
    """Roads with a clock of their own."""

    def __init__(self, *upstreams: str, window: float = WINDOW) -> None:
        self.blind: set[tuple[str, Stream]] = set()
        self.now = 0.0
        self.window = window
        self.roads = Roads(upstreams or (A, B), window, blind=lambda: self.blind, now=0.0)

    def sees(self, upstream: str, number: int, node: str = NODE, stream: Stream = Stream.LOGS) -> bool:
        return self.roads.is_new(upstream, stream, node, b"%036d" % number)

    def turn(self, seconds: float = 0.0, gaps: Iterable[Gap] = ()) -> None:
        self.roads.commit()
        self.now += seconds
        self.roads.begin(self.now)
        self.roads.note(gaps, self.unix_nano())

    def unix_nano(self) -> int:
        return 1_800_000_000_000_000_000 + round(self.now * 1e9)

    def gap(self, upstream: str, cause: GapCause = GapCause.DISCONNECT, seconds: int = 5) -> Gap:
        """One that ends now."""
        now = self.unix_nano()
        started = now - seconds * 1_000_000_000
        return Gap(stream=Stream.LOGS, upstream=upstream, cause=cause, started_unix_nano=started, ended_unix_nano=now)

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.turn(1.0)

    def settles(self) -> None:
        """Everything up to now."""
        self.passes(self.window + 2 * self.window / SLICES + 1)

    def warms_up(self) -> None:
        """Both roads have brought an event of the node, and their start no longer matters."""
        for upstream in self.roads.upstreams:
            self.sees(upstream, -1)
        self.passes(2 * self.window)


def lost(compared: int = 0, missed: int = 0, unknown: int = 0) -> Loss:
    return Loss(compared, missed, unknown, carried=True)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=80))
def test_as_many_of_an_id_pass_as_the_road_with_the_most_has_brought(sights: list[tuple[int, int]]) -> None:
    bench = Bench(A, B, C)
    brought: Counter[tuple[int, int]] = Counter()
    passed: Counter[int] = Counter()
    for road, number in sights:
        passed[number] += bench.sees((A, B, C)[road], number)
        brought[road, number] += 1
        assert passed[number] == max(brought[each, number] for each in range(3)), "at every moment"
    uneven = [n for n in range(4) if len({brought[each, n] for each in range(3)}) > 1]
    assert bench.roads.waiting == len(uneven), "what all have brought as often takes no room"


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
)
def test_a_turn_that_is_repeated_decides_as_the_first_time(
    before: list[tuple[bool, int]], turn: list[tuple[bool, int]]
) -> None:
    bench = Bench()
    for road, number in before:
        bench.sees((A, B)[road], number)
    bench.turn()
    waiting = bench.roads.waiting
    first = [bench.sees((A, B)[road], number) for road, number in turn]
    bench.roads.begin(bench.now)
    assert bench.roads.waiting == waiting
    assert [bench.sees((A, B)[road], number) for road, number in turn] == first


@pytest.mark.parametrize("late", [0, 1, 30, 60])
def test_a_road_that_is_late_within_the_window_brings_nothing_new(late: int) -> None:
    bench = Bench()
    assert bench.sees(A, 1)
    bench.passes(late)
    assert not bench.sees(B, 1)
    bench.settles()
    assert bench.roads.waiting == 0


def test_what_a_road_lacks_of_what_another_brings_is_its_loss_once_the_window_is_over() -> None:
    bench = Bench()
    bench.warms_up()
    for number in range(100):
        bench.sees(A, number)
        if number % 10:
            bench.sees(B, number)
    bench.sees(B, 1000)
    bench.passes(WINDOW - 1)
    assert bench.roads.losses[B, NODE].missed == 0, "it may still come"
    bench.settles()
    assert bench.roads.losses == {
        (A, NODE): lost(compared=91, missed=1),
        (B, NODE): lost(compared=100, missed=10),
    }


def test_a_repetition_that_one_road_drops_is_its_loss() -> None:
    bench = Bench()
    bench.warms_up()
    assert [bench.sees(A, 1), bench.sees(A, 1), bench.sees(B, 1)] == [True, True, False]
    bench.settles()
    assert bench.roads.losses[B, NODE] == lost(compared=2, missed=1)


def test_the_loss_of_one_road_does_not_make_the_others_look_smaller() -> None:
    bench, chance = Bench(), random.Random(3)
    bench.warms_up()
    for number in range(200_000):
        if number % 1000 == 0:
            bench.turn(0.01)
        for road, share in ((A, 0.5), (B, 0.05)):
            if chance.random() >= share:
                bench.sees(road, number)
    bench.settles()
    found = bench.roads.losses[B, NODE]
    assert found.missed / found.compared == pytest.approx(0.05, abs=0.002), "of what another road has brought"


@pytest.mark.parametrize("late", [0, 30])
@pytest.mark.parametrize("seconds_from_the_gap", [0, 5, 25, 50])
@pytest.mark.parametrize("side", ["before", "after"])
def test_what_a_road_lacks_around_a_gap_is_unknown_as_far_as_roads_are_late(
    side: str, seconds_from_the_gap: int, late: int
) -> None:
    bench = Bench()
    bench.warms_up()
    numbers = itertools.count(10)
    on_the_way: deque[int] = deque()

    def passes(seconds: int) -> None:
        """The road B brings everything, late."""
        for _ in range(seconds):
            on_the_way.append(next(numbers))
            bench.sees(A, on_the_way[-1])
            if len(on_the_way) > late:
                bench.sees(B, on_the_way.popleft())
            bench.turn(1.0)

    passes(100)
    if side == "after":
        bench.turn(gaps=[bench.gap(B, seconds=3)])
        passes(seconds_from_the_gap)
    bench.sees(A, 1)
    if side == "before":
        passes(seconds_from_the_gap)
        passes(3)
        bench.turn(gaps=[bench.gap(B, seconds=3)])
    passes(100)
    found = bench.roads.losses[B, NODE]
    near = seconds_from_the_gap < WINDOW / SLICES or seconds_from_the_gap <= late
    assert (found.missed, found.unknown) == ((0, 1) if near else (1, 0))


def test_long_after_a_gap_a_road_answers_for_its_losses_again() -> None:
    bench = Bench()
    bench.warms_up()
    bench.turn(gaps=[bench.gap(B)])
    bench.passes(2 * WINDOW)
    bench.sees(A, 1)
    bench.settles()
    assert bench.roads.losses[B, NODE] == lost(compared=1, missed=1)


@pytest.mark.parametrize("cause", [GapCause.THROTTLED, GapCause.NODE_SILENT, GapCause.STALL])
def test_a_road_that_stood_or_fell_silent_while_it_was_connected_has_lost_events(cause: GapCause) -> None:
    bench = Bench()
    bench.warms_up()
    bench.turn(gaps=[bench.gap(B, cause)])
    bench.sees(A, 1)
    bench.settles()
    assert bench.roads.losses[B, NODE].missed == 1


def test_a_gap_that_goes_on_is_asked_for() -> None:
    bench = Bench()
    bench.warms_up()
    bench.blind.add((B, Stream.LOGS))
    bench.sees(A, 1)
    bench.sees(A, 2, stream=Stream.ALERTS)
    bench.settles()
    assert bench.roads.losses[B, NODE] == lost(unknown=1)


def test_the_streams_of_a_road_are_blind_each_by_itself() -> None:
    bench = Bench()
    for upstream in (A, B):
        bench.sees(upstream, -2, stream=Stream.ALERTS)
    bench.warms_up()
    bench.turn(gaps=[bench.gap(B)])
    bench.sees(A, 1)
    bench.sees(A, 2, stream=Stream.ALERTS)
    bench.settles()
    assert bench.roads.losses[B, NODE] == lost(compared=1, missed=1, unknown=1)


def test_what_comes_soon_after_the_start_is_unknown() -> None:
    bench = Bench()
    for upstream in (A, B):
        bench.sees(upstream, 1)
    bench.sees(A, 2)
    bench.passes(30)
    bench.sees(A, 3)
    bench.settles()
    assert bench.roads.losses[B, NODE] == lost(compared=1, missed=1), "the first slice is unknown"


def test_a_road_answers_only_for_nodes_that_it_has_brought_events_of() -> None:
    bench = Bench(A, C)
    bench.warms_up()
    bench.sees(A, 1, "n2")
    bench.passes(2 * WINDOW)
    bench.sees(A, 2, "n2")
    bench.settles()
    assert bench.roads.losses[C, "n2"] == Loss(), "a node's own KubeArmor sends nothing of other nodes"


def test_the_oldest_ids_are_shed_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDS", 1000)
    bench = Bench()
    bench.warms_up()
    for number in range(5000):
        if number % 100 == 0:
            bench.turn(0.01)
            assert bench.roads.waiting <= 1000
        assert bench.sees(A, number)
    assert bench.roads.shed >= 3900
    assert bench.roads.waiting <= 1100
    assert not bench.sees(B, 4999), "the latest are still known"
    bench.settles()
    assert bench.roads.losses[B, NODE].unknown == bench.roads.shed, "what was shed is nobody's loss"


def test_further_nodes_than_can_be_told_apart_share_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NODES", 2)
    bench = Bench()
    for number, node in enumerate(["n1", "n2", "n3", "n4"]):
        assert bench.sees(A, number, node)
        assert not bench.sees(B, number, node)
    assert {node for _, node in bench.roads.losses} == {"n1", "n2", ""}


def test_an_id_that_comes_endlessly_by_one_road_passes() -> None:
    bench = Bench()
    assert all(bench.sees(A, 1) for _ in range(1000))
    assert bench.roads.waiting == 1


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05])
def test_the_metered_loss_is_the_seeded_one(share: float) -> None:
    bench, chance = Bench(window=6), random.Random(7)
    bench.warms_up()
    late: list[int] = []
    dropped = 0
    for number in range(60_000):
        if number % 500 == 0:
            bench.turn(0.1)
            for each in late:
                assert not bench.sees(B, each)
            late.clear()
        assert bench.sees(A, number)
        if chance.random() < share:
            dropped += 1
        else:
            late.append(number)
    bench.turn()
    for each in late:
        bench.sees(B, each)
    bench.settles()
    found = bench.roads.losses[B, NODE]
    assert found == lost(compared=60_000, missed=dropped)
    assert bench.roads.losses[A, NODE].missed == 0


@pytest.mark.parametrize(("share", "bound"), [(0.0, 0.0), (0.01, 0.0004), (0.05, 0.006)])
def test_of_two_events_with_one_id_hardly_ever_one_is_taken_for_the_others_copy(share: float, bound: float) -> None:
    """What is lost although a road has brought it: one road drops the first, the other the second."""
    bench, chance = Bench(window=6), random.Random(11)
    pairs, lost_by_no_road, passed = 50_000, 0, 0
    for number in range(pairs):
        if number % 500 == 0:
            bench.turn(0.1)
        brought = [[chance.random() >= share for _ in range(2)] for _ in range(2)]
        lost_by_no_road += sum(map(any, zip(*brought, strict=True)))
        for upstream, copies in zip((A, B), brought, strict=True):
            passed += sum(bench.sees(upstream, number) for copy in copies if copy)
    assert passed <= lost_by_no_road
    assert (lost_by_no_road - passed) / pairs <= bound, "2 p^2 (1 - p)^2 of the pairs"
