"""The simulated relay over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import NODE, Ending, HealthAnswer, Manners, Relay
from tests.integration.simulator.watching import Watch, channel_to, health_check
from tests.waiting import eventually

MIB = 1024 * 1024
STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
SHORT_SECONDS = 0.3


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as relay:
        yield relay


@pytest.fixture
def channel(relay: Relay) -> Iterator[grpc.Channel]:
    with channel_to(relay.endpoint, ("grpc.max_receive_message_length", -1)) as channel:
        yield channel


@pytest.mark.parametrize("stream", UPSTREAM_STREAMS)
def test_what_is_published_reaches_the_stream_it_was_published_on(
    relay: Relay, channel: grpc.Channel, stream: Stream
) -> None:
    with Watch(channel, stream) as watch:
        relay.wait_for_subscribers(1, streams=[stream])
        relay.publish(stream, kubearmor_pb2.Alert(Source="one"))
        relay.publish(stream, b"two")

        eventually(lambda: len(watch.bodies) == 2)
    assert watch.bodies == [kubearmor_pb2.Alert(Source="one").SerializeToString(), b"two"]


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, b"\x8a\x01\x02\xff\xfe", bytes(16 * MIB + 1)])
def test_bytes_arrive_as_they_are_whatever_they_are(relay: Relay, channel: grpc.Channel, body: bytes) -> None:
    with Watch(channel) as watch:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])
        relay.publish(Stream.ALERTS, body)

        assert eventually(lambda: watch.bodies) == [body]


def test_each_of_several_clients_gets_every_event(relay: Relay) -> None:
    with (
        channel_to(relay.endpoint) as one,
        channel_to(relay.endpoint) as two,
        Watch(one) as first,
        Watch(two) as second,
    ):
        relay.wait_for_subscribers(2, streams=[Stream.ALERTS])
        for number in range(100):
            relay.publish(Stream.ALERTS, str(number).encode())

        eventually(lambda: len(first.bodies) == len(second.bodies) == 100)
    assert first.bodies == second.bodies == [str(number).encode() for number in range(100)]


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [(Stream.ALERTS, "system"), (Stream.ALERTS, ""), (Stream.LOGS, "policy"), (Stream.LOGS, "ALL")],
)
def test_a_wrong_filter_ends_the_stream_at_once_with_ok(channel: grpc.Channel, stream: Stream, wanted: str) -> None:
    with Watch(channel, stream, wanted) as watch:
        assert watch.ending() == (grpc.StatusCode.OK, "")


@pytest.mark.parametrize(
    ("stream", "wanted"), [(Stream.ALERTS, "policy"), (Stream.LOGS, "system"), (Stream.MESSAGES, "anything")]
)
def test_a_right_filter_does_not(relay: Relay, channel: grpc.Channel, stream: Stream, wanted: str) -> None:
    with Watch(channel, stream, wanted):
        relay.wait_for_subscribers(1, streams=[stream])


def test_a_client_that_leaves_is_forgotten(relay: Relay, channel: grpc.Channel) -> None:
    with Watch(channel):
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])

    relay.wait_for_subscribers(0)


def test_a_client_that_does_not_read_loses_events_and_the_loss_is_counted() -> None:
    body = bytes(64 * 1024)
    with Relay(profile=NODE) as relay, channel_to(relay.endpoint) as channel:
        call = channel.unary_stream("/feeder.LogService/WatchLogs")(
            kubearmor_pb2.RequestMessage(Filter="all").SerializeToString()
        )
        relay.wait_for_subscribers(1, streams=[Stream.LOGS])
        for _ in range(1_200):
            relay.publish(Stream.LOGS, body)

        assert relay.dropped > 0
        for _ in range(1_200 - relay.dropped):
            next(call)
        relay.wait_until_sent()
        counts = relay.counts()[Stream.LOGS]
        call.cancel()
    assert counts.published == 1_200 == counts.sent + counts.dropped


@pytest.mark.parametrize("code", STATUSES)
def test_a_stream_can_end_with_any_status_before_its_headers(code: grpc.StatusCode) -> None:
    manners = Manners(openings={Stream.ALERTS: Ending(code=code, details="no")})
    with Relay(manners=manners) as relay, channel_to(relay.endpoint) as channel:
        with Watch(channel) as watch:
            assert watch.ending() == (code, "no")
        with Watch(channel, Stream.LOGS):
            relay.wait_for_subscribers(1, streams=[Stream.LOGS])


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_a_stream_can_end_with_any_status_behind_its_last_event(
    relay: Relay, channel: grpc.Channel, code: grpc.StatusCode
) -> None:
    with Watch(channel) as watch, Watch(channel, Stream.LOGS) as other:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS, Stream.LOGS])
        relay.publish(Stream.ALERTS, b"last")
        eventually(lambda: watch.bodies)

        assert relay.end_streams(code, "" if code is grpc.StatusCode.OK else "enough", [Stream.ALERTS]) == 1

        assert watch.ending() == (code, "" if code is grpc.StatusCode.OK else "enough")
        assert not other.ended.is_set()


def test_a_health_check_gets_its_number_back(relay: Relay, channel: grpc.Channel) -> None:
    assert health_check(channel, 12_345) == 12_345
    assert [call.method for call in relay.calls] == ["HealthCheck"]
    assert "grpc-python" in relay.calls[0].user_agent


@pytest.mark.parametrize("nonce", [0, 7, 2**31 - 1, -(2**31)])
def test_a_health_check_can_get_another_number(relay: Relay, channel: grpc.Channel, nonce: int) -> None:
    relay.manners = Manners(health=HealthAnswer.WRONG_NONCE)

    assert health_check(channel, nonce) != nonce


def test_a_health_check_can_be_missing(relay: Relay, channel: grpc.Channel) -> None:
    relay.manners = Manners(health=Ending(code=grpc.StatusCode.UNIMPLEMENTED))

    with pytest.raises(grpc.RpcError) as caught:
        health_check(channel, 1)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_health_check_can_hang(relay: Relay, channel: grpc.Channel) -> None:
    relay.manners = Manners(health=HealthAnswer.HANG)

    with pytest.raises(grpc.RpcError) as caught:
        health_check(channel, 1, SHORT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("served", [True, False])
def test_the_standard_health_service_is_there_if_it_is_asked_for(
    relay: Relay, channel: grpc.Channel, *, served: bool
) -> None:
    relay.manners = Manners(standard_health=served)
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    if served:
        assert check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    else:
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_frozen_relay_answers_nothing_and_goes_on_when_thawed(relay: Relay, channel: grpc.Channel) -> None:
    with Watch(channel) as watch:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])
        relay.freeze()
        relay.publish(Stream.ALERTS, b"late")
        with pytest.raises(grpc.RpcError):
            health_check(channel, 1, SHORT_SECONDS)
        assert watch.bodies == []

        relay.thaw()

        assert eventually(lambda: watch.bodies) == [b"late"]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_relay_comes_back_on_its_port(relay: Relay, how: str) -> None:
    before = relay.endpoint
    with channel_to(before) as channel, Watch(channel) as watch:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])

        getattr(relay, how)()

        assert watch.ending()[0] is grpc.StatusCode.UNAVAILABLE
    relay.wait_for_subscribers(0)
    relay.start()
    assert relay.endpoint == before
    with channel_to(before) as channel:
        assert health_check(channel, 5) == 5


def test_streams_live_on_through_the_grace_of_a_stop(relay: Relay, channel: grpc.Channel) -> None:
    with Watch(channel) as watch:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])
        stopping = threading.Thread(target=relay.stop, args=(30,))
        stopping.start()

        relay.publish(Stream.ALERTS, b"still")

        assert eventually(lambda: watch.bodies) == [b"still"]
        relay.end_streams()
        assert watch.ending()[0] is grpc.StatusCode.OK
        stopping.join()


def test_a_frozen_relay_can_be_stopped(relay: Relay, channel: grpc.Channel) -> None:
    with Watch(channel) as watch:
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])
        relay.freeze()
        relay.publish(Stream.ALERTS, b"never")

        relay.kill()

        assert watch.ending()[0] is grpc.StatusCode.UNAVAILABLE


def test_a_taken_port_is_an_error_that_names_it(relay: Relay) -> None:
    port = int(relay.endpoint.rpartition(":")[2])

    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
        Relay(port=port).start()


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")
def test_it_listens_on_ipv6_too_behind_a_proxy_or_not() -> None:
    with (
        Relay(host="::1") as relay,
        TcpProxy(relay.endpoint, host="::1") as proxy,
        channel_to(proxy.endpoint) as channel,
    ):
        assert health_check(channel, 6) == 6


def test_nothing_is_left_running() -> None:
    before = set(threading.enumerate())
    with Relay() as relay, channel_to(relay.endpoint) as channel, Watch(channel):
        relay.wait_for_subscribers(1, streams=[Stream.ALERTS])

    eventually(lambda: {each for each in threading.enumerate() if "simulator" in each.name} <= before)
