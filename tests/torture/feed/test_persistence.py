from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

import pytest

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Ending, Manners, Relay
from otelbridge.telemetry.events import ConnectionEnded, KeepaliveStretched, RetryScheduled
from tests.integration.feed.running import Running, running, settings_for
from tests.peers.policing_connection import Policing
from tests.peers.policing_relay import PolicingRelay
from tests.simulated import SimulatorProcess
from tests.torture_report import record
from tests.waiting import eventually

RECONNECTS = 1_000
MIB = 1024 * 1024
POLICED_SECONDS = 600
ENDING_SECONDS = 120
DEFAULT_LADDER = {
    "initial_seconds": 1,
    "max_seconds": 30,
    "operator_initial_seconds": 30,
    "operator_max_seconds": 300,
}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def reconnect(run: Running, proxy: TcpProxy, times: int) -> None:
    for _ in range(times):
        before = run.status.connection_id
        proxy.cut()
        run.until_watching_anew(before)
        eventually(lambda: proxy.counts().open == 1)
    run.buffer.take(100_000, 0)
    run.told.clear()


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_thousand_reconnects_leave_nothing_behind() -> None:
    retry = {"initial_seconds": 0.01, "max_seconds": 0.01}
    with (
        SimulatorProcess(("--rate", "0.001", "--stay")) as simulator,
        TcpProxy(simulator.endpoint) as proxy,
        running(settings_for(proxy.endpoint, retry=retry)) as run,
    ):
        run.until_watching()
        reconnect(run, proxy, 50)
        files, threads, resident = open_files(), threading.active_count(), resident_bytes()
        for _ in range(RECONNECTS // 50):
            reconnect(run, proxy, 50)
        grown = resident_bytes() - resident
        figures: dict[str, object] = {
            "reconnects": RECONNECTS,
            "file_descriptors": [files, open_files()],
            "threads": [threads, threading.active_count()],
            "resident_grown_mib": round(grown / MIB, 2),
        }
        passed = open_files() <= files + 1 and threading.active_count() <= threads + 1 and grown < 5 * MIB
    record("feed: 1,000 reconnects", figures, passed)
    assert passed, figures


@pytest.mark.torture
def test_a_server_that_ends_every_stream_with_ok_for_ever_is_tried_by_the_ladder_alone() -> None:
    with Relay(manners=Manners(openings=dict.fromkeys(UPSTREAM_STREAMS, Ending()))) as relay:
        settings = settings_for(relay.endpoint, retry=DEFAULT_LADDER)
        with running(settings) as run:
            used = resource.getrusage(resource.RUSAGE_SELF)
            time.sleep(ENDING_SECONDS)
            now = resource.getrusage(resource.RUSAGE_SELF)
            cpu = (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / ENDING_SECONDS
            scheduled = run.of(RetryScheduled)
            watches = [call for call in relay.calls if call.method == "WatchAlerts"]
            figures: dict[str, object] = {
                "attempts": run.status.attempts,
                "classes": [told.error_class for told in scheduled],
                "delays_seconds": [round(told.delay_seconds, 1) for told in scheduled],
                "cpu_percent_of_a_core_with_the_server_in_the_process": round(100 * cpu, 2),
                "error": run.status.last_error,
            }
            passed = (
                len(watches) == run.status.attempts == len(scheduled)
                and [told.error_class for told in scheduled][:3] == ["ended", "ended", "permanent"]
                and "refuses our filter" in run.status.last_error
                and cpu < 0.01
            )
    record("feed: streams end with OK at once, for ever", figures, passed)
    assert passed, figures


@pytest.mark.torture
@pytest.mark.timeout(POLICED_SECONDS + 120)
def test_servers_that_police_pings_have_nothing_to_complain_of() -> None:
    cases = {
        "quiet, no server pings": Policing(),
        "server pings every 5 s": Policing(ping_after_seconds=5),
        "HealthCheck not implemented, no server pings": Policing(health_implemented=False),
        "HealthCheck not implemented, server pings every second": Policing(
            health_implemented=False, ping_after_seconds=1, ping_timeout_seconds=5
        ),
    }
    relays = {name: PolicingRelay(policing).start() for name, policing in cases.items()}
    try:
        endpoints = [relay.endpoint for relay in relays.values()]
        with running(settings_for(*endpoints, retry=DEFAULT_LADDER, streams=[Stream.ALERTS])) as run:
            time.sleep(POLICED_SECONDS)
            figures: dict[str, object] = {
                name: {"pings": len(relay.seen("ping")), "goaways": len(relay.seen("goaway"))}
                for name, relay in relays.items()
            }
            stretched = {told.upstream for told in run.of(KeepaliveStretched)}
            passed = all(not relay.seen("goaway") or relay.endpoint in stretched for relay in relays.values())
            passed = passed and not run.of(ConnectionEnded)
    finally:
        for relay in relays.values():
            relay.stop()
    record("feed: policed pings for 10 minutes", figures, passed)
    assert passed, figures
