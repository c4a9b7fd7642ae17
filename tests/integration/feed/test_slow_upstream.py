"""Upstreams, proxies and resolvers that take long for their first answer on each connection, and answer in the end."""

from __future__ import annotations

import time
from dataclasses import replace

from otelbridge.event import NANOSECONDS, GapCause
from otelbridge.feed.connector import LONGEST_PATIENCE_SECONDS, Patience
from otelbridge.feed.settings import FeedSettings
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.events import ConnectionAttempted
from tests.integration.feed.running import running, settings_for
from tests.peers.policing_connection import Policing
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

QUICK = {"interval_seconds": 0.3, "timeout_seconds": 0.3}
SILENT_SECONDS = 2.0


def slow(endpoint: str) -> FeedSettings:
    """Settings with a keepalive that ends a silence before the first answer comes: less than can be set."""
    keepalive = replace(FeedSettings().keepalive, time_seconds=1, timeout_seconds=0.5)
    return replace(settings_for(endpoint, heartbeat=QUICK), keepalive=keepalive)


def test_an_upstream_that_is_silent_at_first_is_waited_for_longer_each_time_and_the_next_time_at_once() -> None:
    with PolicingRelay(Policing(silent_seconds=SILENT_SECONDS)) as relay, running(slow(relay.endpoint)) as run:
        run.until_watching(within_seconds=20)
        attempts = run.of(ConnectionAttempted)
        assert 2 <= len(attempts) <= 5
        assert "no answer within" in attempts[0].error
        before, since = run.status.connection_id, len(attempts)
        relay.drop()
        run.until_watching_anew(before)
        assert len(run.of(ConnectionAttempted)) == since + 1, "what it takes is known now"


def test_one_that_answered_before_is_noticed_as_soon_as_ever_when_it_freezes() -> None:
    with PolicingRelay(Policing(silent_seconds=SILENT_SECONDS)) as relay, running(slow(relay.endpoint)) as run:
        run.until_watching(within_seconds=20)
        eventually(lambda: run.status.blind_since_unix_nano is None, why="the first gap is over")
        lost = run.states().count("waiting")
        relay.freeze()
        frozen = time.time_ns()
        run.until_lost(lost + 1)
        assert time.time_ns() - frozen < 1.5 * NANOSECONDS
        relay.policing = Policing()
        relay.thaw()
        run.until_watching()
        assert {gap.cause for gap in run.until_gaps(6)[3:]} == {GapCause.HEARTBEAT_LOSS}


def test_a_resolver_that_takes_long_each_time_is_waited_for() -> None:
    def resolve(_host: str, _port: int) -> tuple[str, ...]:
        time.sleep(SILENT_SECONDS)  # the fault
        return ("127.0.0.1",)

    with Relay() as relay:
        endpoint = relay.endpoint.replace("127.0.0.1", "localhost")
        with running(settings_for(endpoint, heartbeat=QUICK), resolve=resolve) as run:
            run.until_watching(within_seconds=20)
            assert "resolve localhost: no answer within 0.3 s" in run.of(ConnectionAttempted)[0].error


def test_patience_grows_with_silences_and_shrinks_to_what_is_needed() -> None:
    patience = Patience(5)
    waited = []
    for _ in range(5):
        waited.append(patience.seconds)
        patience.ran_out()
    assert waited == [5, 15, 45, LONGEST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS]
    patience.was_enough(20)
    assert patience.seconds == 40
    patience.was_enough(0.01)
    assert patience.seconds == 5
    longer = Patience(120)
    longer.ran_out()
    longer.was_enough(100)
    assert longer.seconds == 120, "never less than is set"
