"""The network between bridge and endpoint at its worst: resets, stalls, black holes, a trickle; under load."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.tcp_proxy import Conditions, TcpProxy
from otelbridge.simulator.upstream import Relay
from tests.acceptance.seeds import fresh_seed
from tests.oracle import Publisher, duplicates_share_their_uid, numbers_of
from tests.peers.bridge import Json, running_bridge

TURNS = 8
TURN_SECONDS = 0.2
TRICKLE = Conditions(bytes_per_second=20_000)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_whatever_the_line_to_the_endpoint_does_everything_arrives(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    chance = random.Random(fresh_seed())
    never = threading.Event()
    target = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint
    with TcpProxy(target.removeprefix("http://")) as line:
        send: Json = {
            "protocol": protocol,
            "endpoint": f"http://{line.endpoint}{'' if protocol == 'grpc' else '/v1/logs'}",
            "timeout_seconds": 1,
            "retry_initial_seconds": 0.1,
            "retry_max_seconds": 0.5,
            "replay_rate_factor": 0,
        }
        with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send) as bridge:
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=1_000)
            faults: dict[str, Callable[[], object]] = {
                "cut": line.cut,
                "hold": line.hold,
                "swallow": line.swallow,
                "trickle": lambda: line.shape(TRICKLE),
            }
            with publisher.going_on():
                for _ in range(TURNS):
                    faults[chance.choice(list(faults))]()
                    never.wait(TURN_SECONDS)
                    line.open()
                    line.cut()  # after a black hole nothing on a connection makes sense any more
                    never.wait(TURN_SECONDS)
            relay.wait_until_sent()
            bridge.wait_until_delivered()
            assert relay.dropped == 0
            assert bridge.stop() == 0
    records = endpoint.log_records()
    assert set(numbers_of(records)) == set(range(len(publisher.published)))
    assert duplicates_share_their_uid(records)
