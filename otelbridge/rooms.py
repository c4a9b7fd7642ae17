"""The rooms of one bridge, opened: what bridge.py runs, and what its meters and its snapshot read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from otelbridge import __version__
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.feed import Feed
from otelbridge.gate.rules import Gate
from otelbridge.latest import RecentEvents
from otelbridge.mapping.mapper import Mapper
from otelbridge.pipeline import GapSink, Pipeline
from otelbridge.queue.queue import DurableQueue
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.workers import Workers, linger_limits
from otelbridge.settings.tree import Settings
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """In walking order; each is closed by bridge.py."""

    settings: Settings
    feed: Feed
    handoff: Buffer
    gate: Gate
    mapper: Mapper
    encoder: Pipeline
    latest: RecentEvents | None
    """None unless the operator wants to see events."""
    queue: DurableQueue
    couriers: Workers
    sender: Sender
    telemetry: Telemetry


def certificates_in_use(rooms: Rooms) -> Iterator[tuple[str, str, int]]:
    """Per server that is spoken to with certificate files: its name, what for, and when the first of them expires."""
    for status in rooms.feed.subscriptions():
        if status.certificate_expires_unix_seconds is not None:
            yield status.upstream, "kubearmor", status.certificate_expires_unix_seconds
    expires = rooms.sender.certificate_expires_unix_seconds
    if expires is not None:
        yield rooms.sender.endpoint, "endpoint", expires


def open_rooms(settings: Settings, *, telemetry: Telemetry, tell: Tell) -> Rooms:
    """Opens every room from the endpoint backwards; nothing runs yet, nobody is dialled.

    Raises:
        ValueError: settings that only opening a room can check (a certificate, a URL).
        QueueInUse: another bridge has the queue.
        QueueUnusable: the queue's folder cannot be written.
    """
    sender = open_sender(settings.send, version=__version__)
    gate = Gate(settings.gate)
    mapper = Mapper(settings.mapping, version=__version__)
    handoff = Buffer(settings.feed.handoff_max_events, settings.feed.handoff_max_bytes)
    latest = RecentEvents(settings.status.show_events) if settings.status.show_events else None
    gaps = GapSink(tell, handoff.wake)
    feed = Feed(
        settings.feed,
        handoff=handoff,
        tell=tell,
        record_gap=gaps.record,
        version=__version__,
        max_nodes=settings.telemetry.max_nodes,
    )
    # The last that can fail: nothing has to be undone after it.
    queue = DurableQueue.open(settings.queue, tell=tell, record_gap=gaps.record, linger=linger_limits(settings.send))
    return Rooms(
        settings=settings,
        feed=feed,
        handoff=handoff,
        gate=gate,
        mapper=mapper,
        encoder=Pipeline(handoff=handoff, gate=gate, mapper=mapper, queue=queue, gaps=gaps, tell=tell, latest=latest),
        latest=latest,
        queue=queue,
        couriers=Workers(queue, sender, settings.send, tell),
        sender=sender,
        telemetry=telemetry,
    )
