"""Floods: of each kind of event so many a second pass, the rest is counted into one summary per kind and minute.

A kind is what a person would call "the same alert again": stream, policy, workload, operation and outcome. What a
summary says is written down with each turn, and read again, so that a kill loses no count. The compiled fast path
does the same for usual events (`FastPath._judge`); everything here does the same for the others.

The events that a summary stands for are kept by the flight recorder as they were received. Nothing is worked out before
somebody asks for a replay: so keeping an event costs little, and what it becomes follows the settings of then.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import NamedTuple

from otelbridge.event import EventKind, RawEvent, Stream
from otelbridge.flood_window import Distinct, FloodWindow, read_counts, read_note
from otelbridge.gate.settings import FloodSettings

NOTE = "flood:"
"""How the keys of notes begin; the rest is a window's number, or `COUNTS`."""
COUNTS = "counts"
WINDOW_SECONDS = 60.0
SKETCH_SECONDS = 5.0
"""Sketches of what was met are written down at most this often, while they change; counts with each turn."""
MAX_KINDS = 4096
"""Kinds whose rate is remembered from turn to turn, 2 MiB; a kind that was forgotten begins with a full burst again."""
MAX_WINDOWS = 512
"""Kinds that are summarised at a time, 5 MiB; events of further ones pass."""


class Staged(NamedTuple):
    """What holds once the turn is in the queue."""

    closed: list[FloodWindow]
    """Those whose window becomes a record."""
    written: list[FloodWindow]
    """Windows that are written down whole, not their counts only."""
    notes: dict[str, str]
    """To be written down; an empty one is deleted."""


class Floods:
    """Which events pass, and the windows of those that do not. Used by one thread.

    What one turn counts is kept apart: `stage` says what it would change, `commit` changes it. So a turn that fails in
    between is repeated, and counts once.
    """

    def __init__(self, settings: FloodSettings, notes: Mapping[str, str] | None = None, *, now: float = 0.0) -> None:
        """Begins with the windows that an earlier life left in notes. Times are monotonic seconds."""
        self.now = now
        """Monotonic seconds at the turn's begin."""
        self.windows: dict[EventKind, FloodWindow] = {}
        """Those that are open, the oldest first."""
        self.touched: list[FloodWindow] = []
        """Those that this turn has counted events of."""
        self._changed: dict[Stream, list[tuple[RawEvent, bytes]]] = {Stream.ALERTS: [], Stream.LOGS: []}
        """Events that this turn has counted, but that were changed since they were received; each with its id."""
        self.generation = 0
        """Raised whenever flows are forgotten."""
        self._flows: dict[EventKind, FloodWindow] = {}
        self._numbered = 0
        written = dict(notes or {})
        counts = read_counts(written.pop(NOTE + COUNTS, ""))
        for key, note in written.items():
            flow = read_note(note, counts, now)
            if flow is None:
                continue
            flow.key = key
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
        for flow in self.touched:
            if not flow.total:
                del self.windows[flow.kind]
                flow.close()
            flow.events = 0
        self._end()
        if len(self._flows) > MAX_KINDS:
            self._forget()

    def _end(self) -> None:
        for flow in self.touched:
            flow.kept.clear()
        self.touched.clear()
        for changed in self._changed.values():
            changed.clear()

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
            flow = self._flows[kind] = FloodWindow(kind)
        return flow

    def meet(self, stream: Stream, where: str, what: str) -> FloodWindow:
        """What is known of a kind, for the fast path, which keeps it while the generation is the same."""
        namespace, _, workload = where.partition("\0")
        policy, operation, outcome = what.split("\0")
        return self.flow(EventKind(stream, policy, namespace, workload, operation, outcome))

    def _forget(self) -> None:
        """Forgets kinds without a window, first those that may burst again anyway.

        Between turns: within one, the fast path still holds them, and would open a second window of a kind.
        """
        idle = sorted((flow for flow in self._flows.values() if not flow.number), key=attrgetter("due"))
        for flow in idle[: len(self._flows) - MAX_KINDS * 3 // 4]:
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
        flow.key = f"{NOTE}{flow.number}"
        flow.first = flow.last = unix_nano
        flow.processes, flow.resources = Distinct(), Distinct()
        self.windows[flow.kind] = flow

    def count(
        self, flow: FloodWindow, event: RawEvent, unix_nano: int, *, process: str, resource: str, uid: bytes
    ) -> None:
        """Counts an event that does not pass; `uid` is its id, where it was changed since it was received."""
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
        """What will hold once this turn counts, with every window closed at the end of a life; `commit` applies it."""
        due, note_due = self.now - WINDOW_SECONDS, max(0.0, self.now - SKETCH_SECONDS)
        closed: list[FloodWindow] = []
        written: list[FloodWindow] = []
        counts = []
        notes = {}
        for flow in self.windows.values():
            if close_all or not self.on or flow.opened <= due:
                closed.append(flow)
                notes[flow.key] = ""
                continue
            events = flow.events
            counts.append((flow.number, flow.total + events, flow.first, flow.last))
            if not events or flow.written > note_due:
                continue
            if not flow.written or flow.processes.changed or flow.resources.changed:
                written.append(flow)
                notes[flow.key] = flow.note()
        notes[NOTE + COUNTS] = json.dumps(counts) if counts else ""
        return Staged(closed, written, notes)

    def commit(self, staged: Staged) -> None:
        """Applies what was staged: closed windows are gone, the others have counted the turn."""
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


MARK = 0x07
VERSION = 1
HEAD = struct.Struct("<BBII")
UID_BYTES = 36


class UnknownLayout(ValueError):  # noqa: N818 - the name says what is the case
    """A block that another version of the bridge wrote, or that nobody wrote."""


class Original(NamedTuple):
    """One event that was put aside."""

    received_unix_nano: int
    body: bytes
    uid: bytes
    """Its `log.record.uid`, where it was changed since it was received; else empty."""


def pack_originals(events: Sequence[RawEvent], uids: Mapping[int, bytes]) -> bytes:
    """Some events of one stream as a block, with the ids of those that were changed, by their place.

        block = 0x07 | version | events, 4 bytes | ids, 4 bytes | times of receipt, 8 bytes each
              | lengths, 4 bytes each | bodies | places, 4 bytes each | ids, 36 bytes each

    All numbers are little-endian. An event has an id where it was changed since it was received: it is then the one of
    the event as it was. No encoded request begins with such a byte (field 0 is illegal).
    """
    _, bodies, times, _ = zip(*events, strict=True)
    number = len(bodies)
    return b"".join((
        HEAD.pack(MARK, VERSION, number, len(uids)),
        struct.pack(f"<{number}Q{number}I", *times, *map(len, bodies)),
        *bodies,
        struct.pack(f"<{len(uids)}I", *uids),
        *uids.values(),
    ))  # fmt: skip


def are_originals(content: bytes) -> bool:
    """Whether it is a block of originals, rather than a request."""
    return content[:1] == bytes([MARK])


def read_originals(block: bytes) -> Iterator[Original]:
    """The events of a block.

    Raises:
        UnknownLayout: it is laid out in another way.
    """
    try:
        mark, version, number, changed = HEAD.unpack_from(block)
        if (mark, version) != (MARK, VERSION):
            raise UnknownLayout(f"layout {version}, not {VERSION}")
        if changed > number or number > len(block):
            raise UnknownLayout(f"{number} events in {len(block)} bytes")
        columns = struct.Struct(f"<{number}Q{number}I")
        found = columns.unpack_from(block, HEAD.size)
        places = list(accumulate(found[number:], initial=HEAD.size + columns.size))
        ids = struct.Struct(f"<{changed}I" + f"{UID_BYTES}s" * changed).unpack_from(block, places[-1])
    except struct.error as error:
        raise UnknownLayout(str(error)) from error
    uids = dict(zip(ids[:changed], ids[changed:], strict=True))
    for place, (start, end) in enumerate(pairwise(places)):
        yield Original(found[place], block[start:end], uids.get(place, b""))
