from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import grpc
import pytest

from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, GapCause, Stream
from otelbridge.feed import gap_tracker, monitor, subscription
from otelbridge.feed.model import StreamState, SubscriptionState
from otelbridge.feed.status_codes import ErrorClass, classify
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Ending, Manners, Relay
from otelbridge.telemetry.events import (
    ConnectionAttempted,
    ConnectionEnded,
    LossDetected,
    RetryScheduled,
    StreamLost,
    UpstreamRecovered,
)
from otelbridge.telemetry.supervisor import Pulse
from tests.integration.feed.running import Running, running, settings_for
from tests.waiting import eventually


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as relay:
        yield relay


@pytest.mark.parametrize("single_threaded", [True, False])
def test_events_of_all_streams_arrive_as_the_bytes_that_were_sent(relay: Relay, single_threaded: bool) -> None:
    with running(settings_for(relay.endpoint, single_threaded_streams=single_threaded)) as run:
        relay.wait_for_subscribers()
        for stream in UPSTREAM_STREAMS:
            relay.publish(stream, b"\xff not a message " + stream.encode())
        relay.publish(Stream.LOGS, b"")
        events = run.events(4)
        assert {(event.stream, event.body) for event in events} == {
            *((stream, b"\xff not a message " + stream.encode()) for stream in UPSTREAM_STREAMS),
            (Stream.LOGS, b""),
        }
        assert {event.upstream for event in events} == {relay.endpoint}
        assert run.stream(Stream.LOGS).events == 2
        assert "otelbridge/9.9" in relay.calls[0].user_agent


def test_a_quiet_upstream_is_watched_though_it_sends_nothing(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        run.until_watching()
        assert run.gaps() == []
        eventually(lambda: run.status.unheard_since_unix_nano is not None, why="nothing has come, and that is said")
        relay.publish(Stream.LOGS, b"one")
        eventually(lambda: run.status.unheard_since_unix_nano is None)
        assert [told.status_code for told in run.of(ConnectionAttempted)] == ["OK"]
        assert [step.name for step in run.of(ConnectionAttempted)[0].steps] == ["health", "subscribe"]


def test_an_upstream_that_is_not_there_yet_is_tried_until_it_is() -> None:
    relay = Relay().start()
    relay.stop()
    with running(settings_for(relay.endpoint)) as run:
        eventually(lambda: len(run.of(ConnectionAttempted)) >= 4)
        # From the third UNAVAILABLE on, the way is walked by hand, and the step that fails is named.
        eventually(lambda: run.status.last_error.startswith("connect: "))
        relay.start()
        run.until_watching()
        assert run.status.last_error == ""
        gap_tracker = run.until_gaps(3)
        assert {gap.stream for gap in gap_tracker} == set(UPSTREAM_STREAMS)
        assert all(gap.attempts >= 4 for gap in gap_tracker)
        relay.stop()


def test_a_lost_connection_is_made_again_and_the_gap_between_is_recorded(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        relay.wait_for_subscribers()
        for number in range(10):
            relay.publish(Stream.ALERTS, b"%d" % number)
        run.events(10)
        eventually(lambda: run.stream(Stream.ALERTS).events_per_second is not None)
        lost = time.time_ns()
        relay.kill()
        run.until_lost()
        assert run.status.blind_since_unix_nano is not None
        assert run.status.blind_since_unix_nano <= time.time_ns()
        relay.start()
        run.until_watching()
        back = time.time_ns()
        relay.publish(Stream.ALERTS, b"again")
        assert run.events(11)[-1].body == b"again"
        eventually(lambda: run.gaps(Stream.ALERTS))
        (gap,) = run.gaps(Stream.ALERTS)
        assert gap.cause is GapCause.DISCONNECT
        assert gap.started_unix_nano <= lost + NANOSECONDS
        assert lost < gap.ended_unix_nano <= back
        assert gap.attempts >= 1
        assert gap.estimated_records is not None
        assert [told.attempt for told in run.of(ConnectionAttempted)][:2] == [1, 2]
        (noticed,), (recovered,) = run.of(LossDetected), run.of(UpstreamRecovered)
        assert 0 <= noticed.seconds < 5
        assert 0 < recovered.seconds < 10
        assert [change.state for change in run.status.timeline] == ["connecting", "watching", *run.states()[2:]]
        (ended,) = run.of(ConnectionEnded)
        assert ended.status_code == "UNAVAILABLE"
        assert ended.events["alerts"] == 10
        assert not ended.planned


def test_a_clock_that_is_set_back_before_a_loss_makes_the_loss_no_longer(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_for(relay.endpoint)) as run:
        run.until_watching()
        an_hour_ago = SimpleNamespace(monotonic=time.monotonic, time_ns=lambda: time.time_ns() - 3600 * NANOSECONDS)
        monkeypatch.setattr(subscription, "time", an_hour_ago)
        relay.kill()
        run.until_lost()
        assert [told.seconds for told in run.of(LossDetected)] == [0]


def test_a_planned_restart_of_the_relay_is_ridden_out(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        for round_number in range(3):
            relay.wait_for_subscribers()
            relay.publish(Stream.LOGS, b"%d" % round_number)
            run.events(round_number + 1)
            relay.stop(0.2)
            eventually(lambda: len(run.of(ConnectionEnded)) > round_number)  # noqa: B023 called at once
            relay.start()
        relay.wait_for_subscribers()
        relay.publish(Stream.LOGS, b"3")
        assert [event.body for event in run.events(4)] == [b"0", b"1", b"2", b"3"]
        eventually(lambda: len(run.gaps(Stream.LOGS)) == 3)


def test_a_connection_reset_by_the_network_is_made_again(relay: Relay) -> None:
    with TcpProxy(relay.endpoint) as proxy, running(settings_for(proxy.endpoint)) as run:
        run.until_watching()
        before = run.status.connection_id
        proxy.cut()
        run.until_watching_anew(before)
        relay.publish(Stream.ALERTS, b"x")
        run.events(1)


def test_the_end_comes_at_once_and_leaves_nothing_behind(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        run.until_watching()
        started = time.monotonic()
        run.feed.stop_reading()
        assert time.monotonic() - started < 2
        relay.wait_for_subscribers(0)
        assert run.states()[-2:] == ["draining", "closed"]
        assert run.status.blind_since_unix_nano is not None
        assert run.of(ConnectionEnded)[-1].planned


def test_the_end_does_not_wait_for_a_ladder() -> None:
    with running(settings_for("127.0.0.1:1", retry={"initial_seconds": 60, "max_seconds": 60})) as run:
        run.until(SubscriptionState.WAITING)
        assert run.status.next_attempt_in_seconds is not None
        assert 25 < run.status.next_attempt_in_seconds <= 60
        started = time.monotonic()
        run.feed.stop_reading()
        assert time.monotonic() - started < 2


STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
# One stream stands for the three every day; `make torture` ends each of them.
ENDING_STREAMS = [
    Stream.MESSAGES,
    pytest.param(Stream.ALERTS, marks=pytest.mark.torture),
    pytest.param(Stream.LOGS, marks=pytest.mark.torture),
]


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
@pytest.mark.parametrize("moment", ["before headers", "mid-stream"])
@pytest.mark.parametrize("ending_stream", ENDING_STREAMS)
def test_a_stream_that_ends_alone_leaves_the_others_untouched(
    relay: Relay, code: grpc.StatusCode, moment: str, ending_stream: Stream
) -> None:
    others = [stream for stream in UPSTREAM_STREAMS if stream is not ending_stream]
    ending = Ending(code=code, details="for the test")
    if moment == "before headers":
        relay.manners = Manners(openings={ending_stream: ending})
    with running(settings_for(relay.endpoint)) as run:
        relay.wait_for_subscribers(streams=others)
        if moment == "mid-stream":
            relay.wait_for_subscribers()
            relay.publish(ending_stream, b"one")
            run.events(1)
            relay.manners = Manners(openings={ending_stream: ending})
            relay.end_streams(code, "for the test", [ending_stream])
        slow = classify(code, "").error_class is ErrorClass.PERMANENT
        expected = StreamState.HOLDING if slow else StreamState.WAITING
        eventually(lambda: run.stream(ending_stream).state is expected)
        for stream in others:
            relay.publish(stream, stream.encode())
        assert {stream.encode() for stream in others} <= {
            event.body for event in run.events(3 if moment == "mid-stream" else 2)
        }
        lost = run.of(StreamLost)
        assert {told.stream for told in lost} == {ending_stream}
        assert {told.status_code for told in lost} == {code.name}
        assert {told.error_class for told in lost} == {classify(code, "").error_class.value}
        assert run.status.attempts == 1, "the connection goes on"
        assert run.stream(ending_stream).ends[code.name] >= 1
        eventually(lambda: code.name in run.stream(ending_stream).error, why="but while it is being tried again")
        if not slow:
            relay.manners = Manners()
            relay.wait_for_subscribers()
            assert run.status.attempts == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED])
def test_when_no_stream_can_be_had_the_whole_subscription_holds(relay: Relay, code: grpc.StatusCode) -> None:
    relay.manners = Manners(openings=dict.fromkeys(UPSTREAM_STREAMS, Ending(code=code, details="no")))
    with running(settings_for(relay.endpoint)) as run:
        status = run.until(SubscriptionState.HOLDING)
        assert status.error_class == "permanent"
        assert code.name in status.last_error
        assert status.next_attempt_in_seconds is not None
        assert status.next_attempt_in_seconds > 10


def test_streams_that_end_together_for_different_reasons_are_told_with_their_own(relay: Relay) -> None:
    codes = {
        Stream.ALERTS: grpc.StatusCode.PERMISSION_DENIED,
        Stream.LOGS: grpc.StatusCode.UNAVAILABLE,
        Stream.MESSAGES: grpc.StatusCode.UNIMPLEMENTED,
    }
    relay.manners = Manners(openings={stream: Ending(code=code, details="no") for stream, code in codes.items()})
    with running(settings_for(relay.endpoint)) as run:
        eventually(lambda: {told.stream for told in run.of(StreamLost)} == set(codes))
        assert {(told.stream, told.error_class) for told in run.of(StreamLost)} == {
            (stream, classify(code, "no").error_class.value) for stream, code in codes.items()
        }


def test_a_stream_that_the_server_does_not_have_is_on_record_once(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_tracker, "GOES_ON_SECONDS", 0.5)
    missing = Ending(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown method")
    relay.manners = Manners(openings={Stream.MESSAGES: missing})
    with running(settings_for(relay.endpoint)) as run:
        (gap,) = run.until_gaps(1)
        assert gap.stream is Stream.MESSAGES
        assert "UNIMPLEMENTED: unknown method" in gap.detail
        assert "goes on" in gap.detail
        relay.publish(Stream.ALERTS, b"meanwhile")
        run.events(1)
        assert run.stream(Stream.MESSAGES).blind_since_unix_nano == gap.started_unix_nano
        assert run.gaps() == [gap]


def test_a_long_outage_is_on_record_before_it_is_over(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_tracker, "GOES_ON_SECONDS", 0.5)
    with running(settings_for(relay.endpoint, streams=["alerts"])) as run:
        relay.wait_for_subscribers(streams=[Stream.ALERTS])
        relay.publish(Stream.ALERTS, b"x")
        run.events(1)
        relay.kill()
        (first,) = run.until_gaps(1)
        assert run.status.blind_since_unix_nano == first.started_unix_nano
        relay.start()
        _, rest = run.until_gaps(2)
        assert rest.started_unix_nano == first.ended_unix_nano
        assert rest.ended_unix_nano > rest.started_unix_nano


def test_a_server_that_ends_every_stream_at_once_is_tried_by_the_ladder_and_found_to_refuse_our_filter(
    relay: Relay,
) -> None:
    relay.manners = Manners(openings=dict.fromkeys(UPSTREAM_STREAMS, Ending()))
    with running(settings_for(relay.endpoint)) as run:
        status = run.until(SubscriptionState.HOLDING)
        assert status.attempts == 3
        assert "refuses our filter" in status.last_error
        assert [told.error_class for told in run.of(RetryScheduled)] == ["ended", "ended", "permanent"]
        assert run.gaps() == [], "never watched for long enough to end a gap"


def test_a_poison_event_is_answered_within_a_second_also_high_on_the_ladder(relay: Relay) -> None:
    with running(settings_for(relay.endpoint, retry={"initial_seconds": 20, "max_seconds": 30})) as run:
        relay.wait_for_subscribers()
        for number in range(1, 4):
            relay.publish(Stream.LOGS, b"good")
            run.events(number)
            relay.end_streams(grpc.StatusCode.INTERNAL, "string field contains invalid UTF-8", [Stream.LOGS])
            eventually(lambda: relay.subscribers(Stream.LOGS) == 0, within_seconds=2)
            relay.wait_for_subscribers(within_seconds=1.5)
        eventually(lambda: len(run.gaps(Stream.LOGS)) >= 2)
        assert {gap.attempts for gap in run.gaps(Stream.LOGS)} == {1}
        assert run.gaps(Stream.ALERTS) == []


def test_an_event_larger_than_we_take_is_counted_and_the_stream_is_opened_again(relay: Relay) -> None:
    limit = 4 * 1024 * 1024
    with running(settings_for(relay.endpoint, max_message_bytes=limit)) as run:
        relay.wait_for_subscribers()
        relay.publish(Stream.ALERTS, b"." * limit)
        run.events(1)
        relay.publish(Stream.ALERTS, b"." * (limit + 1))
        eventually(lambda: run.stream(Stream.ALERTS).oversized == 1)
        eventually(lambda: run.stream(Stream.ALERTS).state is StreamState.WATCHING, within_seconds=2)
        relay.publish(Stream.ALERTS, b"next")
        assert run.events(2)[-1].body == b"next"
        assert run.status.attempts == 1


def test_what_an_earlier_life_last_watched_starts_the_first_gap(relay: Relay) -> None:
    last = time.time_ns() - 90 * NANOSECONDS
    with running(settings_for(relay.endpoint), watched_until={(relay.endpoint, Stream.ALERTS): last}) as run:
        relay.wait_for_subscribers()
        relay.publish(Stream.ALERTS, b"x")
        (gap,) = run.until_gaps(1)
        assert (gap.stream, gap.cause, gap.started_unix_nano) == (Stream.ALERTS, GapCause.RESTART, last)


def test_a_stream_was_seen_up_to_the_last_sign_of_life_where_the_bridge_ends_before_a_stall_does(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        eventually(run.feed.watched_until, why="it is watched")
        relay.freeze()
        frozen = time.time_ns()
        eventually(lambda: time.time_ns() - frozen > NANOSECONDS, why="it stands still for a while")
        assert frozen - 5 * NANOSECONDS < max(run.feed.watched_until().values()) <= frozen


def test_a_stream_that_is_not_asked_for_is_not_subscribed_to(relay: Relay) -> None:
    with running(settings_for(relay.endpoint, streams=["alerts"])) as run:
        run.until_watching()
        assert {call.method for call in relay.calls} == {"HealthCheck", "WatchAlerts"}
        assert set(run.status.streams) == {Stream.ALERTS}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_bridge_is_back_as_soon_as_the_port_answers_and_not_when_its_wait_is_over(relay: Relay, host: str) -> None:
    settings = settings_for(relay.endpoint.replace("127.0.0.1", host), retry={"initial_seconds": 20, "max_seconds": 30})
    with running(settings, resolve=lambda *_: ("::1", "127.0.0.1")) as run:  # the relay has one of the two
        run.until_watching()
        relay.kill()
        wait = eventually(lambda: run.status.next_attempt_in_seconds or 0.0)
        assert wait > 9
        # Somebody has to have found the port shut: only then is it news that it answers.
        eventually(lambda: (run.status.next_attempt_in_seconds or 0) < wait - 2)
        started = time.monotonic()
        relay.start()
        run.until_watching()
        assert time.monotonic() - started < 4


def test_a_server_that_closes_a_young_connection_is_not_come_back_to_because_its_port_answers(relay: Relay) -> None:
    with running(settings_for(relay.endpoint, retry={"initial_seconds": 4, "max_seconds": 4})) as run:
        run.until_watching()
        relay.end_streams(grpc.StatusCode.UNAVAILABLE)
        eventually(lambda: len(run.of(ConnectionAttempted)) == 2)
        waited = run.of(ConnectionAttempted)[1].started_unix_nano - run.of(ConnectionEnded)[0].ended_unix_nano
        assert waited / NANOSECONDS >= run.of(RetryScheduled)[0].delay_seconds >= 2


def readers(run: Running) -> list[Pulse]:
    return [pulse for pulse in run.feed.pulses() if pulse.name.startswith("read ")]


def test_of_streams_that_end_together_the_gentlest_end_decides(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SETTLE_SECONDS", 2.0)  # together, however busy the machine is
    with running(settings_for(relay.endpoint)) as run:
        before = run.until_watching().connection_id
        relay.end_streams(grpc.StatusCode.UNAVAILABLE, streams=[Stream.ALERTS])
        eventually(lambda: len(readers(run)) == 2, why="it has come")
        relay.end_streams(grpc.StatusCode.PERMISSION_DENIED, streams=[Stream.LOGS, Stream.MESSAGES])
        run.until_watching_anew(before)
        assert run.states() == ["connecting", "watching", "waiting", "connecting", "watching"]


def test_a_reader_that_waits_for_an_event_is_not_taken_for_one_that_stands_still(relay: Relay) -> None:
    with running(settings_for(relay.endpoint)) as run:
        run.until_watching()
        assert [pulse.age_seconds() for pulse in readers(run)] == [0.0] * 3


def test_no_other_road_makes_up_for_a_pause_of_the_bridge_itself(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    with Relay() as other, running(settings_for(relay.endpoint, other.endpoint, roads=True)) as run:
        eventually(lambda: all(one.blind_since_unix_nano is None for one in run.feed.subscriptions()))
        monkeypatch.setattr(monitor, "OWN_PAUSE_SECONDS", 0.5)  # of timers of a second
        eventually(lambda: len(run.suspected()) >= 6)
        assert {(gap.cause, gap.covered_by) for gap in run.suspected()} == {(GapCause.PAUSE, "")}
