"""Plain integers about what was mapped, for the metrics: counted by one thread, read by any."""

from __future__ import annotations

MAX_NODES = 10_000
MAX_ALERT_SERIES = 2_000
OTHER = "other"

AlertKey = tuple[str, tuple[str, str, str, str]]
"""Namespace; operation, action, outcome, policy."""


class Tally:
    """Counts of oddities, alerts by kind, and when each node was last heard of. Bounded, whatever an event may hold."""

    __slots__ = ("alerts", "lenient", "nodes", "raw", "sanitized", "truncated", "unknown_fields")

    def __init__(self) -> None:
        self.truncated = 0
        """Events of which something was cut."""
        self.sanitized = 0
        """Events with texts that had to be mended: not UTF-8, or zero bytes in them."""
        self.unknown_fields = 0
        """Fields of a newer KubeArmor, carried as they are."""
        self.lenient = 0
        """Events decoded leniently."""
        self.raw = 0
        """Events that travel as bytes."""
        self.alerts: dict[AlertKey, int] = {}
        self.nodes: dict[str, int] = {}
        """Node to the Unix time in nanoseconds at which its last event was received."""

    def count_alert(self, key: AlertKey) -> None:
        """One more alert of this kind; beyond 2,000 kinds, of `other`."""
        alerts = self.alerts
        if key in alerts:
            alerts[key] += 1
            return
        if len(alerts) >= MAX_ALERT_SERIES:
            _, (operation, action, outcome, _) = key
            key = (OTHER, (operation, action, outcome, OTHER))
        alerts[key] = alerts.get(key, 0) + 1

    def admit_node(self, node: str) -> str:
        """The node's name, with room made for it: of too many nodes, the one silent longest is forgotten."""
        if node not in self.nodes and len(self.nodes) >= MAX_NODES:
            del self.nodes[min(self.nodes, key=self.nodes.__getitem__)]
        return node
