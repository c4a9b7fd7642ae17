from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.feed import monitor
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import TOO_MANY_PINGS
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.telemetry.events import ConnectionEnded, HeartbeatAnswered, KeepaliveStretched
from tests.integration.feed.running import running, settings_for
from tests.peers.policing_connection import Policing
from tests.peers.policing_relay import PolicingRelay
from tests.simulated import SimulatorProcess
from tests.waiting import eventually

RECONNECTS = 15


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_reconnecting_leaves_no_thread_and_no_file_descriptor() -> None:
    retry = {"initial_seconds": 0.01, "max_seconds": 0.01}
    with (
        SimulatorProcess(("--rate", "0.001", "--stay")) as simulator,
        TcpProxy(simulator.endpoint) as proxy,
        running(settings_for(proxy.endpoint, retry=retry)) as run,
    ):
        run.until_watching()
        connections = []
        for _ in range(RECONNECTS):
            before = run.status.connection_id
            proxy.cut()
            run.until_watching_anew(before)
            eventually(lambda: proxy.counts().open == 1)
            connections.append((open_files(), threading.active_count()))
        settled = connections[RECONNECTS // 2 :]
        assert max(files for files, _ in settled) <= min(files for files, _ in connections) + 1
        # A reader of the last connection, or gRPC's own polling thread, may be on its way out.
        assert max(threads for _, threads in settled) <= min(threads for _, threads in connections) + 1


def fast_pings(endpoint: str, **heartbeat: float) -> FeedSettings:
    settings = settings_for(endpoint, heartbeat=heartbeat)
    # The setting does not allow it, for the very reason that is shown here.
    return replace(settings, keepalive=replace(settings.keepalive, time_seconds=0.3))


def test_a_server_that_polices_pings_is_pinged_less_often_and_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PROBE_SECONDS", 60)  # a health check would earn forgiveness for them
    with PolicingRelay() as relay, running(fast_pings(relay.endpoint, interval_seconds=60)) as run:
        eventually(lambda: run.of(KeepaliveStretched))
        assert run.of(KeepaliveStretched)[0].seconds == 0.6
        assert TOO_MANY_PINGS in run.of(ConnectionEnded)[0].detail
        assert run.status.keepalive_seconds >= 0.6


def test_the_heartbeat_earns_forgiveness_for_pings_even_when_it_is_refused() -> None:
    for implemented in (True, False):
        policing = Policing(health_implemented=implemented)
        with (
            PolicingRelay(policing) as relay,
            running(fast_pings(relay.endpoint, interval_seconds=0.4)) as run,
        ):
            eventually(lambda: len(run.of(HeartbeatAnswered)) >= 6)
            assert relay.seen("goaway") == []
            assert relay.seen("ping")
            assert run.stream(Stream.ALERTS).ends == {}
