"""The policing server faced by a real grpcio client, with times scaled down."""

from __future__ import annotations

import socket

import grpc
import pytest

from otelbridge.pb import kubearmor_pb2
from tests.integration.simulator.watching import Watch, channel_to, health_check
from tests.peers.policing_connection import Policing
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

PREFACE_AND_EMPTY_SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 300),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


def test_a_quiet_stream_with_keepalive_is_told_to_go_away_at_the_fourth_ping() -> None:
    with PolicingRelay() as relay, channel_to(relay.endpoint, *KEEPALIVE) as channel, Watch(channel) as watch:
        assert "too_many_pings" in watch.ending()[1]

        assert len(relay.seen("ping")) == 4
        assert [seen.detail for seen in relay.seen("goaway")] == ["too_many_pings"]


def test_a_server_that_pings_keeps_the_client_from_pinging() -> None:
    policing = Policing(ping_after_seconds=0.1)
    with PolicingRelay(policing) as relay, channel_to(relay.endpoint, *KEEPALIVE) as channel, Watch(channel) as watch:
        eventually(lambda: len(relay.seen("server_ping")) >= 10)

        assert len(relay.seen("ping")) <= 1
        assert not watch.ended.is_set()


def test_events_forgive_pings() -> None:
    event = kubearmor_pb2.Alert(Source="x").SerializeToString()
    policing = Policing(data_every_seconds=0.2, event=event)
    with PolicingRelay(policing) as relay, channel_to(relay.endpoint, *KEEPALIVE) as channel, Watch(channel) as watch:
        eventually(lambda: len(watch.bodies) >= 8)

        assert set(watch.bodies) == {event}
        assert relay.seen("goaway") == []


def test_health_checks_are_answered_or_not_implemented() -> None:
    with PolicingRelay() as relay, channel_to(relay.endpoint) as channel:
        assert health_check(channel, 77) == 77
        assert [seen.detail for seen in relay.seen("called")] == ["/feeder.LogService/HealthCheck"]
    with (
        PolicingRelay(Policing(health_implemented=False)) as relay,
        channel_to(relay.endpoint) as channel,
        pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"),
    ):
        health_check(channel, 77)


def test_a_frozen_server_hangs_until_it_is_thawed() -> None:
    with PolicingRelay() as relay, channel_to(relay.endpoint) as channel:
        health_check(channel, 1)
        relay.freeze()
        with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
            health_check(channel, 2, 0.3)

        relay.thaw()

        assert health_check(channel, 3) == 3


@pytest.mark.parametrize("how", ["go_away", "drop"])
def test_it_can_end_connections(how: str) -> None:
    with PolicingRelay() as relay, channel_to(relay.endpoint) as channel, Watch(channel) as watch:
        eventually(lambda: relay.seen("called"))

        getattr(relay, how)()

        watch.ending()


def test_a_client_that_answers_no_ping_is_dropped() -> None:
    policing = Policing(ping_after_seconds=0.1, ping_timeout_seconds=0.1)
    with PolicingRelay(policing) as relay:
        host, _, port = relay.endpoint.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as mute:
            mute.sendall(PREFACE_AND_EMPTY_SETTINGS)
            while mute.recv(1_024):
                pass

        assert len(relay.seen("server_ping")) == len(relay.seen("ping_timeout")) == 1
