from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from otelbridge.event import LOG_SERVICE, NANOSECONDS, STREAMS, UPSTREAM_STREAMS, GapCause, Stream
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Ending, HealthAnswer, Manners, Relay
from otelbridge.telemetry.events import ConnectionEnded, Event, HealthChecksUseless, HeartbeatAnswered, HeartbeatMissed
from tests.integration.feed.running import running, settings_for
from tests.waiting import eventually

QUICK = {"interval_seconds": 0.3, "timeout_seconds": 0.3}


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as relay:
        yield relay


def test_an_upstream_that_hangs_is_noticed_and_the_channel_closed_by_us(relay: Relay) -> None:
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        relay.publish(Stream.ALERTS, b"x")
        seen = run.events(1)[0].received_unix_nano
        first = run.status.connection_id
        relay.freeze()
        frozen = time.time_ns()
        run.until_lost()
        assert time.time_ns() - frozen < 3 * NANOSECONDS
        eventually(lambda: run.of(ConnectionEnded))
        (ended,) = run.of(ConnectionEnded)
        assert ended.connection_id == first
        assert "closed by us" in ended.detail
        assert run.of(HeartbeatMissed)[0].misses == 1
        assert run.states()[:4] == ["connecting", "watching", "suspect", "waiting"]
        relay.thaw()
        run.until_watching()
        run.until_gaps(3)
        gap = run.gaps(Stream.ALERTS)[0]
        assert {gap.cause for gap in run.suspected()} == {GapCause.STALL}, "its nodes may be away a little longer"
        assert gap.cause is GapCause.HEARTBEAT_LOSS
        assert seen - IN_FLIGHT_NANOS <= gap.started_unix_nano <= frozen + NANOSECONDS // 2


def test_a_life_that_begins_while_the_relay_stands_still_knows_that_its_nodes_may_be_away(relay: Relay) -> None:
    relay.freeze()
    last = {(relay.endpoint, stream): time.time_ns() - 3 * NANOSECONDS for stream in Stream}
    with running(settings_for(relay.endpoint, heartbeat=QUICK), watched_until=last) as run:
        run.until_lost()
        relay.thaw()
        run.until_watching()
        eventually(run.suspected)
        assert {gap.cause for gap in run.suspected()} == {GapCause.STALL}


def test_a_relay_that_sends_events_but_answers_no_health_check_is_suspected_before_it_is_given_up(
    relay: Relay,
) -> None:
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()

        def get_well_at_the_first_miss(event: Event) -> None:
            if isinstance(event, HeartbeatMissed):
                relay.manners = Manners()

        run.react = get_well_at_the_first_miss
        relay.manners = Manners(health=HealthAnswer.HANG)
        deadline = time.monotonic() + 10
        while len(run.states()) < 4 and time.monotonic() < deadline:
            relay.publish(Stream.LOGS, b"alive")
            run.buffer.take(100, 0.02)
        assert run.states() == ["connecting", "watching", "suspect", "watching"]
        assert run.of(ConnectionEnded) == []


@pytest.mark.parametrize("health", [HealthAnswer.HANG, Ending(code=grpc.StatusCode.UNAVAILABLE)], ids=["hang", "fail"])
def test_whatever_becomes_of_health_checks_ends_nothing_while_events_come_and_is_said(
    relay: Relay, health: HealthAnswer | Ending
) -> None:
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        relay.manners = Manners(health=health)
        deadline = time.monotonic() + 10
        while len(run.of(HeartbeatMissed)) < 5 and time.monotonic() < deadline:
            relay.publish(Stream.LOGS, b"alive")
            run.buffer.take(100, 0.02)
        assert run.of(ConnectionEnded) == []
        assert [told.misses for told in run.of(HeartbeatMissed)] == [1, 2, 3, 4, 5]
        assert "health checks have failed while events came" in run.status.unchecked
        assert len(run.of(HealthChecksUseless)) == 1
        run.until_lost()  # as no events come any more
        assert "closed by us" in run.of(ConnectionEnded)[0].detail


def test_what_is_not_answered_is_forgotten_once_it_is(relay: Relay) -> None:
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        relay.manners = Manners(health=HealthAnswer.HANG)
        deadline = time.monotonic() + 10
        while not run.status.unchecked and time.monotonic() < deadline:
            relay.publish(Stream.LOGS, b"alive")
            run.buffer.take(100, 0.02)
        relay.manners = Manners()
        run.until_watching()
        eventually(lambda: not run.status.unchecked)
        assert run.of(ConnectionEnded) == []


def test_an_answer_with_another_number_is_no_answer(relay: Relay) -> None:
    relay.manners = Manners(health=HealthAnswer.WRONG_NONCE)
    with running(settings_for(relay.endpoint)) as run:
        run.until_lost()
        assert "is it KubeArmor?" in run.status.last_error


@pytest.mark.parametrize(("standard", "method"), [(True, "grpc.health.v1"), (False, "keepalive")])
def test_without_the_nonce_check_the_next_best_is_used_and_remembered(
    relay: Relay, standard: bool, method: str
) -> None:
    relay.manners = Manners(health=Ending(code=grpc.StatusCode.UNIMPLEMENTED), standard_health=standard)
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        eventually(lambda: len(run.of(HeartbeatAnswered)) >= 4)
        assert {told.method for told in run.of(HeartbeatAnswered)[2:]} == {method}
        assert run.status.heartbeat_method == method
        with_calls = len(relay.calls)
        relay.kill()
        run.until_lost()
        relay.start()
        run.until_watching()
        assert relay.calls[with_calls].method == ("Check" if standard else "HealthCheck")
        assert run.of(ConnectionEnded)[0].status_code == "UNAVAILABLE"


def test_a_server_that_learns_the_nonce_check_is_asked_that_way_again(relay: Relay) -> None:
    relay.manners = Manners(health=Ending(code=grpc.StatusCode.UNIMPLEMENTED))
    with running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        eventually(lambda: run.status.heartbeat_method == "keepalive")
        relay.manners = Manners()
        eventually(lambda: run.status.heartbeat_method == "nonce")


def test_a_network_that_swallows_everything_is_noticed_by_the_heartbeat(relay: Relay) -> None:
    with TcpProxy(relay.endpoint) as proxy, running(settings_for(proxy.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        for stream in UPSTREAM_STREAMS:
            relay.publish(stream, b"x")
        run.events(3)
        proxy.swallow()
        cut = time.time_ns()
        run.until_lost()
        noticed = time.time_ns()
        assert noticed - cut < 3 * NANOSECONDS
        proxy.open()
        opened = time.time_ns()
        run.until_gaps(3)
        for gap in run.gaps():
            assert gap.cause is GapCause.HEARTBEAT_LOSS
            assert abs(gap.started_unix_nano - cut) < NANOSECONDS
            assert gap.ended_unix_nano - opened < 3 * NANOSECONDS


@pytest.mark.parametrize("standard", [False, True])
def test_an_answer_without_a_message_is_no_answer_and_hangs_nothing(standard: bool) -> None:
    over = threading.Event()
    nothing = grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter(()))
    quiet = grpc.unary_stream_rpc_method_handler(lambda _request, _context: (b"" for _ in [over.wait()] if False))
    watches = {facts.method: quiet for facts in STREAMS.values() if facts.method}
    health = {} if standard else {"HealthCheck": nothing}  # where there is none, the standard one is asked
    services = {LOG_SERVICE: {**watches, **health}, "grpc.health.v1.Health": {"Check": nothing}}
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with running(settings_for(f"127.0.0.1:{port}")) as run:
            run.until_lost()
            assert "without a message" in run.status.last_error
    finally:
        over.set()
        server.stop(0).wait()


def test_a_stall_is_recorded_though_nothing_was_ever_heard_before(relay: Relay) -> None:
    with TcpProxy(relay.endpoint) as proxy, running(settings_for(proxy.endpoint)) as run:
        first = run.until_watching().connection_id
        proxy.hold()
        held = time.time_ns()
        eventually(lambda: time.time_ns() - held > 6 * NANOSECONDS, why="a stall between two of the usual checks")
        relay.publish(Stream.ALERTS, b"it begins while the relay stands still")
        proxy.open()
        opened = time.time_ns()
        eventually(lambda: len(run.suspected()) == 3, why="one record a stream")
        for gap in run.suspected():
            assert gap.cause is GapCause.STALL
            assert gap.started_unix_nano <= held
            assert opened <= gap.ended_unix_nano
        assert run.status.connection_id == first


def test_a_stall_is_recorded_though_the_check_that_was_sent_at_its_end_is_answered_first(relay: Relay) -> None:
    usual = {"interval_seconds": 5, "timeout_seconds": 5}
    with running(settings_for(relay.endpoint, heartbeat=usual)) as run:
        began = time.time_ns()
        run.until_watching()
        relay.manners = Manners(health=HealthAnswer.HANG)
        asked = len(relay.calls)
        eventually(lambda: len(relay.calls) > asked, why="the silence is asked about")
        relay.manners = Manners()
        eventually(lambda: len(run.suspected()) == 3, why="one record a stream")
        assert {gap.cause for gap in run.suspected()} == {GapCause.STALL}
        assert run.suspected()[0].started_unix_nano - began < NANOSECONDS
        assert run.of(ConnectionEnded) == []
