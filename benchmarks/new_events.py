"""Measures the worst case of the encoder: events in which everything is new, beside usual ones, in time and memory.

    python -m benchmarks.new_events [--json]

A flood of pods that come and go, or an attacker, defeats every cache: node, pod, image, labels, policy, paths and
process of each event are met once. CPU time, the best of several rounds.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.pipeline import EventEncoder
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate

EVENTS = 5_000
FLOOD_EVENTS = 40_000
ROUNDS = 3
STARTED, STEP_NANOSECONDS = 1_790_000_000_000_000_000, 137_000
KIB = 1024


def usual(count: int, seed: int = 1) -> list[RawEvent]:
    """A busy cluster's alerts and logs by turns."""
    made = {stream: generate(seed, streams=(stream,)) for stream in (Stream.ALERTS, Stream.LOGS)}
    return [_raw(next(made[(Stream.ALERTS, Stream.LOGS)[number % 2]]), number) for number in range(count)]


def wholly_new(count: int, seed: int = 1) -> list[RawEvent]:
    """The same events, each as if of a node, a pod, an image, a policy and a process of its own."""
    made = {stream: generate(seed, streams=(stream,)) for stream in (Stream.ALERTS, Stream.LOGS)}
    events = []
    for number in range(count):
        stream, message = next(made[(Stream.ALERTS, Stream.LOGS)[number % 2]])
        _renew(message, number + seed * 10_000_000)
        events.append(_raw((stream, message), number))
    return events


def _renew(message: Any, number: int) -> None:
    mark = f"{number:x}"
    for name in ("HostName", "NamespaceName", "PodName", "ContainerName", "ProcessName", "ParentProcessName", "Cwd"):
        setattr(message, name, f"{getattr(message, name)}-{mark}")
    digest = hashlib.sha256(mark.encode()).hexdigest()
    message.ContainerID, message.NodeID = digest, digest[:32]
    message.Owner.Name += f"-{mark}"
    message.Labels += f",pod={mark}"
    message.ContainerImage = f"registry.example/{mark}/app:1.{number}@sha256:{digest}"
    if message.Operation != "Network":  # whose Resource is a new peer already, which EventData repeats
        path, blank, rest = message.Resource.partition(" ")
        message.Resource = f"{path}-{mark}{blank}{rest}"
    message.ProcessHash, message.ParentHash, message.HashAlgo = digest, digest[::-1], "sha256"
    if isinstance(message, pb.Alert):
        message.PolicyName += f"-{mark}"
        message.Message = f"rule {mark}"
        message.ATags.append(f"TAG_{mark}")


def _raw(made: tuple[Stream, Any], number: int) -> RawEvent:
    stream, message = made
    moment = STARTED + number * STEP_NANOSECONDS
    stamp_time(message, moment)
    return RawEvent(stream, message.SerializeToString(), moment, "kubearmor:32767")


def encoder(*, native: bool = True) -> EventEncoder:
    """On default settings."""
    return EventEncoder(Gate(GateSettings()), Mapper(MappingSettings(native=native), version="bench"))


def microseconds(events: Sequence[RawEvent], made: EventEncoder) -> float:
    """CPU time per event."""
    gc.collect()
    started = time.process_time_ns()
    for event in events:
        made.encode(event)
    return (time.process_time_ns() - started) / 1000 / len(events)


def calls(events: Sequence[RawEvent], made: EventEncoder) -> float:
    """Calls of Python and C functions per event: the same on every machine."""
    count = 0

    def happened(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(happened)
    try:
        for event in events:
            made.encode(event)
    finally:
        sys.setprofile(before)
    return count / len(events)


def resident_kib() -> int:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def measure() -> dict[str, float]:
    """Microseconds by encoder and kind of event, calls for a new one, and what a flood of new ones leaves in memory."""
    figures: dict[str, float] = {}
    for name, native in (("compiled", True), ("reference", False)):
        warm = encoder(native=native)
        for event in usual(EVENTS):
            warm.encode(event)
        figures[f"{name}_usual_us"] = min(microseconds(usual(EVENTS, 2), warm) for _ in range(ROUNDS))
        figures[f"{name}_new_calls"] = calls(wholly_new(1_000, 99), warm)
        figures[f"{name}_new_us"] = min(microseconds(wholly_new(EVENTS, seed), warm) for seed in range(ROUNDS))
    warm = encoder()
    for event in usual(EVENTS):
        warm.encode(event)
    before = resident_kib()
    for start in range(0, FLOOD_EVENTS, EVENTS):
        microseconds(wholly_new(EVENTS, 100 + start), warm)
    figures["flood_mib"] = (resident_kib() - before) / KIB
    return {name: round(figure, 1) for name, figure in figures.items()}


def main() -> None:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--json", action="store_true")
    figures = measure()
    if options.parse_args().json:
        json.dump(figures, sys.stdout, indent=2)
        print()
        return
    for name, figure in figures.items():
        print(f"{name}: {figure}")


if __name__ == "__main__":
    main()
