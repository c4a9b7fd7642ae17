"""How a relay and a node go, as their clients see it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from otelbridge.event import LOG_SERVICE, STREAMS, Stream
from otelbridge.pb.kubearmor_pb2 import RequestMessage
from otelbridge.simulator.faults import act_of, parse_fault
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Ending, Manners, Relay


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as relay:
        yield relay


@pytest.fixture
def line(relay: Relay) -> Iterator[TcpProxy]:
    with TcpProxy(relay.endpoint) as line:
        yield line


def watch(endpoint: str) -> grpc.Call:
    channel = grpc.insecure_channel(endpoint, [("grpc.use_local_subchannel_pool", 1)])
    method, word = f"/{LOG_SERVICE}/{STREAMS[Stream.ALERTS].method}", STREAMS[Stream.ALERTS].filter
    call: grpc.Call = channel.unary_stream(method, RequestMessage.SerializeToString)(RequestMessage(Filter=word))
    return call


def status(call: grpc.Call) -> tuple[grpc.StatusCode, str]:
    return call.code(), call.details() or ""


@pytest.mark.parametrize("fault", ["kill", "term"])
def test_a_killed_or_terminated_relay_ends_without_a_status(relay: Relay, line: TcpProxy, fault: str) -> None:
    call = watch(line.endpoint)
    relay.wait_for_subscribers(streams=[Stream.ALERTS])
    back = act_of(parse_fault(f"{fault}@0s"), relay, line)()
    code, details = status(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "closed" in details.lower()
    assert status(watch(line.endpoint))[0] is grpc.StatusCode.UNAVAILABLE, "nobody listens"
    assert callable(back)
    back()
    again = watch(line.endpoint)
    relay.wait_for_subscribers(streams=[Stream.ALERTS])
    again.cancel()


def test_kubearmors_own_shutdown_ends_streams_with_ok_and_is_away_then(relay: Relay, line: TcpProxy) -> None:
    call = watch(line.endpoint)
    relay.wait_for_subscribers(streams=[Stream.ALERTS])
    back = act_of(parse_fault("shutdown@0s"), relay, line)()
    assert status(call)[0] is grpc.StatusCode.OK
    assert status(watch(line.endpoint))[0] is grpc.StatusCode.UNAVAILABLE
    assert callable(back)
    back()
    again = watch(line.endpoint)
    relay.wait_for_subscribers(streams=[Stream.ALERTS])
    again.cancel()


def test_a_method_that_is_not_there_is_told_in_grpc_gos_words(relay: Relay) -> None:
    relay.manners = Manners(openings={Stream.ALERTS: Ending(code=grpc.StatusCode.UNIMPLEMENTED)})
    expected = "unknown method WatchAlerts for service feeder.LogService"
    assert status(watch(relay.endpoint)) == (grpc.StatusCode.UNIMPLEMENTED, expected)
