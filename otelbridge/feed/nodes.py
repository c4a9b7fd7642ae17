"""Keeps which nodes were heard behind an upstream, and which of them are unusually silent.

A relay says nothing of its links to the nodes: when one is gone its streams stay open and quiet. All that can be seen
is that a node which used to speak no longer does. Nothing says whether a silence means that nothing happened or that
nobody was heard. So the longest silence of the present run of events is compared with the one that goes on: four times
as long is unusual. What was found unusual but was short is not learnt, so that a second outage is noticed as well as
the first. What lasted for minutes, or was not followed by as many events as before, ends the run: the evening has come,
and the next one has to prove itself longer. Times are passed in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from otelbridge.event import Gap, GapCause

NANOSECONDS = 1_000_000_000

UNUSUAL_FACTOR = 4.0
"""A silence is unusual when it is so many times the longest of the run."""
SOUND_SECONDS = 0.5
"""What is heard within this time is one sound."""
SETTLED_SOUNDS = 30
"""So many sounds make a run that can be judged by: of random events, the next pause is four times the longest of 30
with a probability of 1 in 46,376."""
FORGET_SOUNDS = 200
"""After so many sounds the longest silence counts half."""
RUN_SECONDS = 20.0
"""A first run is believed after so long."""
LONGEST_RUN_SECONDS = 3600.0
"""Whatever runs have ended by themselves, one of an hour is believed."""
QUIET_SECONDS = 120.0
"""An unusual silence as long as this ends the run: an outage of a node is shorter, an evening longer."""
RESUMED_SOUNDS = 10
"""After an outage it goes on as before: an unusual silence after fewer sounds means that the habit has changed."""
MAX_STRIKES = 6
"""So many short unusual silences, less one an hour, are a habit after all."""
MAX_STRIKES_SECONDS = 3600.0


class Habit:
    """The silences of one speaker: a node, or an upstream as a whole. All times are Unix time in nanoseconds.

    Args:
        unix_nano: when it was heard first.
        floor_seconds: a silence that is shorter is never unusual.
    """

    __slots__ = (
        "_excused_from",
        "_excused_nano",
        "_excused_until",
        "_floor",
        "_longest",
        "_needed",
        "_run_from",
        "_sounded",
        "_sounds",
        "_sounds_since",
        "_strikes",
        "_struck",
        "last_unix_nano",
    )

    def __init__(self, unix_nano: int, *, floor_seconds: float) -> None:
        self.last_unix_nano = unix_nano
        self._floor = floor_seconds
        self._excused_nano = 0
        """What excuses before the latest one take of the present silence."""
        self._excused_from = self._excused_until = 0
        self._run_from = unix_nano
        self._sounds = 0
        self._sounds_since = RESUMED_SOUNDS
        self._sounded = unix_nano
        self._longest = 0.0
        self._needed = RUN_SECONDS
        self._strikes = 0.0
        self._struck = unix_nano

    def heard(self, unix_nano: int) -> bool:
        """It was heard at this time. Whether the silence before was unusual, and is worth a record."""
        if unix_nano <= self.last_unix_nano:
            return False
        silence, unusual = self._silence(unix_nano), self.unusual(unix_nano)
        run = (self.last_unix_nano - self._run_from) / NANOSECONDS
        self.last_unix_nano, self._excused_nano = unix_nano, 0
        if unix_nano - self._sounded >= SOUND_SECONDS * NANOSECONDS:
            self._sounded = unix_nano
            self._sounds += 1
            self._sounds_since += 1
            self._longest *= 0.5 ** (1 / FORGET_SOUNDS)
        if not unusual:
            if self._is_settled and silence > self._limit:
                self._begin_run(unix_nano)  # the run was too young to be judged by, and has ended by itself
            else:
                self._longest = max(self._longest, silence)
            return False
        resumed, self._sounds_since = self._sounds_since >= RESUMED_SOUNDS, 0
        if silence >= QUIET_SECONDS or not resumed:
            self._needed = min(max(self._needed, 2 * run), LONGEST_RUN_SECONDS)
            self._begin_run(unix_nano)
        if resumed and self._is_habit(unix_nano):
            self._longest = max(self._longest, silence)
            return False
        return resumed

    def unusual(self, unix_nano: int) -> bool:
        """Whether its silence up to this time is unusual."""
        believed = (self.last_unix_nano - self._run_from) / NANOSECONDS >= self._needed
        return believed and self._is_settled and self._silence(unix_nano) > self._limit

    def excuse(self, started_unix_nano: int, ended_unix_nano: int) -> None:
        """It could not be heard in this time, which may reach into the future: that does not count as its silence."""
        if started_unix_nano > self._excused_until:
            self._excused_nano += self._excused_within(self._excused_until)
            self._excused_from, self._excused_until = started_unix_nano, ended_unix_nano
        else:
            self._excused_from = min(self._excused_from, started_unix_nano)
            self._excused_until = max(self._excused_until, ended_unix_nano)

    def _silence(self, unix_nano: int) -> float:
        excused = self._excused_nano + self._excused_within(unix_nano)
        return (unix_nano - self.last_unix_nano - excused) / NANOSECONDS

    def _excused_within(self, unix_nano: int) -> int:
        """What the latest excuse takes of the silence up to this time."""
        return max(0, min(unix_nano, self._excused_until) - max(self.last_unix_nano, self._excused_from))

    @property
    def _is_settled(self) -> bool:
        return self._sounds >= SETTLED_SOUNDS

    @property
    def _limit(self) -> float:
        return max(self._floor, UNUSUAL_FACTOR * self._longest)

    def _begin_run(self, unix_nano: int) -> None:
        self._run_from, self._sounds, self._longest = unix_nano, 0, 0.0

    def _is_habit(self, unix_nano: int) -> bool:
        forgiven = (unix_nano - self._struck) / NANOSECONDS / MAX_STRIKES_SECONDS
        self._strikes, self._struck = max(0.0, self._strikes - forgiven) + 1, unix_nano
        return self._strikes > MAX_STRIKES


SILENT_MIN_SECONDS = 8.0
"""A shorter silence means nothing. A relay that has lost a node comes back to it after 5 s."""
FORGET_SECONDS = 86_400.0
"""A node that was silent for a day is put on record and forgotten: it may have left the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentNode:
    """A node that used to speak and does not."""

    upstream: str
    node: str
    last_event_unix_nano: int


@dataclass(slots=True)
class _Node:
    name: str
    habit: Habit
    told: bool = False
    """Its present silence has been told."""


class NodeRoster:
    """When each node was last heard, for a bounded number of nodes. Thread-safe.

    A node has one name: KubeArmor's own messages carry the host's, cut at the first dot, alerts and logs the node's.
    """

    def __init__(self, max_nodes: int = 1000) -> None:
        self.max_nodes = max_nodes
        """Changed by a reload."""
        self._lock = threading.Lock()
        self._nodes: OrderedDict[tuple[str, str], _Node] = OrderedDict()
        """By upstream and name; least recently heard first."""
        self._full_names: dict[tuple[str, str], set[str]] = {}
        """By upstream and first label: the names with a dot that begin with it."""
        self.forgotten = 0
        """Nodes that had to make room: no longer zero means that the bound is too small for this cluster."""

    def heard(self, upstream: str, seen: Mapping[str, int]) -> list[Gap]:
        """Nodes sent events through this upstream.

        Args:
            upstream: which.
            seen: by node, the Unix time in nanoseconds at which its last event was received.

        Returns:
            The silences that have ended so and were unusual.
        """
        with self._lock:
            gaps = (self._heard(upstream, node, unix_nano) for node, unix_nano in seen.items() if node)
            return [gap for gap in gaps if gap is not None]

    def excuse(self, gap: Gap) -> None:
        """The upstream could not be watched for a while, which is on record: its nodes were not silent then."""
        with self._lock:
            for (upstream, _), node in self._nodes.items():
                if upstream == gap.upstream:
                    node.habit.excuse(gap.started_unix_nano, gap.ended_unix_nano)

    def fallen_silent(self, now_unix_nano: int) -> list[SilentNode]:
        """The nodes that are silent against their habit and were not handed out since: each silence is told once."""
        with self._lock:
            fresh = [(key, node) for key, node in self._silent(now_unix_nano) if not node.told]
            for _, node in fresh:
                node.told = True
            return [_as_silent(key, node) for key, node in fresh]

    def departed(self, now_unix_nano: int) -> list[Gap]:
        """Silences of a day: they are put on record, and the nodes forgotten."""
        with self._lock:
            horizon = now_unix_nano - int(FORGET_SECONDS * NANOSECONDS)
            gone = [(key, node) for key, node in self._silent(now_unix_nano) if node.habit.last_unix_nano < horizon]
            gaps = [_gap(key[0], node, now_unix_nano, "It is not expected any more.") for key, node in gone]
            for key, _ in gone:
                self._forget(key)
            return gaps

    def forget_upstream(self, upstream: str, now_unix_nano: int) -> list[Gap]:
        """An upstream is no longer subscribed to, so its nodes are not expected any more; the silences that go on."""
        with self._lock:
            silent = [node for key, node in self._silent(now_unix_nano) if key[0] == upstream]
            for key in [key for key in self._nodes if key[0] == upstream]:
                self._forget(key)
            return [_gap(upstream, node, now_unix_nano, "It went on when the subscription ended.") for node in silent]

    def last_seen(self) -> dict[tuple[str, str], int]:
        """Upstream and node to the Unix time in nanoseconds of the last event."""
        with self._lock:
            return {key: node.habit.last_unix_nano for key, node in self._nodes.items()}

    def of_upstream(self, upstream: str, now_unix_nano: int) -> tuple[int, tuple[str, ...]]:
        """How many nodes are known behind an upstream, and the names of those that are silent."""
        with self._lock:
            known = sum(1 for key in self._nodes if key[0] == upstream)
            return known, tuple(node.name for key, node in self._silent(now_unix_nano) if key[0] == upstream)

    def _heard(self, upstream: str, name: str, unix_nano: int) -> Gap | None:
        key = self._key(upstream, name)
        if key is None or not self.max_nodes:
            return None
        node = self._nodes.get(key)
        if node is None:
            self._make_room()
            self._nodes[key] = _Node(key[1], Habit(unix_nano, floor_seconds=SILENT_MIN_SECONDS))
            return None
        silent_since = node.habit.last_unix_nano
        if unix_nano <= silent_since:
            return None
        unusual, node.told = node.habit.heard(unix_nano), False
        self._nodes.move_to_end(key)
        return _gap(upstream, node, unix_nano, "", since_unix_nano=silent_since) if unusual else None

    def _key(self, upstream: str, name: str) -> tuple[str, str] | None:
        """The node that goes by this name; None where two nodes could."""
        label, dot, _ = name.partition(".")
        names = self._full_names.get((upstream, label))
        if not dot:
            if not names:
                return upstream, name
            return (upstream, next(iter(names))) if len(names) == 1 else None
        if names is None or name not in names:
            self._full_names.setdefault((upstream, label), set()).add(name)
            short = self._nodes.pop((upstream, label), None)
            if short is not None and names is None:
                short.name = name
                self._nodes[upstream, name] = short
        return upstream, name

    def _silent(self, now_unix_nano: int) -> list[tuple[tuple[str, str], _Node]]:
        return [(key, node) for key, node in self._nodes.items() if node.habit.unusual(now_unix_nano)]

    def _make_room(self) -> None:
        while len(self._nodes) >= self.max_nodes:
            self._forget(next(iter(self._nodes)))
            self.forgotten += 1

    def _forget(self, key: tuple[str, str]) -> None:
        del self._nodes[key]
        upstream, name = key
        label = upstream, name.partition(".")[0]
        if names := self._full_names.get(label):
            names.discard(name)
            if not names:
                del self._full_names[label]


def _as_silent(key: tuple[str, str], node: _Node) -> SilentNode:
    return SilentNode(upstream=key[0], node=key[1], last_event_unix_nano=node.habit.last_unix_nano)


def _gap(upstream: str, node: _Node, ended: int, detail: str, *, since_unix_nano: int | None = None) -> Gap:
    return Gap(
        stream=None,
        upstream=upstream,
        cause=GapCause.NODE_SILENT,
        started_unix_nano=node.habit.last_unix_nano if since_unix_nano is None else since_unix_nano,
        ended_unix_nano=ended,
        node=node.name,
        detail=detail,
        suspected=True,
    )
