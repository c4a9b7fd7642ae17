from __future__ import annotations

from otelbridge.feed.nodes import NANOSECONDS, NodeRoster

SECOND = NANOSECONDS


def roster_with_habits(*nodes: str, every_seconds: int = 10, until_second: int = 1000) -> NodeRoster:
    roster = NodeRoster()
    for second in range(0, until_second + 1, every_seconds):
        for node in nodes:
            roster.saw(node, second * SECOND)
    return roster


def keep_speaking(roster: NodeRoster, node: str, *, first: int, last: int) -> None:
    for second in range(first, last + 1, 10):
        roster.saw(node, second * SECOND)


def test_a_node_that_fed_before_and_is_silent_while_others_flow_is_reported_once() -> None:
    roster = roster_with_habits("a", "b")
    keep_speaking(roster, "a", first=1010, last=1400)
    assert [silent.node for silent in roster.fallen_silent(1400 * SECOND)] == ["b"]
    assert roster.fallen_silent(1401 * SECOND) == []
    assert [silent.node for silent in roster.silent(1401 * SECOND)] == ["b"]


def test_a_node_that_speaks_again_can_fall_silent_again() -> None:
    roster = roster_with_habits("a", "b")
    keep_speaking(roster, "a", first=1010, last=1400)
    roster.fallen_silent(1400 * SECOND)
    roster.saw("b", 1410 * SECOND)
    assert roster.silent(1410 * SECOND) == []
    keep_speaking(roster, "a", first=1410, last=3400)
    silent = roster.fallen_silent(3400 * SECOND)
    assert [(s.node, s.last_event_unix_nano) for s in silent] == [("b", 1410 * SECOND)]


def test_when_all_are_silent_no_node_is_blamed() -> None:
    assert roster_with_habits("a", "b").silent(9000 * SECOND) == []


def test_a_node_that_seldom_speaks_is_not_called_silent_soon() -> None:
    roster = roster_with_habits("rare", every_seconds=100, until_second=2000)
    keep_speaking(roster, "a", first=0, last=3000)
    assert roster.silent(3000 * SECOND) == []
    keep_speaking(roster, "a", first=3010, last=4200)
    assert [silent.node for silent in roster.silent(4200 * SECOND)] == ["rare"]


def test_a_node_seen_a_few_times_has_no_habit() -> None:
    roster = NodeRoster()
    roster.saw("new", SECOND)
    keep_speaking(roster, "a", first=0, last=3000)
    assert roster.silent(3000 * SECOND) == []


def test_the_roster_is_bounded_and_says_so() -> None:
    roster = NodeRoster(max_nodes=3)
    for number in range(5):
        roster.saw(f"n{number}", number * SECOND, upstream="relay:1")
    assert [node for _, node in roster.last_seen()] == ["n2", "n3", "n4"]
    assert roster.count("relay:1") == 3
    assert roster.forgotten == 2


def test_nodes_of_an_upstream_that_is_gone_are_forgotten() -> None:
    roster = NodeRoster()
    roster.saw("a", SECOND, upstream="relay:1")
    roster.saw("a", SECOND, upstream="relay:2")
    roster.forget_upstream("relay:1")
    assert list(roster.last_seen()) == [("relay:2", "a")]
    assert roster.count("relay:1") == 0


def test_the_same_sighting_twice_changes_no_habit() -> None:
    roster = roster_with_habits("a", "b")
    for _ in range(1000):
        roster.saw("b", 1000 * SECOND)
    keep_speaking(roster, "a", first=1010, last=1400)
    assert [silent.usual_pause_seconds for silent in roster.silent(1400 * SECOND)] == [10]
