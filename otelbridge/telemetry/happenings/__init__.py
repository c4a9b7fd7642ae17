"""What can happen to the bridge, as past-tense dataclasses: the only way in which a room speaks.

A room calls `tell(StreamLost(...))`; the narrator turns each happening into its log line, its metric and its span. No
happening is told per event: what happens thousands of times a second is counted in plain integers instead.
"""

from __future__ import annotations

from otelbridge.telemetry.happenings.bridge import BridgeStarted, BridgeStopped, DrainStarted, LedgerUnbalanced
from otelbridge.telemetry.happenings.derived import DeliveryResumed, LibrarySpoke, LossDetected, UpstreamRecovered
from otelbridge.telemetry.happenings.encoder import EventDamaged
from otelbridge.telemetry.happenings.feed import (
    CertificatesRefused,
    ConnectionAttempted,
    ConnectionEnded,
    EventsOverflowed,
    GapEnded,
    HeartbeatAnswered,
    HeartbeatMissed,
    KeepaliveStretched,
    NodeFellSilent,
    RetryScheduled,
    StateChanged,
    Step,
    StreamLost,
    StreamOpened,
    UpstreamsChanged,
    UpstreamsUnknown,
)
from otelbridge.telemetry.happenings.queue import QueueDegraded, QueueOpened, QueueRecovered, QueueSalvaged, RecordsShed
from otelbridge.telemetry.happenings.send import BatchAccepted, BatchRefused, BatchSplit, DeliveryDelayed, DeliveryHeld
from otelbridge.telemetry.happenings.told import Happening, Tell

__all__ = [
    "BatchAccepted",
    "BatchRefused",
    "BatchSplit",
    "BridgeStarted",
    "BridgeStopped",
    "CertificatesRefused",
    "ConnectionAttempted",
    "ConnectionEnded",
    "DeliveryDelayed",
    "DeliveryHeld",
    "DeliveryResumed",
    "DrainStarted",
    "EventDamaged",
    "EventsOverflowed",
    "GapEnded",
    "Happening",
    "HeartbeatAnswered",
    "HeartbeatMissed",
    "KeepaliveStretched",
    "LedgerUnbalanced",
    "LibrarySpoke",
    "LossDetected",
    "NodeFellSilent",
    "QueueDegraded",
    "QueueOpened",
    "QueueRecovered",
    "QueueSalvaged",
    "RecordsShed",
    "RetryScheduled",
    "StateChanged",
    "Step",
    "StreamLost",
    "StreamOpened",
    "Tell",
    "UpstreamRecovered",
    "UpstreamsChanged",
    "UpstreamsUnknown",
]
