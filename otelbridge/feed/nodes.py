"""Keeps which nodes were heard behind an upstream, and which of them are unusually silent.

A relay says nothing of its links to the nodes: when one is gone its streams stay open and quiet. All that can be seen
is that a node which used to speak no longer does.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from otelbridge.event import Gap, GapCause
from otelbridge.feed.habit import NANOSECONDS, Habit

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
        self._max_nodes = max_nodes
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
        if key is None:
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
        if len(self._nodes) >= self._max_nodes:
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
