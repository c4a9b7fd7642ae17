"""The components of one bridge, whose own state the probes, the metrics and the status document read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from otelbridge.feed.buffer import Buffer
from otelbridge.feed.feed import Feed
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.pipeline import Pipeline
from otelbridge.queue.queue import DurableQueue
from otelbridge.send.sender import Sender
from otelbridge.send.workers import Workers
from otelbridge.status.answers import QueueGrowth
from otelbridge.telemetry.telemetry import Telemetry


@dataclass(slots=True, kw_only=True)
class Components:
    """In the order in which an event walks through them; a reload replaces mapper, workers and sender."""

    feed: Feed
    buffer: Buffer
    mapper: Mapper
    pipeline: Pipeline
    recent_events: RecentEvents | None
    """None unless the operator wants to see events."""
    queue: DurableQueue
    queue_max_bytes: int
    queue_growth: QueueGrowth
    workers: Workers
    sender: Sender
    telemetry: Telemetry
    alert_policies: bool
    """Whether the policy's name is an attribute of the metric of alerts."""


def certificates_in_use(components: Components) -> Iterator[tuple[str, str, int]]:
    """Per server that is spoken to with certificate files: its name, what for, and when the first of them expires."""
    for status in components.feed.subscriptions():
        if status.certificate_expires_unix_seconds is not None:
            yield status.upstream, "kubearmor", status.certificate_expires_unix_seconds
    expires = components.sender.certificate_expires_unix_seconds
    if expires is not None:
        yield components.sender.endpoint, "endpoint", expires
