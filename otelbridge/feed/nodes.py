"""Which nodes speak through an upstream and which have fallen silent while others speak. Pure: time comes in.

A relay does not say when its link to a node is dead, and the stream stays open and quiet. All that can be seen is that
a node which used to speak no longer does. A node is called silent when its silence is many times longer than its own
habit, and only while other nodes behind the same upstream speak: when all are silent, the connection is the question.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

NANOSECONDS = 1_000_000_000

SILENT_FACTOR = 20
"""Silence of so many times a node's usual pause. Pauses vary wildly, so the factor is wide."""

SILENT_MIN_SECONDS = 300.0
"""Shorter silences mean nothing, whatever the habit."""

SILENT_MIN_SIGHTINGS = 10
"""A node that spoke less often than this has no habit to go by."""

PAUSE_MEMORY = 0.1
"""Weight of the newest pause in the mean."""

OTHERS_SPOKE_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentNode:
    """A node that fed before and is silent while others flow."""

    upstream: str
    node: str
    last_event_unix_nano: int
    usual_pause_seconds: float


@dataclass(slots=True)
class _Sightings:
    last_unix_nano: int
    count: int = 1
    mean_pause_seconds: float = 0.0
    reported: bool = False
    """Its present silence has been handed out by `fallen_silent`."""


class NodeRoster:
    """When each node was last seen, for a bounded number of nodes. Fed and asked by one thread; sizes read by any."""

    def __init__(self, max_nodes: int = 1000) -> None:
        self._max_nodes = max_nodes
        self._nodes: OrderedDict[tuple[str, str], _Sightings] = OrderedDict()
        """Least recently seen first."""
        self._counts: dict[str, int] = {}
        self.forgotten = 0
        """Nodes that had to make room: no longer zero means that the bound is too small for this cluster."""

    def saw(self, node: str, unix_nano: int, *, upstream: str = "") -> None:
        """The latest event of this node was received at this time. What is not news changes nothing."""
        key = (upstream, node)
        sightings = self._nodes.get(key)
        if sightings is None:
            self._make_room()
            self._nodes[key] = _Sightings(unix_nano)
            self._counts[upstream] = self._counts.get(upstream, 0) + 1
            return
        if unix_nano <= sightings.last_unix_nano:
            return
        pause = (unix_nano - sightings.last_unix_nano) / NANOSECONDS
        weight = max(PAUSE_MEMORY, 1 / sightings.count)
        sightings.mean_pause_seconds += weight * (pause - sightings.mean_pause_seconds)
        sightings.last_unix_nano = unix_nano
        sightings.count += 1
        sightings.reported = False
        self._nodes.move_to_end(key)

    def last_seen(self) -> dict[tuple[str, str], int]:
        """Upstream and node to the Unix time in nanoseconds of the last event."""
        return {key: sightings.last_unix_nano for key, sightings in list(self._nodes.items())}

    def count(self, upstream: str = "") -> int:
        """Nodes known behind an upstream."""
        return self._counts.get(upstream, 0)

    def fallen_silent(self, now_unix_nano: int) -> list[SilentNode]:
        """Those of the silent nodes that were not handed out since they fell silent: each silence is told once."""
        fresh = [
            silent for silent in self.silent(now_unix_nano) if not self._nodes[silent.upstream, silent.node].reported
        ]
        for silent in fresh:
            self._nodes[silent.upstream, silent.node].reported = True
        return fresh

    def silent(self, now_unix_nano: int) -> list[SilentNode]:
        """The nodes that are silent now, while another node behind the same upstream spoke within the last minute."""
        nodes = list(self._nodes.items())
        lately = now_unix_nano - OTHERS_SPOKE_WITHIN_SECONDS * NANOSECONDS
        speaking = {upstream for (upstream, _), sightings in nodes if sightings.last_unix_nano >= lately}
        return [
            SilentNode(
                upstream=upstream,
                node=node,
                last_event_unix_nano=sightings.last_unix_nano,
                usual_pause_seconds=sightings.mean_pause_seconds,
            )
            for (upstream, node), sightings in nodes
            if upstream in speaking and _is_silent(sightings, now_unix_nano)
        ]

    def forget_upstream(self, upstream: str) -> None:
        """An upstream is no longer subscribed to; its nodes are not expected any more."""
        for key in [key for key in self._nodes if key[0] == upstream]:
            del self._nodes[key]
        self._counts.pop(upstream, None)

    def _make_room(self) -> None:
        if len(self._nodes) >= self._max_nodes:
            (upstream, _), _ = self._nodes.popitem(last=False)
            self._counts[upstream] -= 1
            self.forgotten += 1


def _is_silent(sightings: _Sightings, now_unix_nano: int) -> bool:
    silence = (now_unix_nano - sightings.last_unix_nano) / NANOSECONDS
    habit = max(SILENT_MIN_SECONDS, SILENT_FACTOR * sightings.mean_pause_seconds)
    return sightings.count >= SILENT_MIN_SIGHTINGS and silence > habit
