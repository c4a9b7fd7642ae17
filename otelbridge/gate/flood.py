"""Floods: of each kind of event so many a second pass, the rest is counted into one summary per kind and minute.

A kind is what a person would call "the same alert again": stream, policy, workload, operation and outcome. What a
summary says is written down with each turn, and read again, so that a kill loses no count. The compiled fast path
reads and writes these attributes for usual events (`FastPath.judge`); everything here does the same for the others.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from otelbridge.event import EventKind, Flood, RawEvent, Stream
from otelbridge.gate.settings import FloodSettings

NOTE = "flood:"
"""How the keys of notes begin; the rest is a kind, or `COUNTS`."""
COUNTS = "counts"
WINDOW_SECONDS = 60.0
SKETCH_SECONDS = 5.0
"""So often at most what was met is written down, again and again while it changes; the counts are with each turn."""
MAX_KINDS = 4096
"""Kinds whose rate is remembered, 2 MiB; a kind that was forgotten begins with a full burst again."""
MAX_WINDOWS = 512
"""Kinds that are summarised at a time, 16 MiB; events of further ones pass."""
HASHES = 128
"""Kept of each window's processes and resources; the estimate beyond them is off by 9 % (1 / sqrt(HASHES - 2))."""
SPARE = 96
"""So many more at a time, so that they are not sorted for each."""
EXAMPLES = 5
MAX_EXAMPLE = 256
_HASH = struct.Struct(">Q")
_LARGEST = 1 << 64
_MASK = _LARGEST - 1
_ODD = 0x9E3779B97F4A7C15


def hash_of(raw: bytes) -> int:
    """64 bits, the same in every life, of which few texts share one: eight bytes at a time, multiplied and mixed."""
    words = memoryview(raw + bytes(8 - len(raw) % 8)).cast("Q")  # the last one is never whole
    number = len(raw)
    for word in words[:-1]:
        number = (number ^ word) * _ODD & _MASK
        number ^= number >> 29
    number = (number ^ words[-1]) * _ODD & _MASK
    number = (number ^ number >> 32) * _ODD & _MASK
    return number ^ number >> 32


class Distinct:
    """How many different texts were met, in bounded space: the k smallest hashes (Bar-Yossef and others, 2002).

    Exact below `HASHES` texts, an estimate beyond. To meet a text twice changes nothing.
    """

    __slots__ = ("bound", "changed", "examples", "hashes")

    def __init__(self, hashes: Iterable[int] = (), examples: Iterable[str] = ()) -> None:
        self.hashes = set(hashes)
        self.bound = max(self.hashes) if len(self.hashes) >= HASHES else _MASK
        """Larger hashes say nothing new."""
        self.changed = True
        """Since it was written down."""
        self.examples = list(examples)
        """The first few."""

    def add(self, text: str) -> None:
        """Takes a text; empty ones say nothing."""
        if text and (number := hash_of(text.encode(errors="surrogatepass"))) not in self.hashes:
            self.take(number, text)

    def take(self, number: int, text: str) -> None:
        """Takes a text whose hash is not among those that are kept."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(text[:MAX_EXAMPLE])
        if number <= self.bound:
            self.changed = True
            self.hashes.add(number)
            if len(self.hashes) == HASHES + SPARE:
                self._smallest()

    def estimate(self) -> int:
        """How many different texts; exact where there were few."""
        hashes = self._smallest()
        return len(hashes) if len(hashes) < HASHES else round((HASHES - 1) * _LARGEST / max(self.bound, 1))

    def written(self) -> list[Any]:
        """As JSON has it."""
        packed = b"".join(map(_HASH.pack, self._smallest()))
        return [base64.b64encode(packed).decode(), self.examples]

    def _smallest(self) -> list[int]:
        hashes = sorted(self.hashes)[:HASHES]
        if len(hashes) == HASHES:
            self.hashes, self.bound = set(hashes), hashes[-1]
        return hashes


def _read(written: Any) -> Distinct:
    packed, examples = base64.b64decode(written[0]), [str(example) for example in written[1]]
    return Distinct([number for (number,) in _HASH.iter_unpack(packed)], examples)


NOTHING = Distinct()
"""Where no window is open."""


class FloodWindow:
    """One kind: when the next event of it may pass, and what is known of those that did not (its window)."""

    __slots__ = (
        "due", "events", "first", "kept", "kind", "last", "number", "opened", "processes", "resources", "sample",
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
    except (ValueError, TypeError, KeyError, IndexError, struct.error, binascii.Error):
        return None
    return flow


def read_counts(note: str) -> dict[int, tuple[int, ...]]:
    """By the window's number: events, and when the first and the last were; empty where it is not what was written."""
    try:
        return {int(number): (int(events), int(first), int(last)) for number, events, first, last in json.loads(note)}
    except (ValueError, TypeError):
        return {}


class Sifted(Protocol):
    """Counts of the fast path."""

    def give(self) -> None:
        """Gives them to their window."""


class Staged(NamedTuple):
    """What stands once the turn is in the queue."""

    closed: list[FloodWindow]
    """Those whose window becomes a record."""
    written: list[FloodWindow]
    """Those that are written down, not their counts only."""
    notes: dict[str, str]
    """To be written down; an empty one is deleted."""


class Floods:
    """Which events pass, and the windows of those that do not. Used by one thread.

    What one turn counts stands apart; `stage` says what would be then, `commit` makes it so: a turn that fails in
    between is repeated, and counts once.
    """

    def __init__(self, settings: FloodSettings, notes: Mapping[str, str] | None = None, *, now: float = 0.0) -> None:
        """Begins with the windows that an earlier life left.

        Args:
            settings: rate and burst.
            notes: what `stage` wrote, by key.
            now: monotonic seconds.
        """
        self.now = now
        """Monotonic seconds at the turn's begin."""
        self.windows: dict[EventKind, FloodWindow] = {}
        """Those that are open, the oldest first."""
        self.touched: list[FloodWindow] = []
        """Those that this turn has counted events of."""
        self._changed: dict[Stream, list[tuple[RawEvent, bytes]]] = {Stream.ALERTS: [], Stream.LOGS: []}
        """Events that this turn has counted, but that were changed since they were received; each with its id."""
        self.turn = 0
        self.sifted: list[Sifted] = []
        """What the fast path has counted in this turn, and the windows do not know yet."""
        self.generation = 0
        """Another one once flows were forgotten."""
        self._flows: dict[EventKind, FloodWindow] = {}
        self._numbered = 0
        written = dict(notes or {})
        counts = read_counts(written.pop(NOTE + COUNTS, ""))
        for flow in filter(None, [read_note(note, counts, now) for note in written.values()]):
            self.windows[flow.kind] = self._flows[flow.kind] = flow
            self._numbered = max(self._numbered, flow.number)
        self.change(settings)

    def change(self, settings: FloodSettings) -> None:
        """Goes by these settings from now on."""
        self.on = settings.rate_per_second > 0
        self.interval = 1 / settings.rate_per_second if self.on else 0.0
        self.tolerance = (settings.burst - 0.999) * self.interval  # not 1: sums of floats are off by their last bit
        for flow in self._flows.values():
            flow.due = 0.0

    def begin(self, now: float) -> None:
        """A turn begins, perhaps for the second time: what it counted before, if anything, was not counted."""
        self.now = now
        self.turn += 1
        self.sifted.clear()
        for flow in self.touched:
            if not flow.total:
                del self.windows[flow.kind]
                flow.close()
            flow.events = 0
        self._end()

    def _end(self) -> None:
        for flow in self.touched:
            flow.kept.clear()
        self.touched.clear()
        for changed in self._changed.values():
            changed.clear()

    def gather(self) -> None:
        """From here on the windows know what the fast path has counted."""
        for count in self.sifted:
            count.give()
        self.sifted.clear()

    def originals(self) -> Iterator[tuple[Stream, list[RawEvent], dict[int, bytes]]]:
        """The events that this turn has counted, by stream: those of a kind beside one another, as they compress best.

        With the ids of those that were changed since they were received, by their place.
        """
        for stream, changed in self._changed.items():
            kept = [flow.kept for flow in self.touched if flow.kind.stream is stream]
            events = [*chain.from_iterable(kept), *[event for event, _ in changed]]
            if events:
                first = len(events) - len(changed)
                yield stream, events, {first + place: uid for place, (_, uid) in enumerate(changed)}

    @property
    def full(self) -> bool:
        """Whether no further window can be opened."""
        return len(self.windows) >= MAX_WINDOWS

    def flow(self, kind: EventKind) -> FloodWindow:
        """What is known of a kind."""
        flow = self._flows.get(kind)
        if flow is None:
            if len(self._flows) >= MAX_KINDS:
                self._forget()
            flow = self._flows[kind] = FloodWindow(kind)
        return flow

    def meet(self, stream: Stream, where: str, what: str) -> FloodWindow:
        """The same for the fast path, which remembers it, for as long as the generation is the same."""
        namespace, _, workload = where.partition("\0")
        policy, operation, outcome = what.split("\0")
        return self.flow(EventKind(stream, policy, namespace, workload, operation, outcome))

    def _forget(self) -> None:
        """Forgets kinds without a window, first those that may burst again anyway."""
        idle = sorted((flow for flow in self._flows.values() if not flow.number), key=attrgetter("due"))
        for flow in idle[: MAX_KINDS // 4]:
            del self._flows[flow.kind]
        self.generation += 1

    def passes(self, flow: FloodWindow) -> bool:
        """Whether one more event of the kind goes through as it is."""
        due = max(flow.due, self.now)
        if due - self.now > self.tolerance:
            return not flow.number and self.full
        flow.due = due + self.interval
        return True

    def open(self, flow: FloodWindow, sample: bytes, unix_nano: int) -> None:
        """Opens a window, for an event that happened at that time."""
        self._numbered += 1
        flow.number, flow.opened, flow.sample = self._numbered, self.now, sample
        flow.first = flow.last = unix_nano
        flow.processes, flow.resources = Distinct(), Distinct()
        self.windows[flow.kind] = flow

    def count(
        self, flow: FloodWindow, event: RawEvent, unix_nano: int, *, process: str, resource: str, uid: bytes
    ) -> None:
        """Counts an event that does not pass; its window is open.

        Args:
            flow: of its kind.
            event: as it is to be kept.
            unix_nano: when it happened, or was received.
            process: the executable.
            resource: KubeArmor's Resource.
            uid: its id, where it was changed since it was received.
        """
        if not flow.events:
            self.touched.append(flow)
        flow.events += 1
        flow.first, flow.last = min(flow.first, unix_nano), max(flow.last, unix_nano)
        flow.processes.add(process)
        flow.resources.add(resource)
        if uid:
            self._changed[event.stream].append((event, uid))
        else:
            flow.kept.append(event)

    def stage(self, *, close_all: bool = False) -> Staged:
        """What stands once this turn is counted in; nothing is changed before `commit`.

        Args:
            close_all: at the end of a life.
        """
        self.gather()
        due, note_due = self.now - WINDOW_SECONDS, max(0.0, self.now - SKETCH_SECONDS)
        closed: list[FloodWindow] = []
        written: list[FloodWindow] = []
        counts = []
        notes = {}
        for flow in self.windows.values():
            if close_all or not self.on or flow.opened <= due:
                closed.append(flow)
                notes[NOTE + str(flow.kind)] = ""
                continue
            events = flow.events
            counts.append((flow.number, flow.total + events, flow.first, flow.last))
            if not events or flow.written > note_due:
                continue
            if not flow.written or flow.processes.changed or flow.resources.changed:
                written.append(flow)
                notes[NOTE + str(flow.kind)] = flow.note()
        notes[NOTE + COUNTS] = json.dumps(counts) if counts else ""
        return Staged(closed, written, notes)

    def commit(self, staged: Staged) -> None:
        """Makes it so: what was closed is gone, the others stand as staged."""
        for flow in self.touched:
            flow.total += flow.events
            flow.events = 0
        for flow in staged.closed:
            del self.windows[flow.kind]
            flow.close()
        for flow in staged.written:
            flow.written = self.now
            flow.processes.changed = flow.resources.changed = False
        self._end()
