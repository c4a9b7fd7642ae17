"""Floods: of each kind of event so many a second pass, the rest is counted into one summary per kind and minute.

A kind is what a person would call "the same alert again": stream, policy, workload, operation and outcome. What a
summary says is kept as a `Window`, which can be written down and read again, so that a kill loses no count.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple

from otelbridge.event import Flood, Stream, outcome_of
from otelbridge.gate.settings import FloodSettings

NOTE = "flood:"
"""How the keys of notes begin."""
WINDOW_SECONDS = 60.0
MAX_KINDS = 4096
"""Kinds whose rate is remembered, 1 MiB; a kind that was forgotten begins with a full burst again."""
MAX_WINDOWS = 512
"""Kinds that are summarised at a time, 4 MiB; events of further ones pass."""
MAX_NAME = 256
"""Characters of each part of a kind."""
HASHES = 128
"""Kept of each window's processes and resources; the estimate beyond them is off by 9 % (1 / sqrt(HASHES - 2))."""
EXAMPLES = 5
MAX_EXAMPLE = 256
HASH_BYTES = 8
_HASH = struct.Struct(">Q")
_LARGEST = 1 << 64


class Kind(NamedTuple):
    """What makes two events "the same again"."""

    stream: Stream
    policy: str
    namespace: str
    workload: str
    """The pod's controller, or the pod, or the node of an event outside of pods."""
    operation: str
    outcome: str

    def __str__(self) -> str:
        return "/".join(part or "-" for part in self)


def kind_of(stream: Stream, message: Any) -> Kind:
    """The kind of an event.

    Args:
        stream: alerts or logs.
        message: its Alert or Log.
    """
    owner, pod, host, namespace, operation, result = _PARTS(message)
    policy = message.PolicyName if stream is Stream.ALERTS else ""
    texts = (policy, namespace, owner or pod or host, operation, outcome_of(result))
    return Kind(stream, *[text[:MAX_NAME] for text in texts])


_PARTS = attrgetter("Owner.Name", "PodName", "HostName", "NamespaceName", "Operation", "Result")


class Distinct:
    """How many different texts were met, in bounded space: the k smallest hashes (Bar-Yossef and others, 2002).

    Exact up to `HASHES` texts, an estimate beyond.
    """

    __slots__ = ("_bound", "_hashes", "_met", "_written", "examples")

    def __init__(self, hashes: Iterable[int] = (), examples: Iterable[str] = ()) -> None:
        self._hashes = set(hashes)
        self._bound = max(self._hashes) if len(self._hashes) >= HASHES else _LARGEST
        """Hashes from here on say nothing new."""
        self._met: set[str] = set()
        """Texts that need not be hashed again."""
        self._written = ""
        self.examples = list(examples)
        """The first few."""

    def copy(self) -> Distinct:
        """One that can be changed without this one."""
        copied = Distinct((), self.examples)
        copied._hashes, copied._bound, copied._written = self._hashes.copy(), self._bound, self._written
        return copied

    def add(self, text: str) -> None:
        """Takes a text; empty ones say nothing."""
        if text in self._met or not text:
            return
        if len(self._met) < HASHES:
            self._met.add(text)
        self._take((_hash(text),), (text[:MAX_EXAMPLE],))

    def merge(self, other: Distinct) -> None:
        """Takes what another one has met."""
        self._take(other._hashes, other.examples)

    def _take(self, hashes: Iterable[int], examples: Iterable[str]) -> None:
        for number in hashes:
            if number < self._bound and number not in self._hashes:
                self._hashes.add(number)
                self._written = ""
                if len(self._hashes) > HASHES:
                    self._hashes.discard(max(self._hashes))
                if len(self._hashes) == HASHES:
                    self._bound = max(self._hashes)
        if len(self.examples) < EXAMPLES:
            fresh = dict.fromkeys(example for example in examples if example not in self.examples)
            self.examples = [*self.examples, *fresh][:EXAMPLES]

    def estimate(self) -> int:
        """How many different texts; exact where there were few."""
        few = len(self._hashes) < HASHES
        return len(self._hashes) if few else round((HASHES - 1) * _LARGEST / max(self._bound, 1))

    def written(self) -> str:
        """As JSON; made anew only where something has changed."""
        if not self._written:
            packed = b"".join(map(_HASH.pack, sorted(self._hashes)))
            self._written = json.dumps([base64.b64encode(packed).decode(), self.examples])
        return self._written


def _hash(text: str) -> int:
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big")


@dataclass(slots=True)
class Window:
    """What is known of the events of one kind that did not pass."""

    sample: bytes
    """Encoded message with the workload and the rule of the first one; empty for a kind whose window is open."""
    count: int = 0
    first_unix_nano: int = 0
    last_unix_nano: int = 0
    processes: Distinct = field(default_factory=Distinct)
    """Executables."""
    resources: Distinct = field(default_factory=Distinct)
    """Files, or peers of the network, by the kind's operation."""

    def add(self, unix_nano: int, process: str, resource: str) -> None:
        """Counts one event.

        Args:
            unix_nano: when it happened, or was received.
            process: the executable.
            resource: KubeArmor's Resource.
        """
        self._count(1, unix_nano, unix_nano)
        self.processes.add(process)
        self.resources.add(resource)

    def merge(self, later: Window) -> None:
        """Counts what another window has counted."""
        self._count(later.count, later.first_unix_nano, later.last_unix_nano)
        self.processes.merge(later.processes)
        self.resources.merge(later.resources)

    def _count(self, events: int, first: int, last: int) -> None:
        self.first_unix_nano = min(self.first_unix_nano, first) if self.count else first
        self.last_unix_nano = max(self.last_unix_nano, last)
        self.count += events

    def flood(self, kind: Kind) -> Flood:
        """The window as what becomes a record."""
        return Flood(
            stream=kind.stream,
            kind=str(kind),
            sample=self.sample,
            events=self.count,
            started_unix_nano=self.first_unix_nano,
            ended_unix_nano=self.last_unix_nano,
            processes=self.processes.estimate(),
            process_examples=tuple(self.processes.examples),
            resources=self.resources.estimate(),
            resource_examples=tuple(self.resources.examples),
        )

    def note(self, kind: Kind) -> str:
        """The window as text: JSON, put together by hand, as it is made for each turn."""
        head = json.dumps([list(kind), base64.b64encode(self.sample).decode()])
        counts = f"[{self.count},{self.first_unix_nano},{self.last_unix_nano}]"
        return f"[{head},{counts},{self.processes.written()},{self.resources.written()}]"


def _read(written: Any) -> Distinct:
    packed, examples = base64.b64decode(written[0]), [str(example) for example in written[1]]
    return Distinct([number for (number,) in _HASH.iter_unpack(packed)], examples)


def read_note(note: str) -> tuple[Kind, Window] | None:
    """The other way round; None where it is not what was written."""
    try:
        (names, sample), counts, processes, resources = json.loads(note)
        stream, *texts = names
        count, first, last = map(int, counts)
        window = Window(base64.b64decode(sample), count, first, last, _read(processes), _read(resources))
        return Kind(Stream(stream), *texts), window
    except (ValueError, TypeError, KeyError, IndexError, struct.error, binascii.Error):
        return None


class Staged(NamedTuple):
    """Windows as they will stand once they are written down."""

    open: dict[Kind, Window]
    """Those that have changed."""
    closed: dict[Kind, Window]
    """Those that become records."""

    def notes(self) -> dict[str, str]:
        """What is to be written down: the open ones, and nothing in place of the closed ones."""
        written = {NOTE + str(kind): window.note(kind) for kind, window in self.open.items()}
        return written | {NOTE + str(kind): "" for kind in self.closed}


class Floods:
    """Which events pass, and the windows of those that do not. Used by one thread.

    What one turn counts is in windows of its own; `stage` says what would stand then, `commit` makes it so: a turn that
    fails in between is repeated, and counts once.
    """

    def __init__(self, settings: FloodSettings, notes: Iterable[str] = (), *, now: float = 0.0) -> None:
        """Begins with the windows that an earlier life left.

        Args:
            settings: rate and burst.
            notes: what `Window.note` wrote.
            now: monotonic seconds.
        """
        self.windows: dict[Kind, tuple[float, Window]] = {}
        """Those that are open, with the monotonic time of their opening."""
        self._passing: OrderedDict[Kind, float] = OrderedDict()
        for kind, window in filter(None, map(read_note, notes)):
            self.windows[kind] = (now, window)
        self.change(settings)

    def change(self, settings: FloodSettings) -> None:
        """Goes by these settings from now on."""
        self.on = settings.rate_per_second > 0
        self._interval = 1 / settings.rate_per_second if self.on else 0.0
        self._tolerance = (settings.burst - 1) * self._interval
        self._passing.clear()

    def passes(self, kind: Kind, now: float) -> bool:
        """Whether one more event of the kind goes through as it is (the generic cell rate algorithm, ITU-T I.371)."""
        expected = max(self._passing.get(kind, now), now)
        if expected - now > self._tolerance:
            return kind not in self.windows and len(self.windows) >= MAX_WINDOWS
        self._passing[kind] = expected + self._interval
        self._passing.move_to_end(kind)
        if len(self._passing) > MAX_KINDS:
            self._passing.popitem(last=False)
        return True

    def stage(self, counted: Mapping[Kind, Window], now: float, *, close_all: bool = False) -> Staged:
        """What stands once this turn's windows are counted in; nothing is changed before `commit`.

        Args:
            counted: of this turn.
            now: monotonic seconds.
            close_all: at the end of a life.
        """
        staged = Staged({}, {})
        for kind in {**self.windows, **counted}:
            opened, window = self.windows.get(kind, (now, None))
            added = counted.get(kind)
            whole = window or Window(added.sample if added else b"")
            if added:
                whole = replace(whole, processes=whole.processes.copy(), resources=whole.resources.copy())
                whole.merge(added)
            if close_all or not self.on or now - opened >= WINDOW_SECONDS:
                staged.closed[kind] = whole
            elif added:
                staged.open[kind] = whole
        return staged

    def commit(self, staged: Staged, now: float) -> None:
        """Makes it so: closed windows are gone, the others stand as staged."""
        for kind in staged.closed:
            self.windows.pop(kind, None)
        for kind, window in staged.open.items():
            self.windows[kind] = (self.windows[kind][0] if kind in self.windows else now, window)
