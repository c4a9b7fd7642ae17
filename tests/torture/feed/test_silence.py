from __future__ import annotations

import time
from typing import Any

import pytest

from otelbridge.event import NANOSECONDS, Stream
from otelbridge.simulator.tcp_proxy import TcpProxy
from tests.integration.simulator.watching import Watch, channel_to
from tests.peers.netns import SERVER_ADDRESS, network_pair
from tests.simulated import SimulatorProcess
from tests.torture.feed.watcher import Watcher
from tests.torture_report import record
from tests.waiting import eventually

FLOWING = ("--rate", "20", "--loop")
"""So many events per second that the last one dates the silence."""
QUIET = ("--rate", "0.001", "--stay")
NOTICED_SECONDS = 21.0
CUT_NOTICED_SECONDS = 20.5
PLAIN_CLIENT_SECONDS = 90.0


def events_flow(watcher: Watcher) -> bool:
    return any(told["stream"] == Stream.ALERTS for told in watcher.of("StreamOpened"))


def the_loss(watcher: Watcher) -> dict[str, Any]:
    """The gap for the time without a connection; the time until its nodes are back is another one, suspected."""
    return next((told["gap"] for told in watcher.of("GapEnded") if not told["gap"]["suspected"]), {})


def seconds(nanoseconds: int) -> float:
    return round(nanoseconds / NANOSECONDS, 2)


@pytest.mark.torture
@pytest.mark.parametrize("quiet", [False, True], ids=["events flow", "quiet"])
def test_a_frozen_upstream_is_noticed_in_time_where_a_plain_client_is_not(quiet: bool) -> None:
    arguments = QUIET if quiet else FLOWING
    keepalive = (("grpc.keepalive_time_ms", 15_000), ("grpc.keepalive_timeout_ms", 5_000))
    with (
        SimulatorProcess(arguments) as simulator,
        Watcher(simulator.endpoint) as watcher,
        channel_to(simulator.endpoint, *keepalive) as channel,
        Watch(channel) as plain,
    ):
        eventually(lambda: events_flow(watcher))
        time.sleep(7)  # the freeze shall not fall together with the start
        simulator.freeze()
        frozen, frozen_at = time.time_ns(), time.monotonic()
        eventually(lambda: watcher.of("ConnectionEnded"), within_seconds=40)
        noticed = watcher.of("ConnectionEnded")[0]["ended_unix_nano"] - frozen
        plain.ended.wait(PLAIN_CLIENT_SECONDS)
        plain_seconds = round(time.monotonic() - frozen_at, 1)
        simulator.thaw()
        thawed = time.time_ns()
        gap = eventually(lambda: the_loss(watcher), within_seconds=60)
    figures: dict[str, object] = {
        "noticed_seconds": seconds(noticed),
        "gap_start_off_by_seconds": seconds(gap["started_unix_nano"] - frozen),
        "recovered_seconds_after_the_thaw": seconds(gap["ended_unix_nano"] - thawed),
        "cause": gap["cause"],
        "a_client_with_keepalive_alone_noticed_seconds": plain_seconds,
    }
    start_holds = quiet or abs(gap["started_unix_nano"] - frozen) < NANOSECONDS
    passed = noticed < NOTICED_SECONDS * NANOSECONDS and start_holds
    record(f"feed: frozen upstream, {'quiet' if quiet else 'events flow'}", figures, passed)
    assert passed, figures


@pytest.mark.torture
@pytest.mark.netns
@pytest.mark.parametrize("quiet", [False, True], ids=["events flow", "quiet"])
def test_a_cable_that_is_cut_without_a_sound_is_noticed_in_time(quiet: bool) -> None:
    arguments = ("--host", SERVER_ADDRESS, *(QUIET if quiet else FLOWING))
    with (
        network_pair() as pair,
        SimulatorProcess(arguments, prefix=pair.on_server) as simulator,
        Watcher(simulator.endpoint, prefix=pair.on_client) as watcher,
    ):
        eventually(lambda: events_flow(watcher))
        time.sleep(7)
        pair.cut()
        cut = time.time_ns()
        eventually(lambda: watcher.of("ConnectionEnded"), within_seconds=40)
        noticed = watcher.of("ConnectionEnded")[0]["ended_unix_nano"] - cut
        time.sleep(20)  # a few attempts fail
        pair.mend()
        mended = time.time_ns()
        gap = eventually(lambda: the_loss(watcher), within_seconds=60)
        waits = [told["delay_seconds"] for told in watcher.of("RetryScheduled")]
    recovered = gap["ended_unix_nano"] - mended
    figures: dict[str, object] = {
        "noticed_seconds": seconds(noticed),
        "gap_start_off_by_seconds": seconds(gap["started_unix_nano"] - cut),
        "recovered_seconds_after_the_mending": seconds(recovered),
        "longest_wait_seconds": round(max(waits), 2),
        "cause": gap["cause"],
    }
    start_holds = quiet or abs(gap["started_unix_nano"] - cut) < NANOSECONDS
    passed = noticed < CUT_NOTICED_SECONDS * NANOSECONDS and start_holds and recovered < (max(waits) + 1) * NANOSECONDS
    record(f"feed: cable cut, {'quiet' if quiet else 'events flow'}", figures, passed)
    assert passed, figures


@pytest.mark.torture
def test_a_blink_of_three_seconds_of_the_network_costs_nothing() -> None:
    with (
        SimulatorProcess(FLOWING) as simulator,
        TcpProxy(simulator.endpoint) as proxy,
        Watcher(proxy.endpoint) as watcher,
    ):
        eventually(lambda: events_flow(watcher))
        time.sleep(3)
        proxy.hold()
        time.sleep(3)
        proxy.open()
        time.sleep(25)  # longer than any detection takes
        passed = not watcher.of("ConnectionEnded")
        record("feed: network blinks for 3 s", {"connections_lost": len(watcher.of("ConnectionEnded"))}, passed)
        assert passed
