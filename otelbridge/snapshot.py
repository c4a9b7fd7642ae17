"""The status document's sections, each a function that reads the rooms at the moment it is asked."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from otelbridge import __version__
from otelbridge.feed.buffer import HANDOFF_FULL
from otelbridge.latest import Noted
from otelbridge.rooms import Rooms, certificates_in_use
from otelbridge.settings.load import Loaded
from otelbridge.settings.show import shown
from otelbridge.status.app import Events, Section
from otelbridge.status.document import (
    CertificateDocument,
    DeliveryDocument,
    EventDocument,
    HandoffDocument,
    LedgerDocument,
    QueueDocument,
    SubscriptionDocument,
    delivery_document,
    entry_document,
    gap_document,
    ledger_document,
    subscription_document,
)
from otelbridge.telemetry.escape import Json
from otelbridge.telemetry.ledger import Account

NANOS_PER_SECOND = 1_000_000_000

OVERFLOWED = (Account.DROPPED, HANDOFF_FULL)


@dataclass(slots=True, kw_only=True)
class Life:
    """Which life of the bridge this is, and how far it has come."""

    instance_id: str
    started_unix_nano: int
    phase: str = "starting"
    """`starting`, `running`, `draining` or `stopped`."""


def sections(rooms: Rooms, loaded: Loaded, *, life: Life) -> Mapping[str, Section]:
    """Name of a section to the function that makes it."""
    settings = shown(loaded)
    made: Mapping[str, Callable[[], object]] = {
        "version": lambda: __version__,
        "instance": lambda: life.instance_id,
        "started_unix_seconds": lambda: life.started_unix_nano / NANOS_PER_SECOND,
        "state": lambda: life.phase,
        "subscriptions": lambda: _subscriptions(rooms),
        "handoff": lambda: _handoff(rooms),
        "queue": lambda: _queue(rooms),
        "delivery": lambda: _delivery(rooms),
        "ledger": lambda: _ledger(rooms),
        "gaps": lambda: [gap_document(gap) for gap in rooms.telemetry.history.gaps()],
        "history": lambda: [entry_document(entry) for entry in rooms.telemetry.history.entries()],
        "certificates": lambda: _certificates(rooms),
        "settings": lambda: settings,
    }
    if rooms.latest is not None:
        latest = rooms.latest
        made = {**made, "events": lambda: [event_document(noted) for noted in latest.after(0)]}
    return cast("Mapping[str, Section]", made)  # typed dictionaries are JSON, which the type checker cannot see


def events_after(rooms: Rooms) -> Events | None:
    """What /events answers from; None when the operator does not want events to be seen."""
    latest = rooms.latest
    if latest is None:
        return None

    def answer(number: int) -> Json:
        return {"latest": latest.count, "events": [encoded_event(noted) for noted in latest.after(number)]}

    return answer


def event_document(noted: Noted) -> EventDocument:
    """An event as the page shows it."""
    return {
        "number": noted.number,
        "unix_seconds": noted.received_unix_nano / NANOS_PER_SECOND,
        "stream": noted.stream.value,
        "text": noted.text(),
    }


def encoded_event(noted: Noted) -> Json:
    """An event as /events hands it on: as KubeArmor would have sent it, had it been redacted there."""
    event = base64.b64encode(noted.message.SerializeToString()).decode("ascii")
    return {"number": noted.number, "stream": noted.stream.value, "event": event, "parses": noted.parses}


def _subscriptions(rooms: Rooms) -> list[SubscriptionDocument]:
    return [
        subscription_document(status, rooms.telemetry.states.timeline(status.upstream))
        for status in rooms.feed.subscriptions()
    ]


def _handoff(rooms: Rooms) -> HandoffDocument:
    handoff = rooms.handoff
    dropped = [p.records for p in rooms.queue.ledger().postings() if (p.account, p.reason) == OVERFLOWED]
    return {
        "events": handoff.waiting_events,
        "bytes": handoff.waiting_bytes,
        "max_events": handoff.max_events,
        "max_bytes": handoff.max_bytes,
        "dropped": sum(dropped),
    }


def _queue(rooms: Rooms) -> QueueDocument:
    depth = rooms.queue.depth()
    oldest = depth.oldest_received_unix_nano
    return {
        "path": str(rooms.queue.path),
        "records": depth.records,
        "bytes": depth.bytes,
        "max_bytes": rooms.settings.queue.max_bytes,
        "oldest_age_seconds": None if oldest is None else max(0.0, (time.time_ns() - oldest) / NANOS_PER_SECOND),
        "degraded": depth.degraded,
        "memory_records": depth.memory_records,
        "dead_letters": depth.dead_letters,
        "streams": {stream.value: records for stream, records in depth.by_stream.items()},
    }


def _delivery(rooms: Rooms) -> list[DeliveryDocument]:
    return [delivery_document(delivery) for delivery in rooms.telemetry.states.deliveries()]


def _ledger(rooms: Rooms) -> LedgerDocument:
    ledger, held = rooms.queue.balance()
    return ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))


def _certificates(rooms: Rooms) -> list[CertificateDocument]:
    return [
        {"server": server, "use": use, "expires_unix_seconds": expires}
        for server, use, expires in certificates_in_use(rooms)
    ]
