"""What a slow reader has not read is dropped by gRPC when its stream ends: it comes otherwise, or lies in a gap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from h2.errors import ErrorCodes

from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, RawEvent
from otelbridge.feed import feed
from otelbridge.feed.buffer import BufferWriter
from otelbridge.telemetry.events import ConnectionEnded
from tests.integration.feed.running import Running, running, settings_for
from tests.integration.feed.test_odd_servers import LOGS, reset, silently_missed, watched
from tests.peers.policing_connection import Policing, due
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

POLICING = Policing(data_every_seconds=0.05, number_bytes=900)
"""As the oracle expects it."""
QUICK = {"interval_seconds": 0.5, "timeout_seconds": 1}
LAG_EVENTS = 40
"""Two seconds."""


class Slowness:
    """Holds readers up at each event: those of the first connection."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.writers: list[BufferWriter] = []
        self._over = threading.Event()
        self._offer = BufferWriter.offer

    def offer(self, writer: BufferWriter, event: RawEvent) -> bool:
        if writer not in self.writers and len(self.writers) < len(UPSTREAM_STREAMS):
            self.writers.append(writer)
        if writer in self.writers:
            began = time.monotonic()
            while time.monotonic() - began < self.seconds:
                self._over.wait(0.01)
        return self._offer(writer, event)

    def end(self) -> None:
        self.seconds = 0.0
        self._over.set()


@pytest.fixture
def slowness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slowness]:
    slowness = Slowness()

    def offer(writer: BufferWriter, event: RawEvent) -> bool:
        return slowness.offer(writer, event)

    monkeypatch.setattr(BufferWriter, "offer", offer)
    yield slowness
    slowness.end()


def number_now() -> int:
    return due(POLICING, time.time_ns())


def lagging(run: Running, slowness: Slowness) -> int:
    """Waits until readers lag by two seconds; the number of an event that had come before."""
    first = watched(run)
    slowness.seconds = 10.0
    began = number_now()
    eventually(lambda: number_now() >= began + LAG_EVENTS)
    return first


@pytest.mark.parametrize("each_seconds", [0.02, 0.5], ids=["in time", "too late"])
def test_a_connection_that_is_replaced_is_read_to_the_end_or_what_is_not_is_on_record(
    slowness: Slowness, each_seconds: float
) -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        first = lagging(run, slowness)
        slowness.seconds = 2.0
        relay.go_away(grace_seconds=60)
        eventually(lambda: len(relay.seen("connected")) >= 2 and len(run.status.connection_id) > 0)
        slowness.seconds = each_seconds
        eventually(lambda: run.of(ConnectionEnded), within_seconds=30)
        assert run.of(ConnectionEnded)[0].planned
        last = watched(run)
        assert silently_missed(run, first, last) == {}
        assert bool(run.suspected()) == (each_seconds > 0.1)


def drop(relay: PolicingRelay) -> None:
    relay.drop()


def go_away_at_once(relay: PolicingRelay) -> None:
    relay.go_away()


def reset_one(relay: PolicingRelay) -> None:
    relay.do(reset(ErrorCodes.NO_ERROR, LOGS))


@pytest.mark.parametrize("manner", [drop, go_away_at_once, reset_one])
def test_what_was_not_read_when_a_stream_ended_lies_in_its_gap(
    slowness: Slowness, manner: Callable[[PolicingRelay], None]
) -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        first = lagging(run, slowness)
        manner(relay)
        ended = number_now()
        eventually(lambda: number_now() >= ended + 5, why="gRPC has noticed")
        slowness.end()
        eventually(run.gaps, why="it is lost")
        last = watched(run)
        eventually(lambda: silently_missed(run, first, last) == {}, why="silently missed")


def test_a_stream_was_seen_up_to_what_is_read_and_on_disk(slowness: Slowness) -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        lagging(run, slowness)
        unread = time.time_ns() - NANOSECONDS
        assert max(run.feed.watched_until().values()) < unread
        slowness.end()
        eventually(lambda: run.events(0) and min(run.feed.watched_until().values()) > unread)


def test_a_stream_was_seen_up_to_what_waits_for_the_encoder() -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        watched(run)
        eventually(lambda: run.buffer.waiting_events)
        oldest = time.time_ns()
        eventually(lambda: run.buffer.waiting_events > LAG_EVENTS)
        assert max(run.feed.watched_until().values()) <= oldest


def test_what_was_not_read_of_an_upstream_that_is_no_more_lies_in_a_gap(
    slowness: Slowness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RESOLVE_PAUSE_SECONDS", 0.2)
    addresses = ["127.0.0.1"]
    with PolicingRelay(POLICING) as relay:
        settings = settings_for(f"relay:{relay.endpoint.rpartition(':')[2]}", resolve="all", heartbeat=QUICK)
        with running(settings, resolve=lambda *_: tuple(addresses)) as run:
            eventually(run.feed.subscriptions)
            first = lagging(run, slowness)
            last = number_now() - 1
            addresses[:] = ["127.0.0.2"]
            eventually(lambda: [one.upstream for one in run.feed.subscriptions()] != [relay.endpoint])
            slowness.end()
            eventually(lambda: len(run.suspected()) >= len(UPSTREAM_STREAMS))
            assert silently_missed(run, first, last) == {}
