from __future__ import annotations

import pytest

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed.habit import NANOSECONDS as SECOND
from otelbridge.feed.nodes import FORGET_SECONDS, NodeRoster

RELAY = "relay:1"


def speaking(*nodes: str, until: int = 60, upstream: str = RELAY) -> NodeRoster:
    roster = NodeRoster()
    for second in range(until):
        assert roster.heard(upstream, dict.fromkeys(nodes, second * SECOND)) == []
    return roster


def test_a_node_that_is_silent_against_its_habit_is_told_once() -> None:
    roster = speaking("a", "b")
    for second in range(60, 90):
        roster.heard(RELAY, {"a": second * SECOND})
    (silent,) = roster.fallen_silent(90 * SECOND)
    assert (silent.upstream, silent.node, silent.last_event_unix_nano) == (RELAY, "b", 59 * SECOND)
    assert roster.fallen_silent(91 * SECOND) == []
    assert roster.of_upstream(RELAY, 91 * SECOND) == (2, ("b",))


def test_a_silence_that_has_ended_becomes_a_suspected_gap_with_the_nodes_name() -> None:
    roster = speaking("a", "b")
    roster.fallen_silent(90 * SECOND)
    (gap,) = roster.heard(RELAY, {"b": 91 * SECOND})
    assert (gap.stream, gap.upstream, gap.cause, gap.node) == (None, RELAY, GapCause.NODE_SILENT, "b")
    assert gap.suspected
    assert (gap.started_unix_nano, gap.ended_unix_nano) == (59 * SECOND, 91 * SECOND)
    assert roster.of_upstream(RELAY, 92 * SECOND) == (2, ("a",)), "b speaks again; a has fallen silent meanwhile"


def test_a_silence_that_the_upstreams_own_gap_explains_is_none() -> None:
    roster = speaking("a")
    for stream in (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES):
        lost = Gap(
            stream=stream,
            upstream=RELAY,
            cause=GapCause.DISCONNECT,
            started_unix_nano=59 * SECOND,
            ended_unix_nano=100 * SECOND,
        )
        roster.excuse(lost)
    assert roster.fallen_silent(105 * SECOND) == []
    assert roster.heard(RELAY, {"a": 106 * SECOND}) == []


def test_an_upstream_that_is_given_up_leaves_no_node_behind_and_the_open_silence_is_on_record() -> None:
    roster = speaking("a")
    roster.heard("relay:2", {"a": SECOND})
    (gap,) = roster.forget_upstream(RELAY, 100 * SECOND)
    assert (gap.node, gap.started_unix_nano, gap.ended_unix_nano) == ("a", 59 * SECOND, 100 * SECOND)
    assert list(roster.last_seen()) == [("relay:2", "a")]
    assert roster.of_upstream(RELAY, 101 * SECOND) == (0, ())


def test_a_node_that_was_silent_for_a_day_is_put_on_record_and_forgotten() -> None:
    roster = speaking("a")
    day = int(FORGET_SECONDS) * SECOND
    assert roster.departed(59 * SECOND + day) == []
    (gap,) = roster.departed(60 * SECOND + day)
    assert gap.node == "a"
    assert roster.last_seen() == {}


def test_the_roster_is_bounded_and_says_so() -> None:
    roster = NodeRoster(max_nodes=3)
    for number in range(5):
        roster.heard(RELAY, {f"n{number}": number * SECOND})
    assert [node for _, node in roster.last_seen()] == ["n2", "n3", "n4"]
    assert roster.forgotten == 2


LONG, SHORT = "ip-10-0-0-1.ec2.internal", "ip-10-0-0-1"


@pytest.mark.parametrize("order", [(LONG, SHORT), (SHORT, LONG), (SHORT, LONG, SHORT)])
def test_a_node_has_one_name_whichever_comes_first(order: tuple[str, ...]) -> None:
    roster = NodeRoster()
    for second, name in enumerate(order):
        roster.heard(RELAY, {name: second * SECOND})
    assert roster.last_seen() == {(RELAY, LONG): (len(order) - 1) * SECOND}


def test_a_short_name_that_two_nodes_could_have_is_nobodys() -> None:
    roster = NodeRoster()
    roster.heard(RELAY, {"a.one": SECOND, "a.two": SECOND})
    roster.heard(RELAY, {"a": 2 * SECOND})
    assert roster.last_seen() == {(RELAY, "a.one"): SECOND, (RELAY, "a.two"): SECOND}


def test_a_full_name_that_was_forgotten_no_longer_claims_the_short_one() -> None:
    roster = NodeRoster(max_nodes=1)
    roster.heard(RELAY, {LONG: SECOND})
    roster.heard(RELAY, {"b": 2 * SECOND})
    roster.heard(RELAY, {SHORT: 3 * SECOND})
    assert list(roster.last_seen()) == [(RELAY, SHORT)]


def test_nodes_of_the_same_name_behind_two_upstreams_are_two() -> None:
    roster = NodeRoster()
    roster.heard(RELAY, {"a": SECOND})
    roster.heard("relay:2", {"a": 2 * SECOND})
    assert roster.of_upstream(RELAY, 3 * SECOND)[0] == roster.of_upstream("relay:2", 3 * SECOND)[0] == 1
