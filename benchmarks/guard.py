"""The regression guard: what the road does for an event, counted instead of timed, against the figures in guard.json.

A fixed input walks from the buffer through gate, mapping and the queue to a settled lease: once through the
reference encoder and once, where it is compiled, through the fast path. Counted are bytecode instructions and
calls, which are the same on every machine with the same Python; with `--instructions` the processor's
instructions too, under valgrind, which sees what happens inside C. `--renew` stores what is counted now.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.buffer import Buffer, ByteBudget
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.fastpath_cache import COMPILED, Compiled, Screen
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pipeline import GapSink, Pipeline
from otelbridge.queue.model import Accepted
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate

STORED = Path(__file__).with_name("guard.json")
EVENTS = 2_000
WARM_EVENTS = 1_000
"""They fill the caches first, so that the counted events meet them as events do in a process that runs for long."""
RECEIVED_UNIX_NANO = 1_790_000_000_123_456_789
SLACK = 0.10
"""A figure may be so much higher than the stored one, for what libraries and their versions change."""
STALE = 0.25
"""A figure that is so much lower should be stored, or half of the gain may be lost again unnoticed."""
FEW_EVENTS, MANY_EVENTS = 500, 2_500
"""Under valgrind the difference of two runs is taken: start and imports, the same in both, fall out."""
MIB = 1024 * 1024

Figures = dict[str, float]


def fixed_input(count: int) -> list[RawEvent]:
    """Alerts and logs by turns, from a seed."""
    made = {stream: generate(1, streams=(stream,)) for stream in (Stream.ALERTS, Stream.LOGS)}
    events = []
    for number in range(count):
        moment = RECEIVED_UNIX_NANO + number * 1_000_000
        stream, message = next(made[Stream.LOGS if number % 2 else Stream.ALERTS])
        stamp_time(message, moment)
        events.append(RawEvent(stream, message.SerializeToString(), moment, "kubearmor:32767"))
    return events


class WarmMapper(Mapper):
    """Gives each of the walk's pipelines the same fast path: a bridge has one pipeline, for as long as it runs."""

    _made: dict[Stream, Compiled] | None = None

    def compiled(self, screens: Mapping[Stream, Screen] | None = None) -> dict[Stream, Compiled]:
        """What the first call made."""
        if self._made is None:
            self._made = super().compiled(screens)
        return self._made


class Walk:
    """The components from the buffer to the queue, on default settings, with a queue in a folder."""

    def __init__(self, folder: Path, *, native: bool) -> None:
        self._buffer = Buffer(100_000, ByteBudget(64 * MIB))
        self._writers = {stream: self._buffer.open_writer(stream, "kubearmor:32767") for stream in Stream}
        self._gate = Gate(GateSettings())
        self._mapper = WarmMapper(MappingSettings(native=native), version="guard")
        # One clock for events and queue: none of them is too old.
        settings = QueueSettings(directory=folder)
        self._queue = DurableQueue.open(
            settings, tell=lambda _: None, record_gap=lambda _: None, clock=lambda: RECEIVED_UNIX_NANO, boot="guard"
        )

    def carry(self, events: list[RawEvent]) -> int:
        """Takes events from buffer to acknowledgement; returns how many records were acknowledged."""
        encoder = Pipeline(
            buffer=self._buffer,
            gate=self._gate,
            mapper=self._mapper,
            queue=self._queue,
            gaps=GapSink(lambda _: None, self._buffer.wake),
            tell=lambda _: None,
        )
        for event in events:
            self._writers[event.stream].offer(event)
        encoder.start()
        assert encoder.drain(600)  # under valgrind, beside other work, everything takes a hundred times as long
        records = 0
        while (lease := self._queue.take(max_bytes=MIB, max_records=8192)) is not None:
            records += lease.records
            self._queue.settle(lease, Accepted())
        return records

    def close(self) -> None:
        self._queue.close()


@contextmanager
def open_walk(*, native: bool) -> Iterator[Walk]:
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(Path(folder), native=native)
        try:
            yield walk
        finally:
            walk.close()


# --- counting ---


def operations() -> Figures:
    """Bytecode instructions, calls of Python functions and calls of C functions per event, in all threads."""
    events = fixed_input(WARM_EVENTS + 2 * EVENTS)
    first, second = events[WARM_EVENTS : WARM_EVENTS + EVENTS], events[WARM_EVENTS + EVENTS :]
    figures: Figures = {}
    for encoder, native in encoders().items():
        with open_walk(native=native) as walk:
            walk.carry(events[:WARM_EVENTS])
            found = traced(lambda: walk.carry(first)) + profiled(lambda: walk.carry(second))
        for name in ("bytecode", "python_calls", "c_calls"):
            figures[f"{encoder} {name}"] = round(found[name] / EVENTS, 1)
    return figures


def encoders() -> dict[str, bool]:
    """The mapping's encoders that are here: the name of each, and the setting `mapping.native` that it goes with."""
    return {"ordinary": False, "fastpath": True} if COMPILED else {"ordinary": False}


def traced(work: Callable[[], int]) -> Counter[str]:
    """Counts bytecode instructions, in this thread and those that it starts."""
    found: Counter[str] = Counter()

    def inside(_frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            found["bytecode"] += 1
        return inside

    def entered(frame: FrameType, _event: str, _arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return inside

    before = sys.gettrace()
    threading.settrace(entered)
    sys.settrace(entered)
    try:
        carried = work()
    finally:
        sys.settrace(before)
        threading.settrace(before)
    assert carried == EVENTS, f"{carried} of {EVENTS} events were acknowledged"
    return found


def profiled(work: Callable[[], int]) -> Counter[str]:
    """Counts calls, in this thread and those that it starts."""
    found: Counter[str] = Counter()
    names = {"call": "python_calls", "c_call": "c_calls"}

    def happened(_frame: FrameType, event: str, _arg: Any) -> None:
        name = names.get(event)
        if name:
            found[name] += 1

    before = sys.getprofile()
    threading.setprofile(happened)
    sys.setprofile(happened)
    try:
        carried = work()
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    assert carried == EVENTS, f"{carried} of {EVENTS} events were acknowledged"
    return found


def instructions() -> Figures:
    """The processor's instructions per event, under valgrind.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    events = fixed_input(MANY_EVENTS)
    figures: Figures = {}
    for encoder in encoders():
        few, many = counted_by_valgrind(events[:FEW_EVENTS], encoder), counted_by_valgrind(events, encoder)
        figures[f"{encoder} instructions"] = round((many - few) / (MANY_EVENTS - FEW_EVENTS), -2)
    return figures


def counted_by_valgrind(events: list[RawEvent], encoder: str) -> int:
    """Instructions of a whole process that carries these events."""
    with tempfile.TemporaryDirectory() as folder:
        out, given = Path(folder) / "callgrind", Path(folder) / "events"
        given.write_bytes(pickle.dumps(events))
        argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"]
        argv += [sys.executable, "-m", "benchmarks.guard", "--carry", str(given), "--encoder", encoder]
        fixed = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(argv, check=True, env=fixed, cwd=STORED.parent.parent)
        for line in out.read_text(encoding="utf-8").splitlines():
            if line.startswith(("summary:", "totals:")):
                return int(line.split()[1])
    raise RuntimeError("callgrind's output has no summary")


# --- comparing ---


def stored(kind: str) -> Figures:
    """The figures to compare with, for this version of Python; empty where there are none."""
    figures: dict[str, Figures] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    return figures.get(key(kind), {})


def key(kind: str) -> str:
    """`operations of Python 3.11`: another version makes other bytecode of the same source.

    Instructions depend on the build too, down to the compiler.
    """
    version = f"{kind} of Python {'.'.join(platform.python_version_tuple()[:2])}"
    return version if kind == "operations" else f"{version}, {platform.python_compiler()}, {platform.machine()}"


NOTHING = "nothing for this build, so nothing is compared; `make guard` stores what is counted"
DEARER = "Make it cheaper; or, where it is worth its price, `make guard` and say in the commit what the price buys."
CHEAPER = "Well done: `make guard`, so that it stays so."


def complaints(now: Figures, before: Figures) -> list[str]:
    """What is dearer than before by more than the slack, or so much cheaper that it should be stored."""
    changes = {name: now[name] / figure - 1 for name, figure in before.items() if name in now}
    return [
        f"{name} per event: {now[name]} now, {before[name]} stored ({change:+.0%}). {DEARER if change > 0 else CHEAPER}"
        for name, change in changes.items()
        if not -STALE <= change <= SLACK
    ]


def renew(kind: str, now: Figures) -> None:
    figures = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    figures[key(kind)] = now
    STORED.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", action="store_true", help="count the processor's instructions too (valgrind)")
    parser.add_argument("--renew", action="store_true", help="store what is counted")
    parser.add_argument("--carry", type=Path, metavar="FILE", help="count nothing: carry a file's events, for valgrind")
    parser.add_argument("--encoder", choices=encoders(), default="ordinary", help="for --carry")
    asked = parser.parse_args()
    if asked.carry is not None:
        events: list[RawEvent] = pickle.loads(asked.carry.read_bytes())
        with open_walk(native=encoders()[asked.encoder]) as walk:
            return len(events) - walk.carry(events)
    counts: dict[str, Callable[[], Figures]] = {"operations": operations}
    if asked.instructions:
        counts["instructions"] = instructions
    failed = False
    for kind, count in counts.items():
        now, before = count(), stored(kind)
        print(f"{key(kind)}, per event: {now}; stored: {before or NOTHING}")
        if asked.renew:
            renew(kind, now)
            continue
        for complaint in complaints(now, before):
            print(complaint, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
