"""The simulator as a process that can be frozen and killed."""

from __future__ import annotations

import grpc
import pytest

from otelbridge.event import Stream
from otelbridge.simulator.events import sequences_in
from tests.integration.simulator.watching import Watch, channel_to, health_check
from tests.simulated import SimulatorProcess
from tests.waiting import eventually

SHORT_SECONDS = 0.5
GENERATED = ("--source", "generated", "--streams", "alerts", "--rate", "200")


def test_it_can_be_frozen_thawed_and_stopped() -> None:
    with SimulatorProcess(GENERATED) as simulator, channel_to(simulator.endpoint) as channel:
        assert health_check(channel, 1) == 1
        simulator.freeze()
        with pytest.raises(grpc.RpcError):
            health_check(channel, 2, SHORT_SECONDS)
        simulator.thaw()
        assert health_check(channel, 3) == 3

        simulator.freeze()
        assert simulator.stop()["published"] == 0


def test_a_killed_one_ends_the_stream_at_once() -> None:
    with (
        SimulatorProcess(GENERATED) as simulator,
        channel_to(simulator.endpoint) as channel,
        Watch(channel) as watch,
    ):
        eventually(lambda: watch.bodies)
        simulator.kill()

        assert watch.ending()[0] is grpc.StatusCode.UNAVAILABLE


def test_its_summary_tells_what_was_sent() -> None:
    arguments = ("--source", "generated", "--streams", "logs", "--rate", "0", "--count", "50", "--sequence")
    with (
        SimulatorProcess(arguments) as simulator,
        channel_to(simulator.endpoint) as channel,
        Watch(channel, Stream.LOGS) as watch,
    ):
        watch.ending()
        summary = simulator.wait()

    assert sequences_in(b"".join(watch.bodies)) == list(range(50))
    assert summary["counts"]["logs"]["sent"] == 50
