"""A disk that fills up under a bridge, a real one of some MiB, and has space again: nothing ends, nothing is lost."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, numbers_of
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.process import answers_ok
from tests.peers.small_disk import mounted
from tests.waiting import eventually

MIB = 1024 * 1024
DISK_BYTES = 32 * MIB
"""Room for the queue, for its reserve, and for what its log needs."""
ROOM_BYTES = 6 * MIB
"""What an outage may take until the disk is full: its log, and some thousand events."""
WAITING_RECORDS = 1_000
DRAIN_SECONDS = 5.0
"""The bar: so long after there is space again, everything is where it belongs."""

EAGER = {"retry_initial_seconds": 0.2, "retry_max_seconds": 0.5, "replay_rate_factor": 0}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def fill(disk: Path, name: str) -> Path:
    """Takes all the space that is left; returns the file that has it."""
    ballast = disk / name
    size = MIB
    with ballast.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
    return ballast


def leave(disk: Path, room_bytes: int) -> None:
    """Takes the space that is left but for so many bytes."""
    free = os.statvfs(disk)
    with (disk / "leaving").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room_bytes)


def publish_until(full: Callable[[], bool], publisher: Publisher) -> None:
    while not full():
        publisher.publish(500)
        assert len(publisher.published) < 50_000, "so many do not fit on the disk"


def degraded(bridge: BridgeProcess) -> bool:
    return bool(bridge.status()["queue"]["degraded"])


def waiting_in_memory(bridge: BridgeProcess) -> int:
    return int(bridge.status()["queue"]["memory_records"])


def fill_under_load(relay: Relay, endpoint: OtlpEndpoint, folder: Path, small_disk: Path) -> dict[str, float]:
    """A disk is full, then fuller, and has space again, all under load; raises where a promise is broken.

    Returns:
        Events published, and the seconds from there being space to all of them being at the endpoint.
    """
    with running_bridge(
        folder / "bridge",
        queue={"directory": str(small_disk / "queue")},
        feed={"endpoints": [relay.endpoint]},
        send={"endpoint": endpoint.grpc_endpoint, **EAGER},
    ) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1_000)
        publisher.publish(200)
        endpoint.wait_for_records(200, within=20)

        ballast = [fill(small_disk, "ballast")]
        publisher.publish(1_000)
        endpoint.wait_for_records(1_200, within=20)
        assert answers_ok(bridge.url("/livez"))
        assert bridge.balances()

        endpoint.stop()

        def no_way_out() -> bool:
            # Also what the bridge had kept in reserve, and what it gives up when nothing in its file is owed.
            ballast.append(fill(small_disk, f"ballast {len(ballast)}"))
            return waiting_in_memory(bridge) >= WAITING_RECORDS

        publish_until(no_way_out, publisher)
        assert answers_ok(bridge.url("/livez"))
        assert bridge.balances()

        for file in ballast:
            file.unlink()
        space_at = time.monotonic()
        eventually(
            lambda: not degraded(bridge) and not waiting_in_memory(bridge),
            within_seconds=DRAIN_SECONDS,
            why="memory is on disk again",
        )
        endpoint.start()
        endpoint.wait_for_records(
            len(publisher.published), within=max(0.1, space_at + DRAIN_SECONDS - time.monotonic())
        )
        bridge.wait_until_delivered(within_seconds=max(0.1, space_at + DRAIN_SECONDS - time.monotonic()))
        drained = time.monotonic() - space_at
        assert bridge.stop() == 0
    # Acknowledgements that the full disk did not take were remembered: nothing came twice.
    assert numbers_of(endpoint.log_records()) == Counter(range(len(publisher.published)))
    return {"published": len(publisher.published), "drained_seconds": round(drained, 2)}


def test_a_full_disk_stops_neither_bridge_nor_exports_and_all_is_well_once_there_is_space(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, small_disk: Path
) -> None:
    fill_under_load(relay, endpoint, tmp_path, small_disk)


def test_a_queue_that_fills_its_disk_during_an_outage_loses_nothing_that_it_took(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, small_disk: Path
) -> None:
    endpoint.stop()
    with running_bridge(
        tmp_path / "bridge",
        queue={"directory": str(small_disk / "queue")},
        feed={"endpoints": [relay.endpoint]},
        send={"endpoint": endpoint.grpc_endpoint, **EAGER},
    ) as bridge:
        bridge.wait_until_watching()
        eventually((small_disk / "queue" / "queue.reserve").exists, why="space is laid by")
        leave(small_disk, ROOM_BYTES)
        publisher = Publisher(relay, per_second=3_000)
        # It may be over before it is seen: the reserve gives space, once.
        publish_until(lambda: "The disk does not accept writes" in bridge.process.output(), publisher)
        assert answers_ok(bridge.url("/livez"))
        assert relay.dropped == 0

        # The exports themselves must make the space: a queue that cannot write must still be able to delete.
        endpoint.start()
        endpoint.wait_for_records(len(publisher.published), within=30)
        bridge.wait_until_delivered()
        eventually(lambda: not degraded(bridge), within_seconds=DRAIN_SECONDS)
        assert bridge.stop() == 0
    assert numbers_of(endpoint.log_records()) == Counter(range(len(publisher.published)))
