"""What process traces cost: the bridge's CPU for the same events, with the option and without, in interleaved rounds.

The bridge is a process of its own, and its CPU clock says what it used: other work on the machine counts little.
`generated` gives every event a process of its own, which is the dearest case; `sessions` are trees of processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.events import KubeArmorMessage, stamp_time
from otelbridge.simulator.generator import generate
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.processes import session
from tests.waiting import eventually

BURSTS_PER_SECOND = 50
TICKS = os.sysconf("SC_CLK_TCK")
STREAMS = ["alerts", "logs"]
QUIET_SECONDS = 1
Events = list[tuple[Stream, bytes]]


def generated(count: int) -> Events:
    return [_encoded(stream, message) for stream, message in itertools.islice(generate(1), count)]


def sessions(count: int) -> Events:
    """Trees six deep, every other one of an exec session, with events of all kinds."""
    return list(itertools.islice(_endless(), count))


def _endless() -> Iterator[tuple[Stream, bytes]]:
    for seed in itertools.count(1):
        yield from (_encoded(*event) for event in session(seed, low_half=seed % 2 * seed).events())


def _encoded(stream: Stream, message: KubeArmorMessage) -> tuple[Stream, bytes]:
    stamp_time(message, time.time_ns())
    return stream, message.SerializeToString()


SOURCES = {"generated": generated, "sessions": sessions}


def cpu_seconds(pid: int) -> float:
    """Of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def one_round(events: Events, rate: int, *, traces: bool) -> float:
    """Microseconds of CPU per event, from the first event to the last delivered record or span."""
    with tempfile.TemporaryDirectory() as folder, Relay() as relay, OtlpEndpoint(keep=False) as endpoint:
        mapping = {"process_traces": traces, "process_quiet_seconds": QUIET_SECONDS}
        with running_bridge(
            Path(folder),
            feed={"endpoints": [relay.endpoint], "streams": STREAMS},
            send={"endpoint": endpoint.grpc_endpoint},
            mapping=mapping,
        ) as bridge:
            bridge.wait_until_watching()
            before = cpu_seconds(bridge.process.pid)
            _publish(events, rate, relay)
            eventually(lambda: _received(bridge) + relay.dropped == len(events), within_seconds=30, why="all came")
            time.sleep(QUIET_SECONDS + 1)  # in both cases: until then processes are open
            bridge.wait_until_delivered()
            used = cpu_seconds(bridge.process.pid) - before
            bridge.stop()
        return used / len(events) * 1e6


def compared(source: str, *, rate: int, seconds: float, rounds: int) -> list[tuple[float, float]]:
    """Of each round, microseconds of CPU per event without the option and with it."""
    events = SOURCES[source](round(rate * seconds))
    return [(one_round(events, rate, traces=False), one_round(events, rate, traces=True)) for _ in range(rounds)]


def _publish(events: Events, rate: int, relay: Relay) -> None:
    burst = rate // BURSTS_PER_SECOND
    began = time.monotonic()
    for number in range(0, len(events), burst):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        for stream, body in events[number : number + burst]:
            relay.publish(stream, body)


def _received(bridge: BridgeProcess) -> int:
    return sum(bridge.balance(stream)["received"] for stream in STREAMS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=int, default=5000, help="events a second")
    parser.add_argument("--seconds", type=int, default=20, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", choices=SOURCES, action="append")
    options = parser.parse_args(arguments)
    for name in options.source or SOURCES:
        costs = compared(name, rate=options.rate, seconds=options.seconds, rounds=options.rounds)
        ratios = sorted(round(with_them / without, 2) for without, with_them in costs)
        each = [[round(cost, 1) for cost in one] for one in costs]
        print(json.dumps({"source": name, "rate": options.rate, "cpu_us_per_event": each, "ratios": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
