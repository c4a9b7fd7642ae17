# cython: boundscheck=False, initializedcheck=False
"""The window of one kind of event: how many did not pass, when, and sketches of what was met in them.

Compiled where there is a C compiler (`flood_window.pxd` has the types): the fast path then counts in it without Python.
All of a window lies together, as in a flood of hundreds of kinds each of them is met a few times between others.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from otelbridge.event import EventKind, Flood, RawEvent, Stream

HASHES = 128
"""Kept of each window's processes and resources; the estimate beyond them is off by 9 % (1 / sqrt(HASHES - 2))."""
EXAMPLES = 5
MAX_EXAMPLE = 256
MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15


def hash_of(raw: bytes) -> int:
    """64 bits, the same in every life, of which few texts share one: eight bytes at a time, multiplied and mixed."""
    words = memoryview(raw + bytes(8 - len(raw) % 8)).cast("Q")  # the last one is never whole
    number = len(raw)
    for word in words[:-1]:
        number = (number ^ word) * _ODD & MASK
        number ^= number >> 29
    number = (number ^ words[-1]) * _ODD & MASK
    number = (number ^ number >> 32) * _ODD & MASK
    return number ^ number >> 32


class Distinct:
    """How many different texts were met, in bounded space: the k smallest hashes (Bar-Yossef and others, 2002).

    Exact below `HASHES` texts, an estimate beyond. To meet a text twice changes nothing.
    """

    __slots__ = ("changed", "examples", "hashes", "latest")

    def __init__(self, hashes: Iterable[int] = (), examples: Iterable[str] = ()) -> None:
        known = sorted(set(hashes))[:HASHES]
        self.hashes = array("Q", known + [MASK] * (HASHES - len(known)))
        """In their order; behind them the largest number, which is none."""
        self.latest = MASK
        self.changed = True
        """Since it was written down."""
        self.examples = list(examples)
        """The first few."""

    def add(self, text: str) -> None:
        """Takes a text; empty ones say nothing."""
        if text and self.is_new(hash_of(text.encode(errors="surrogatepass"))):
            self.show(text)

    def show(self, text: str) -> None:
        """Keeps a new text as an example, where there are few."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(text[:MAX_EXAMPLE])

    def is_new(self, number: int) -> bool:
        """Takes a hash; whether it is one of the smallest, and was not among them."""
        last = len(self.hashes) - 1
        if number == self.latest or number >= self.hashes[last]:
            return False
        place, end = 0, last
        while place < end:
            middle = (place + end) // 2
            if self.hashes[middle] < number:
                place = middle + 1
            else:
                end = middle
        self.latest = number
        if self.hashes[place] == number:
            return False
        for behind in range(last, place, -1):
            self.hashes[behind] = self.hashes[behind - 1]
        self.hashes[place] = number
        self.changed = True
        return True

    def known(self) -> list[int]:
        """The smallest hashes, in their order."""
        hashes = list(self.hashes)
        return hashes[: bisect_left(hashes, MASK)]

    def estimate(self) -> int:
        """How many different texts; exact where there were few."""
        known = self.known()
        return len(known) if len(known) < HASHES else round((HASHES - 1) * (MASK + 1) / max(known[-1], 1))

    def written(self) -> list[Any]:
        """As JSON has it."""
        known = self.known()
        return [base64.b64encode(struct.pack(f">{len(known)}Q", *known)).decode(), self.examples]


def _read(written: Any) -> Distinct:
    packed, examples = base64.b64decode(written[0]), [str(example) for example in written[1]]
    return Distinct([number for (number,) in struct.iter_unpack(">Q", packed)], examples)


NOTHING = Distinct()
"""Where no window is open."""


class FloodWindow:
    """One kind: when the next event of it may pass, and what is known of those that did not (its window)."""

    __slots__ = (
        "due", "events", "first", "kept", "key", "kind", "last", "number", "opened", "processes", "resources", "sample",
        "total", "written",
    )  # fmt: skip

    def __init__(self, kind: EventKind) -> None:
        self.kind = kind
        self.kept: list[RawEvent] = []
        """Events of this turn as they were received, for the flight recorder."""
        self.due = 0.0
        """Monotonic seconds (the theoretical arrival time of the generic cell rate algorithm, ITU-T I.371)."""
        self.close()

    def close(self) -> None:
        """Without a window."""
        self.opened = 0.0
        """Monotonic seconds."""
        self.number = 0
        """Tells the window from others; 0 where there is none."""
        self.key = ""
        """What its note is called."""
        self.sample = b""
        """Encoded message with the workload and the rule of the first one."""
        self.total = 0
        """Events that were counted in earlier turns."""
        self.events = 0
        """Those of this turn, which count once the turn is in the queue."""
        self.first = self.last = 0
        """Unix time in nanoseconds of the earliest and the latest one."""
        self.processes = NOTHING
        """Executables."""
        self.resources = NOTHING
        """Files, or peers of the network, by the kind's operation."""
        self.written = 0.0
        """When the note was written last, in monotonic seconds."""

    def flood(self) -> Flood:
        """The window as what becomes a record."""
        return Flood(
            stream=self.kind.stream,
            kind=str(self.kind),
            sample=self.sample,
            events=self.total + self.events,
            started_unix_nano=self.first,
            ended_unix_nano=self.last,
            processes=self.processes.estimate(),
            process_examples=tuple(self.processes.examples),
            resources=self.resources.estimate(),
            resource_examples=tuple(self.resources.examples),
        )

    def counts(self) -> tuple[int, int, int, int]:
        """What is written down with each turn."""
        return self.number, self.total + self.events, self.first, self.last

    def note(self) -> str:
        """Everything else, with the counts of now."""
        sample = base64.b64encode(self.sample).decode()
        return (
            f"[{json.dumps([list(self.kind), sample])},{json.dumps(self.counts())},"
            f"{json.dumps(self.processes.written())},{json.dumps(self.resources.written())}]"
        )


def read_note(note: str, counts: Mapping[int, tuple[int, ...]], now: float) -> FloodWindow | None:
    """The flow of a note, with later counts where there are some; None where it is not what was written."""
    try:
        (names, sample), (number, *counted), processes, resources = json.loads(note)
        stream, *texts = names
        flow = FloodWindow(EventKind(Stream(stream), *texts))
        flow.number, flow.opened, flow.sample = int(number), now, base64.b64decode(sample)
        flow.total, flow.first, flow.last = counts.get(flow.number) or map(int, counted)
        flow.processes, flow.resources = _read(processes), _read(resources)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, struct.error, binascii.Error):
        return None
    return flow


def read_counts(note: str) -> dict[int, tuple[int, ...]]:
    """By the window's number: events, and when the first and the last were; empty where it is not what was written."""
    try:
        return {int(number): (int(events), int(first), int(last)) for number, events, first, last in json.loads(note)}
    except (ValueError, TypeError, OverflowError, RecursionError):
        return {}
