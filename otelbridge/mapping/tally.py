"""Plain integers about what was mapped, for the metrics: counted by one thread, read by any."""

from __future__ import annotations

MAX_NODES = 10_000
MAX_ALERT_SERIES = 2_000
OTHER = "other"

AlertKind = tuple[str, str, str, str]
"""Operation, action, outcome, policy."""


class Tally:
    """Counts of oddities, alerts by kind, and when each node was last heard of. Bounded, whatever an event may hold."""

    __slots__ = ("_alert_series", "alerts", "lenient", "nodes", "raw", "sanitized", "truncated", "unknown_fields")

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
        self.alerts: dict[AlertKind, dict[str, int]] = {}
        """By kind, then by namespace. The part remembered for an alert's kind holds these counts and adds to them."""
        self._alert_series = 0
        self.nodes: dict[str, int] = {}
        """Node to the Unix time in nanoseconds at which its last event was received."""

    def counts(self, kind: AlertKind) -> dict[str, int]:
        """The counts of one kind of alert by namespace."""
        found = self.alerts.get(kind)
        if found is None:
            found = {}
            if len(self.alerts) < MAX_ALERT_SERIES:
                self.alerts[kind] = found
        return found

    def count_alert(self, namespace: str, kind: AlertKind) -> None:
        """One more alert of this kind; beyond 2,000 kinds and namespaces, of `other`."""
        counts = self.counts(kind)
        if namespace not in counts:
            if self._alert_series >= MAX_ALERT_SERIES or kind not in self.alerts:
                operation, action, outcome, _ = kind
                namespace, counts = OTHER, self.alerts.setdefault((operation, action, outcome, OTHER), {})
            self._alert_series += namespace not in counts
        counts[namespace] = counts.get(namespace, 0) + 1

    def admit_node(self, node: str) -> str:
        """The node's name, with room made for it: of too many nodes, the one silent longest is forgotten."""
        if node not in self.nodes and len(self.nodes) >= MAX_NODES:
            del self.nodes[min(self.nodes, key=self.nodes.__getitem__)]
        return node
