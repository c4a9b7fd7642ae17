"""Fuzzes what becomes of an event's bytes: no fault, and the same record by the compiled encoder and by the reference.

The first byte of an input chooses the stream, the rest is the event.
"""

from __future__ import annotations

from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS, RawEvent
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings, RuleSettings
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pipeline import EventEncoder

MODULES = tuple(f"mapping.{name}" for name in ("decode", "details", "parts", "record_encoder", "severity", "workload"))
RECEIVED_UNIX_NANO = 1_790_000_000_123_456_789
RULES = GateSettings(
    rules=(
        RuleSettings(name="quiet", action="drop", namespace=("kube-*",), outcome=("allowed",)),
        RuleSettings(name="low", action="drop", max_severity=2, label={"app": "w*"}),
    )
)


class FaultError(AssertionError):
    """The bridge is at fault: an event raised, or the two encoders do not agree."""


class Target:
    """Two encoders that see the same events, and a third that redacts."""

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - others need one
        self._compiled = EventEncoder(Gate(RULES), Mapper(MappingSettings(), version="1"))
        self._reference = EventEncoder(Gate(RULES), Mapper(MappingSettings(native=False), version="1"))
        redact = GateSettings(redact_common_secrets=True)
        self._redacting = EventEncoder(
            Gate(redact), Mapper(MappingSettings(body="json", parse_labels=True, keep_original=True), version="1")
        )

    def try_one(self, data: bytes) -> None:
        """Carries one input through.

        Raises:
            FaultError: see there.
        """
        stream = UPSTREAM_STREAMS[data[0] % len(UPSTREAM_STREAMS)] if data else UPSTREAM_STREAMS[0]
        event = RawEvent(stream, data[1:], RECEIVED_UNIX_NANO, "fuzz:32767")
        for _ in range(2):  # from scratch, and from memory
            records = [encoder.encode(event) for encoder in (self._compiled, self._reference)]
            if records[0] != records[1]:
                raise FaultError(f"compiled and reference differ: {records}")
        self._redacting.encode(event)
        for encoder in (self._compiled, self._reference, self._redacting):
            for why, _ in encoder.findings.damaged.values():
                if "fault of the bridge" in why:
                    raise FaultError(why)
            encoder.findings.damaged.clear()
            encoder.findings.throttled.clear()
