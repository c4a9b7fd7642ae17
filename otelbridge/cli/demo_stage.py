"""The demo's stage: a simulated KubeArmor, a bridge and an OTLP endpoint on free ports, joined; figures out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from otelbridge.bridge import Bridge
from otelbridge.cli.ledger import of_queue
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.settings.load import Loaded, load
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_inbox import attributes
from otelbridge.simulator.event_stamp import stamp_time
from otelbridge.simulator.pace import Pace, publish_at_pace
from otelbridge.simulator.relay import Relay
from otelbridge.simulator.sources import GENERATED, EventSource, SourcedEvent
from otelbridge.status.document import LedgerDocument
from otelbridge.telemetry.happenings import Happening
from otelbridge.telemetry.ledger import Account

GAP_EVENT = "otelbridge.gap"
UID = "log.record.uid"
PATIENCE_SECONDS = 20.0
"""Longest wait for something that takes a moment on an idle machine."""
POLL_SECONDS = 0.02

# Waits of a minute are right in production, and too long for somebody who watches.
SHORT_LADDERS = ("feed.retry.max_seconds=2", "send.retry_initial_seconds=0.5", "send.retry_max_seconds=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What can be seen at one instant."""

    published: int
    """Events that KubeArmor was given."""
    received: int
    held: int
    delivered: int
    arrived: int
    """Records that the endpoint took, those about gaps included."""
    gaps: int
    """Stretches of blindness recorded so far."""
    state: str
    """Of the subscription."""
    endpoint_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it all."""

    ledger: LedgerDocument
    published: int
    arrived_events: int
    """Distinct events at the endpoint."""
    arrived_gaps: int
    duplicates: int
    spans: int
    metrics: int

    @property
    def passed(self) -> bool:
        """The ledger balances, every event arrived, and the blindness is on record."""
        return self.ledger["balanced"] and self.arrived_events == self.published and self.arrived_gaps > 0


class Stage:
    """Everything is running between entering and leaving. `played` may be called once, by any thread."""

    def __init__(self, directory: Path, *, observer: Callable[[Happening], None], per_second: float) -> None:
        self._directory = directory
        self.relay = Relay()
        self.endpoint = OtlpEndpoint()
        self.endpoint_up = True
        self._events = iter(EventSource(GENERATED, streams=UPSTREAM_STREAMS))
        self._per_second = per_second
        self._stop = threading.Event()
        self.relay.start()
        self.bridge = Bridge(_settings(directory, self.relay.endpoint, self.endpoint.grpc_endpoint), observer=observer)
        self._bridge_thread = threading.Thread(target=self.bridge.run, args=(self._stop,), name="demo-bridge")

    def __enter__(self) -> Self:
        self._bridge_thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        self.relay.stop()
        self.endpoint.close()

    def publish(self, seconds: float, until: threading.Event) -> None:
        """Events flow for so long."""

        def publish(event: SourcedEvent) -> None:
            stamp_time(event.message, time.time_ns())
            self.relay.publish(event.stream, event.message)

        pace = Pace(per_second=self._per_second, duration_seconds=seconds)
        publish_at_pace(self._events, publish, pace, until=until)

    def drain(self) -> None:
        """The bridge stops reading, delivers what it holds, and ends."""
        self._stop.set()
        self._bridge_thread.join()

    def figures(self) -> Figures:
        """What can be seen now."""
        ledger, held = self.bridge.rooms.queue.balance()
        received = sum(ledger.total(stream, Account.RECEIVED) for stream in UPSTREAM_STREAMS)
        delivered = sum(ledger.total(stream, Account.DELIVERED) for stream in UPSTREAM_STREAMS)
        gaps = ledger.total(Stream.GAPS, Account.RECEIVED)
        subscriptions = self.bridge.rooms.feed.subscriptions()
        return Figures(
            published=self.relay.published,
            received=received,
            held=sum(held.values()),
            delivered=delivered,
            arrived=self.endpoint.counts().records,
            gaps=gaps,
            state=subscriptions[0].state.value if subscriptions else "stopped",
            endpoint_up=self.endpoint_up,
        )

    def wait(self, what: str, condition: Callable[[], bool], until: threading.Event) -> None:
        """Waits for something that has to happen soon.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition() and not until.wait(POLL_SECONDS):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")

    def outcome(self) -> Outcome:
        """What came of it, from the endpoint's records and the queue's file; after `drain`."""
        records = [received.record for received in self.endpoint.log_records()]
        gaps = [record for record in records if record.event_name == GAP_EVENT]
        uids = [attributes(record.attributes)[UID] for record in records if record.event_name != GAP_EVENT]
        counts = self.endpoint.counts()
        return Outcome(
            ledger=of_queue(self._directory),
            published=self.relay.published,
            arrived_events=len(set(uids)),
            arrived_gaps=len(gaps),
            duplicates=len(uids) - len(set(uids)),
            spans=counts.spans,
            metrics=counts.metrics,
        )


def _settings(directory: Path, relay: str, endpoint: str) -> Loaded:
    sets = (
        *SHORT_LADDERS,
        f"feed.endpoints={relay}",
        f"send.endpoint={endpoint}",
        f"queue.directory={directory}",
        "status.port=0",
        "telemetry.log_level=error",
        "telemetry.metrics_interval_seconds=5",
    )
    return load(environment={}, flags={"--set": sets})
