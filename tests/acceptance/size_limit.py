"""A bridge whose files may not grow any more (RLIMIT_FSIZE, as a quota does it), set from outside under load."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, numbers_of
from tests.peers.bridge import COMMAND, BridgeProcess, Json
from tests.peers.process import answers_ok
from tests.waiting import eventually

EVENTS_PER_SECOND = 1_000
BACKLOG = 3_000
LASTING_SECONDS = 1.5
SAY_SECONDS = 1.0
DELIVER_SECONDS = 15.0
RECOVER_SECONDS = 10.0
KIB = 1024
LIMITS: tuple[Callable[[Path], int], ...] = (
    lambda _: 0,
    lambda _: 4 * KIB,
    lambda queue: (queue / "queue.db-wal").stat().st_size,
    lambda queue: (queue / "queue.db").stat().st_size,
    lambda queue: (queue / "queue.db").stat().st_size // 2,
    lambda queue: (queue / "queue.db-wal").stat().st_size // 2,
)
CERTAIN = 2
"""So many of them stop every write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """What became of a life."""

    published: int
    limit_bytes: int
    backlog: bool
    """The endpoint was away until the files could not grow any more."""
    ended: str
    said_seconds: float | None
    """From the limit to `degraded`, later where the files may still grow; None where they need not."""
    delivered_seconds: float
    """From the endpoint being there to all that had been published being there, under the limit."""
    recovered_seconds: float


def limit(bridge: BridgeProcess, most_bytes: int) -> None:
    """No file of this process can grow beyond."""
    resource.prlimit(bridge.process.pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


@contextmanager
def ended(bridge: BridgeProcess) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(bridge.process.output())
        raise
    finally:
        bridge.process.kill()


def live_under_a_limit(folder: Path, seed: int) -> Limited:
    """One life; raises where a promise is broken."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    which = seed % len(LIMITS)
    backlog = chance.random() < 0.7
    again = chance.choice(("", "killed", "stopped"))
    queue: Json = {"synchronous": chance.choice(("normal", "full")), "retain_seconds": chance.choice((0, 60))}
    with Relay() as relay, OtlpEndpoint() as endpoint:
        settings: dict[str, Json] = {
            "queue": queue,
            "feed": {"endpoints": [relay.endpoint]},
            "send": {
                "endpoint": endpoint.grpc_endpoint,
                "ordered": chance.random() < 0.3,
                "replay_rate_factor": 0,
                "retry_initial_seconds": 0.1,
                "retry_max_seconds": 0.2,
            },
        }
        bridge = BridgeProcess(folder, settings)
        with ended(bridge):
            bridge.process.start()
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=EVENTS_PER_SECOND, seed=seed)
            if backlog:
                endpoint.stop()
            publisher.publish(BACKLOG)
            relay.wait_until_sent()
            if backlog:
                eventually(lambda: bridge.held() >= BACKLOG, within_seconds=20)
            else:
                endpoint.wait_for_records(BACKLOG, within=20)
                bridge.wait_until_delivered()
            most_bytes = LIMITS[which](bridge.queue_directory)
            if again:
                bridge.stop() if again == "stopped" else bridge.process.kill()
                command = ("prlimit", f"--fsize={most_bytes}:unlimited", str(COMMAND))
                bridge = BridgeProcess(folder, settings, command=command)
            with ended(bridge):
                said, delivered = _limited(
                    bridge, endpoint, relay, publisher, most_bytes, starts=bool(again), backlog=backlog
                )
                if which < CERTAIN:
                    assert said is not None
                    assert said <= SAY_SECONDS, said
                recovered = _cured(bridge, publisher, relay)
                wait_until_all_are_there(endpoint, len(publisher.published))
                bridge.wait_until_delivered()
                assert bridge.stop() == 0
    found = numbers_of(endpoint.log_records())
    expected = Counter(range(len(publisher.published)))
    assert not expected - found, f"{len(expected - found)} lost"
    if again != "killed":
        assert found == expected, f"{sum((found - expected).values())} doubles"
    return Limited(
        published=len(publisher.published),
        limit_bytes=most_bytes,
        backlog=backlog,
        ended=again,
        said_seconds=said,
        delivered_seconds=round(delivered, 2),
        recovered_seconds=round(recovered, 2),
    )


def _limited(
    bridge: BridgeProcess,
    endpoint: OtlpEndpoint,
    relay: Relay,
    publisher: Publisher,
    most_bytes: int,
    *,
    starts: bool,
    backlog: bool,
) -> tuple[float | None, float]:
    """The endpoint is well, the disk is not; the seconds until it was said, and until all had been delivered."""
    if starts:
        bridge.process.start()
        bridge.wait_until_watching()
    said: float | None = None
    with publisher.going_on():
        if not starts:
            limit(bridge, most_bytes)
        began = time.monotonic()
        while time.monotonic() - began < LASTING_SECONDS:
            assert answers_ok(bridge.url("/livez"))
            if said is None and bridge.status()["queue"]["degraded"]:
                said = time.monotonic() - began
        if backlog:
            endpoint.start()
        well = time.monotonic()
        owed = len(publisher.published)
        wait_until_all_are_there(endpoint, owed)
        delivered = time.monotonic() - well
    all_is_sent(relay)
    assert bridge.balances(), bridge.status()["ledger"]
    return None if said is None else round(said, 2), delivered


def _cured(bridge: BridgeProcess, publisher: Publisher, relay: Relay) -> float:
    """The files may grow again: nothing waits in memory, and what comes is on disk."""
    with publisher.going_on():
        limit(bridge, resource.RLIM_INFINITY)
        began = time.monotonic()
        eventually(
            lambda: not (queue := bridge.status()["queue"])["degraded"] and not queue["memory_records"],
            within_seconds=RECOVER_SECONDS,
            why="it recovers",
        )
    all_is_sent(relay)
    return time.monotonic() - began


def wait_until_all_are_there(endpoint: OtlpEndpoint, count: int) -> None:
    """Returns once the endpoint has so many events: what the relay has sent may not be received yet."""
    eventually(
        lambda: numbers_of(endpoint.log_records()).keys() >= set(range(count)),
        within_seconds=DELIVER_SECONDS,
        why="what can be read is delivered",
    )


def all_is_sent(relay: Relay) -> None:
    """Returns once the relay has sent all that it was given."""
    relay.wait_until_sent()
    assert not relay.dropped, f"the relay itself lost {relay.dropped}: nothing can be said about the bridge"
