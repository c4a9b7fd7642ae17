"""The data types of the mapping: what is cached for each group of fields.

`parts.py` works them out, `record_encoder.py` joins them. Slots are read in less than half the time of a named tuple's
fields, and an event reads some twenty. Nobody changes a part; to freeze them would cost 3 µs for each new event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from otelbridge import clamp
from otelbridge.event import NANOSECONDS

Held: TypeAlias = "str | int | tuple[str, ...]"


class Values(dict[str, Any]):
    """The fields of one group by their names.

    A field that the event's message type does not have reads as empty: alerts and logs share their code.
    """

    def __missing__(self, name: str) -> str:
        return ""

    def canonical(self, without: str = "") -> list[tuple[str, Held]]:
        """The non-empty fields but one, sorted: a new field changes nothing for events that lack it."""
        return sorted([pair for pair in self.items() if pair[1] and pair[0] != without])


class Weighed(Protocol):
    """A cache entry: about how many bytes it and its key take; 0 where it is not worth keeping."""

    @property
    def weight(self) -> int:
        """In bytes."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Weighed)


ROOM_FOR_ALL = 8  # this part of a memo's entries is for whatever comes


class Memo(Generic[K, V]):
    """A bounded cache of two generations: a full young one becomes the old one, and a hit there moves back.

    An LRU would move an entry at every hit; this costs one dictionary look-up per hit. `recall(key) or learn(key)` is
    how to ask. Bounded both in entries and in bytes, because keys are texts that an attacker can choose. Once an eighth
    of the room is taken, only what is asked for twice is kept, so that a flood of what never comes again pushes nothing
    out and fills nothing.
    """

    __slots__ = ("_make", "_max_bytes", "_max_entries", "_met", "_old", "_young", "_young_bytes", "recall")

    def __init__(self, make: Callable[..., V], max_entries: int, max_bytes: int) -> None:
        self._make = make
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._young_bytes = 0
        self._met: set[int] = set()
        self.recall: Callable[[K], V | None] = self._young.get  # bound to a dictionary that is never replaced

    def learn(self, key: K, *context: Any) -> V:
        """The value from the old generation, or what `make` makes of the key and a context that follows from it."""
        value = self._old.pop(key, None)
        if value is None:
            value = self._make(key, *context)
            if not value.weight or (len(self._young) >= self._max_entries // ROOM_FOR_ALL and self._is_new(key)):
                return value
        if len(self._young) >= self._max_entries or self._young_bytes + value.weight > self._max_bytes:
            self._old = self._young.copy()
            self._young.clear()
            self._young_bytes = 0
        self._young[key] = value
        self._young_bytes += value.weight
        return value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _is_new(self, key: K) -> bool:
        """Whether the key is met for the first time, as far as is remembered."""
        number = hash(key)
        if number in self._met:
            self._met.discard(number)
            return False
        if len(self._met) >= self._max_entries:
            self._met.clear()
        self._met.add(number)
        return True


MAX_NODES = 10_000
MAX_ALERT_SERIES = 2_000
"""Kinds of alerts times workloads that are counted apart: the limit of OpenTelemetry's own SDKs."""

AlertKind = tuple[str, str, str, str]
"""Operation, action, outcome, policy; the first three are of small fixed vocabularies."""
Workload = tuple[str, str]
"""Namespace and name of a workload; both empty for a node's own events."""


class AlertCount(NamedTuple):
    """How many alerts of a kind there were."""

    workload: Workload | None
    """None: of all workloads and policies that are not counted apart."""
    kind: AlertKind
    alerts: int


class MappingCounts:
    """Counts of what was unusual, alerts by kind, and when each node was last heard of. Bounded, whatever is sent."""

    __slots__ = (
        "_alert_series",
        "alerts",
        "alerts_by_policy",
        "beyond",
        "keeps_last",
        "last",
        "nodes",
        "overflow",
        "raw",
        "sanitized",
        "truncated",
        "unknown_fields",
    )

    def __init__(self, *, alerts_by_policy: bool = False, keeps_last: bool = False) -> None:
        self.alerts_by_policy = alerts_by_policy
        """Whether alerts of different policies are of different kinds."""
        self.keeps_last = keeps_last
        """Whether somebody asks for `last`."""
        self.truncated = 0
        """Events of which something was cut."""
        self.sanitized = 0
        """Events with texts that had to be mended: not UTF-8, or zero bytes in them."""
        self.unknown_fields = 0
        """Fields of a newer KubeArmor, carried as they are."""
        self.raw = 0
        """Events that travel as bytes."""
        self.alerts: dict[AlertKind, dict[Workload, int]] = {}
        """By kind, then by workload. The part remembered for an alert's kind holds these counts and adds to them."""
        self.overflow: dict[AlertKind, int] = {}
        """Alerts beyond MAX_ALERT_SERIES, by kind without its policy."""
        self.beyond: dict[tuple[str, str], int] = {}
        """The same by namespace and policy, so many pairs at most; they are heard of all the same."""
        self._alert_series = 0
        self.last: tuple[str, Workload, AlertKind] = ("", ("", ""), ("", "", "", ""))
        """Node, workload and kind of the event that was mapped last."""
        self.nodes: dict[str, int] = {}
        """Node to the Unix time in nanoseconds at which its last event was received."""

    def counts(self, kind: AlertKind) -> dict[Workload, int]:
        """The counts of one kind of alert by workload."""
        found = self.alerts.get(kind)
        if found is None:
            found = {}
            if len(self.alerts) < MAX_ALERT_SERIES:
                self.alerts[kind] = found
        return found

    def count_alert(self, workload: Workload, kind: AlertKind) -> None:
        """One more alert of this kind; of a workload that is met after MAX_ALERT_SERIES, it is overflow."""
        counts = self.counts(kind)
        if workload in counts:
            counts[workload] += 1
        elif self._alert_series < MAX_ALERT_SERIES and kind in self.alerts:
            counts[workload] = 1
            self._alert_series += 1
        else:
            without_policy = (*kind[:3], "")
            self.overflow[without_policy] = self.overflow.get(without_policy, 0) + 1
            where = (workload[0], kind[3])
            if where in self.beyond or len(self.beyond) < MAX_ALERT_SERIES:
                self.beyond[where] = self.beyond.get(where, 0) + 1

    def uncount_alert(self) -> None:
        """The alert that was mapped last is the copy of one that was counted."""
        _, workload, kind = self.last
        counts = self.counts(kind)
        if workload in counts:
            counts[workload] -= 1
        else:
            self.overflow[*kind[:3], ""] -= 1

    def alert_counts(self) -> list[AlertCount]:
        """Alerts so far, at most MAX_ALERT_SERIES and one for each operation, action and outcome."""
        apart = [
            AlertCount(workload, kind, count)
            for kind, counts in self.alerts.copy().items()
            for workload, count in counts.copy().items()
        ]
        return apart + [AlertCount(None, kind, count) for kind, count in self.overflow.copy().items()]

    def take_nodes(self) -> dict[str, int]:
        """The nodes of the events since the last call, each with its last receipt (Unix time in nanoseconds)."""
        nodes = self.nodes.copy()
        self.nodes.clear()
        nodes.pop("", None)
        return nodes

    def admit_node(self, node: str) -> str:
        """The node's name, with room made for it: of too many nodes, the one silent longest is forgotten."""
        if node not in self.nodes and len(self.nodes) >= MAX_NODES:
            del self.nodes[min(self.nodes, key=self.nodes.__getitem__)]
        return node


MICROSECOND = 1_000
_NANOSECOND_DIGITS = 9
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant:
    """Reads UpdatedTime, whose layout is fixed: `2006-01-02T15:04:05.000000Z`. Events of one second share its parse."""

    __slots__ = ("second", "second_unix", "second_unix_nano")

    def __init__(self) -> None:
        self.second = "?"
        """The last second read, with the dot behind it."""
        self.second_unix = self.second_unix_nano = 0

    def unix_nano(self, updated: str, timestamp: int) -> int:
        """The time of the event, by UpdatedTime, else by Timestamp, in seconds; 0 where neither tells it."""
        second, micros = updated[:20], updated[20:26]
        if updated[26:] == "Z" and micros.isdecimal() and (second == self.second or self._parse(second)):
            return self.second_unix_nano + int(micros) * MICROSECOND
        return self._otherwise(updated, timestamp)

    def odd(self, updated: str, timestamp: int, unix_nano: int) -> list[tuple[str, str | int]]:
        """What the two fields say beyond the time that was made of them, as attributes."""
        pairs: list[tuple[str, str | int]] = []
        if timestamp and timestamp != unix_nano // NANOSECONDS:
            pairs.append(("kubearmor.timestamp", timestamp))
        if updated and not self._otherwise(updated, 0):
            pairs.append(("kubearmor.updated_time", updated))
        return pairs

    def _parse(self, second: str) -> bool:
        whole = _whole_seconds(second[:19] + "+00:00") if second[19] == "." else None
        if whole is None:
            return False
        self.second, self.second_unix, self.second_unix_nano = second, whole, whole * NANOSECONDS
        return True

    def _otherwise(self, updated: str, timestamp: int) -> int:
        """Any other RFC 3339 text, to the nanosecond; else the seconds."""
        found = _RFC_3339.fullmatch(updated)
        whole = _whole_seconds(found[1] + (found[3] or "+00:00")) if found else None
        if found and whole is not None:
            return whole * NANOSECONDS + int((found[2] or "")[:_NANOSECOND_DIGITS].ljust(_NANOSECOND_DIGITS, "0"))
        nano = timestamp * NANOSECONDS
        return nano if 0 < nano <= clamp.MAX_UNIX_NANO else 0


def _whole_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = (moment - _EPOCH).days * 86_400 + (moment - _EPOCH).seconds
    return seconds if 0 <= seconds < clamp.MAX_UNIX_NANO // NANOSECONDS else None


Known: TypeAlias = dict[str, str]
"""Entries of EventData."""


@dataclass(slots=True, kw_only=True, eq=False)
class WorkloadPart:
    """Where it happened."""

    resource: bytes
    attributes: bytes
    where: bytes
    digest: bytes
    node: str
    workload: Workload
    """As alerts are counted by."""
    weight: int


@dataclass(slots=True, kw_only=True, eq=False)
class RulePart:
    """What KubeArmor says about it."""

    head: bytes
    """Severity, its text and the event name: fields of the LogRecord."""
    attributes: bytes
    before: bytes
    after: bytes
    digest: bytes
    operation: str
    """As KubeArmor wrote it."""
    kind: AlertKind
    counts: dict[Workload, int]
    """Of this kind of alert."""
    weight: int


@dataclass(slots=True, kw_only=True, eq=False)
class ProcessPart:
    """Who did it."""

    attributes: bytes
    parent: str
    by_executable: bytes
    by_parent: bytes
    digest: bytes
    weight: int


@dataclass(slots=True, kw_only=True, eq=False)
class DetailPart:
    """How it was seen."""

    attributes: bytes
    role: str
    """One of `fields.py`'s."""
    pairs: dict[str, str]
    """What Data holds."""
    known: Known
    """The EventData that says nothing new."""
    weight: int


@dataclass(slots=True, kw_only=True, eq=False)
class TouchedPart:
    """What was touched, where only Data and Resource together tell."""

    attributes: bytes
    known: Known
    """The EventData that says nothing new."""
    weight: int


@dataclass(slots=True, kw_only=True, eq=False)
class TemplatePart:
    """How a Network event of a known template was seen, but for its one new word."""

    attributes: bytes
    known: Known
    """The EventData that says nothing new, but for the word's."""
    weight: int
