"""An upstream that allows few calls at a time on a connection, by SETTINGS_MAX_CONCURRENT_STREAMS."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from otelbridge.cli.examination import Mark, examine_kubearmor
from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, GapCause
from otelbridge.feed import monitor
from otelbridge.feed.model import StreamState, SubscriptionState
from otelbridge.feed.settings import FeedSettings
from otelbridge.telemetry.events import (
    ConnectionEnded,
    HealthChecksUseless,
    HeartbeatAnswered,
    HeartbeatMissed,
    StreamLost,
)
from tests.integration.feed.running import Running, running, settings_for
from tests.peers.policing_connection import Policing, ending
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

QUICK = {"interval_seconds": 0.3, "timeout_seconds": 0.3}
ROUNDS = 5
"""Health checks that might have ended the connection."""
LIMITS = range(1, 7)
UNAVAILABLE = b"14"
NUMBER = len(UPSTREAM_STREAMS)


def relay(limit: int, *, events: bool) -> PolicingRelay:
    return PolicingRelay(
        Policing(max_concurrent_streams=limit, data_every_seconds=0.02 if events else None, event=b"event")
    )


def until_settled(run: Running, limit: int) -> None:
    """As many streams as there is room for are watched, the others held."""
    expected = [StreamState.WATCHING] * min(limit, NUMBER) + [StreamState.HOLDING] * max(0, NUMBER - limit)
    eventually(
        lambda: [run.stream(stream).state for stream in UPSTREAM_STREAMS] == expected,
        why=f"{expected}, not {run.status}",
    )


@pytest.mark.parametrize("events", [False, True], ids=["quiet", "with events"])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_connection_with_few_streams_is_kept_and_what_has_none_is_not_watched(limit: int, events: bool) -> None:
    with relay(limit, events=events) as upstream, running(settings_for(upstream.endpoint, heartbeat=QUICK)) as run:
        until_settled(run, limit)
        began, connection = time.monotonic(), run.status.connection_id
        eventually(lambda: time.monotonic() - began > ROUNDS * QUICK["interval_seconds"])
        until_settled(run, limit)
        assert run.status.state is SubscriptionState.WATCHING
        assert run.status.connection_id == connection
        assert [*run.of(ConnectionEnded), *run.of(HeartbeatMissed)] == []
        assert len(upstream.seen("connected")) == 1
        for stream in UPSTREAM_STREAMS[:limit]:
            eventually(lambda: run.stream(stream).watched, why="two seconds prove it")  # noqa: B023
            assert bool(run.stream(stream).events) is events
        for stream in UPSTREAM_STREAMS[limit:]:
            assert not run.stream(stream).watched
            assert "SETTINGS_MAX_CONCURRENT_STREAMS" in run.stream(stream).error
        assert sorted(told.stream for told in run.of(StreamLost)) == sorted(UPSTREAM_STREAMS[limit:])
        assert ("SETTINGS_MAX_CONCURRENT_STREAMS" in run.status.unchecked) is (limit <= NUMBER)
        assert (len(run.of(HeartbeatAnswered)) >= ROUNDS / 2) is (limit > NUMBER)


@pytest.mark.parametrize("events", [False, True], ids=["quiet", "with events"])
@pytest.mark.parametrize("limit", [1, NUMBER, NUMBER + 1])
def test_a_frozen_peer_is_noticed_whatever_room_there_is(limit: int, events: bool) -> None:
    keepalive = replace(FeedSettings().keepalive, time_seconds=1, timeout_seconds=0.5)  # less than can be set
    with (
        relay(limit, events=events) as upstream,
        running(replace(settings_for(upstream.endpoint, heartbeat=QUICK), keepalive=keepalive)) as run,
    ):
        until_settled(run, limit)
        if events:
            run.events(10)
        upstream.freeze()
        frozen = time.time_ns()
        run.until_lost()
        assert time.time_ns() - frozen < 4 * NANOSECONDS
        before = run.of(ConnectionEnded)[0].connection_id
        upstream.thaw()
        eventually(lambda: run.status.connection_id not in {"", before})
        for stream in UPSTREAM_STREAMS[:limit]:
            eventually(lambda: run.gaps(stream))  # noqa: B023 called at once
            (gap,) = run.gaps(stream)
            assert gap.cause is GapCause.HEARTBEAT_LOSS
            assert gap.started_unix_nano <= frozen


def test_the_only_room_is_for_the_health_check_that_decides_and_not_for_one_that_was_sent_ahead_of_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "PROBE_SECONDS", 0.5)
    heartbeat = {"interval_seconds": 3, "timeout_seconds": 0.5}
    with (
        relay(NUMBER + 1, events=False) as upstream,
        running(settings_for(upstream.endpoint, heartbeat=heartbeat)) as run,
    ):
        until_settled(run, NUMBER)
        upstream.freeze()
        run.until_lost()
        assert run.of(HealthChecksUseless) == []
        assert "1 health check(s)" in run.of(ConnectionEnded)[0].detail


@pytest.mark.parametrize("limit", [2, NUMBER, NUMBER + 1])
def test_a_stream_that_ended_gets_its_room_back_before_anybody_else(limit: int) -> None:
    with relay(limit, events=False) as upstream, running(settings_for(upstream.endpoint, heartbeat=QUICK)) as run:
        until_settled(run, limit)
        for round_number in range(1, 4):
            upstream.do(ending("WatchAlerts", UNAVAILABLE))
            eventually(lambda: sum(run.stream(UPSTREAM_STREAMS[0]).ends.values()) == round_number)  # noqa: B023
            until_settled(run, limit)
        assert run.of(ConnectionEnded) == []
        assert set(run.stream(UPSTREAM_STREAMS[0]).ends) == {"UNAVAILABLE"}


@pytest.mark.parametrize("limit", [0, 1, 3, 4])
def test_the_doctor_says_what_has_no_room_and_the_cure(limit: int) -> None:
    with relay(limit, events=False) as upstream:
        findings = examine_kubearmor(upstream.endpoint, settings_for(upstream.endpoint), event_seconds=0.2)
    said = [one for one in findings if "SETTINGS_MAX_CONCURRENT_STREAMS" in one.cure]
    expected = {0: "HealthCheck", 1: "no room for logs, messages", NUMBER: "health checks get no stream"}
    assert [one.mark for one in said] == [Mark.WARNING if limit == NUMBER else Mark.FAILED] * (limit in expected)
    assert all(expected[limit] in one.finding for one in said)
