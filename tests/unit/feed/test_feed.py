from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from otelbridge.event import NANOSECONDS, Gap, GapCause
from otelbridge.feed import feed as feeds
from otelbridge.feed.feed import ABSENCES, Feed, Membership
from otelbridge.feed.settings import FeedSettings
from otelbridge.net.address import Address
from tests.buffers import OpenBuffer


def at(*ips: str) -> list[Address]:
    return [Address(host=ip, port=1) for ip in ips]


def test_new_addresses_are_added_once() -> None:
    membership = Membership()
    assert membership.changes(at("1.1.1.1", "2.2.2.2", "1.1.1.1")) == (at("1.1.1.1", "2.2.2.2"), [])
    assert membership.changes(at("2.2.2.2", "1.1.1.1")) == ([], [])
    assert membership.changes(at("2.2.2.2", "1.1.1.1", "3.3.3.3")) == (at("3.3.3.3"), [])


def test_an_address_is_removed_after_it_was_missing_several_times_in_a_row() -> None:
    membership = Membership()
    membership.changes(at("1.1.1.1", "2.2.2.2"))
    for _ in range(ABSENCES - 1):
        assert membership.changes(at("1.1.1.1")) == ([], [])
    assert membership.changes(at("1.1.1.1")) == ([], at("2.2.2.2"))
    assert membership.changes(at("1.1.1.1")) == ([], [])


def test_an_address_that_comes_back_in_time_stays() -> None:
    membership = Membership()
    membership.changes(at("1.1.1.1", "2.2.2.2"))
    for _ in range(5):
        assert membership.changes(at("1.1.1.1")) == ([], [])
        assert membership.changes(at("1.1.1.1", "2.2.2.2")) == ([], [])


def test_a_node_that_two_upstreams_bring_was_last_seen_when_the_later_of_them_brought_it() -> None:
    feed = Feed(
        FeedSettings(),
        buffer=OpenBuffer(1_000, 1_000_000),
        tell=lambda _: None,
        record_gap=lambda _: None,
        version="9.9",
    )
    feed.heard("a:1", {"node": 5})
    feed.heard("b:1", {"node": 3})
    assert feed.nodes_last_seen() == {"node": 5}


def test_the_silences_of_an_upstreams_nodes_are_on_record_when_it_is_taken_away() -> None:
    gaps: list[Gap] = []
    feed = Feed(
        FeedSettings(),
        buffer=OpenBuffer(1_000, 1_000_000),
        tell=lambda _: None,
        record_gap=gaps.append,
        version="9.9",
    )
    (address,), now = at("1.1.1.1"), time.time_ns()
    taken_away: Any = SimpleNamespace(upstream="a:1", stop=lambda **_: None, join=lambda _: None)
    feed._subscriptions[address] = taken_away
    for seconds in range(120, 60, -1):
        feed.heard("a:1", {"node": now - seconds * NANOSECONDS})
    feed._remove(address)
    assert [(gap.cause, gap.node) for gap in gaps] == [(GapCause.NODE_SILENT, "node")]
    assert feed.nodes_last_seen() == {}


def test_what_nodes_were_last_heard_is_set_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(
        FeedSettings(),
        buffer=OpenBuffer(1_000, 1_000_000),
        tell=lambda _: None,
        record_gap=lambda _: None,
        version="9.9",
    )
    heard, hour, offset = time.time_ns(), 3600 * NANOSECONDS, feeds._clock_offset()
    feed.heard("relay:1", {"node": heard})
    monkeypatch.setattr(feeds, "_clock_offset", lambda: offset - hour)
    feed.look_at_nodes()
    assert abs(feed.nodes_last_seen()["node"] - (heard - hour)) < NANOSECONDS
    feed.heard("relay:1", {"node": heard + hour})
    assert feed.nodes_last_seen()["node"] <= time.time_ns(), "what came before it was set is no later than now"
