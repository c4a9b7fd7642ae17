"""What the endpoints have answered, from what was told: for metrics and the status page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from otelbridge.telemetry import events as h

NANOSECONDS = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class DeliveryMirror:
    """What one endpoint has answered."""

    endpoint: str
    state: str = "idle"
    since_unix_nano: int
    delay_seconds: float = 0.0
    requests: int = 0
    records: int = 0
    rejected: int = 0
    last_accepted_unix_nano: int | None = None
    code: str = ""
    why: str = ""


class States:
    """All mirrors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deliveries: dict[str, DeliveryMirror] = {}

    def apply(self, happening: h.Event, unix_nano: int) -> list[h.Event]:
        """Moves the mirrors; returns what follows from it, to be told as well."""
        with self._lock:
            match happening:
                case h.BatchAccepted() | h.DeliveryDelayed() | h.DeliveryHeld() | h.BatchSplit() | h.BatchRefused():
                    return list(self._delivery(happening, unix_nano))
                case _:
                    return []

    def deliveries(self) -> list[DeliveryMirror]:
        """A copy of each mirror."""
        with self._lock:
            return [replace(delivery) for delivery in self._deliveries.values()]

    def _delivery(
        self,
        told: h.BatchAccepted | h.DeliveryDelayed | h.DeliveryHeld | h.BatchSplit | h.BatchRefused,
        now: int,
    ) -> Iterator[h.Event]:
        mirror = self._deliveries.get(told.endpoint)
        if mirror is None:
            mirror = self._deliveries[told.endpoint] = DeliveryMirror(endpoint=told.endpoint, since_unix_nano=now)
        mirror.requests += 1
        before, since = mirror.state, mirror.since_unix_nano
        match told:
            case h.BatchAccepted():
                mirror.state, mirror.delay_seconds, mirror.code, mirror.why = "delivering", 0.0, "", told.message
                mirror.records += told.records - told.rejected
                mirror.rejected += told.rejected
                mirror.last_accepted_unix_nano = now
            case h.BatchRefused():
                mirror.rejected += told.records
                mirror.code, mirror.why = told.code, told.why
            case h.BatchSplit():
                mirror.why = told.why
            case _:
                mirror.state = "held" if isinstance(told, h.DeliveryHeld) else "delayed"
                mirror.delay_seconds, mirror.code, mirror.why = told.delay_seconds, told.code, told.why
        if mirror.state != before:
            mirror.since_unix_nano = now
            if mirror.state == "delivering" and before in {"delayed", "held"}:
                yield h.DeliveryResumed(endpoint=told.endpoint, away_seconds=round((now - since) / NANOSECONDS, 3))
