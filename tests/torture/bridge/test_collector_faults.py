"""The genuine Collector at its worst, at length: its memory_limiter refuses, it restarts, it takes 4 MiB at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.simulator.upstream import Relay
from tests.acceptance.seeds import rounds
from tests.acceptance.test_collector_faults import COLLECTOR_LIMIT_BYTES, refuse, restart_under_load, split
from tests.peers.collector import CollectorPorts
from tests.peers.process import free_ports
from tests.torture_report import record

pytestmark = [pytest.mark.torture, pytest.mark.collector, pytest.mark.timeout(1800)]

EVENTS = 10_000
RESTARTS = 20
BACKLOG_BYTES = 16 * COLLECTOR_LIMIT_BYTES


def some_ports() -> CollectorPorts:
    grpc, http, health = free_ports(3)
    return CollectorPorts(grpc=grpc, http=http, health=health)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_memory_limiter_that_refuses(tmp_path: Path, protocol: str) -> None:
    with Relay() as relay:
        found = refuse(relay, tmp_path, some_ports(), protocol=protocol, events=EVENTS)
    passed = not found["lost"] and not found["duplicates"] and not found["dead_letters"]
    record(f"collector: memory_limiter refuses, {protocol}", found, passed)
    assert passed, found


def test_restarts_under_load(tmp_path: Path) -> None:
    with Relay() as relay:
        found = restart_under_load(relay, tmp_path, times=rounds(RESTARTS))
    passed = not found["lost"] and bool(found["duplicates_share_their_uid"])
    record("collector: restarts under load", found, passed)
    assert passed, found


def test_requests_above_its_limit(tmp_path: Path) -> None:
    with Relay() as relay:
        found = split(relay, tmp_path, some_ports(), backlog_bytes=BACKLOG_BYTES)
    passed = not (found["lost"] or found["duplicates"] or found["dead_letters"])
    passed = passed and bool(found["a_request_was_too_large"])
    record("collector: requests above its 4 MiB", found, passed)
    assert passed, found
