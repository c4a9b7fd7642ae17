"""PASS? An event's message in, a verdict out; secrets are blacked out in the message on the way."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from google.protobuf.message import Message

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.gate.conditions import Holds, conditions
from otelbridge.gate.redaction import Redactor, redact, redactors
from otelbridge.gate.settings import GateSettings
from otelbridge.gate.verdict import KEEP, Verdict
from otelbridge.pb import kubearmor_pb2 as pb

_KINDS: dict[Stream, type[Message]] = {Stream.ALERTS: pb.Alert, Stream.LOGS: pb.Log, Stream.MESSAGES: pb.Message}


class StreamGate(NamedTuple):
    """What is asked about the events of one stream."""

    rules: tuple[tuple[Holds, Verdict], ...]
    redacted_fields: tuple[str, ...]


class Gate:
    """The rules and redactions, compiled. Used by one thread; its counts are read by any."""

    def __init__(self, settings: GateSettings) -> None:
        self._redactors: tuple[Redactor, ...] = redactors(settings)
        self._streams = {stream: self._compile(stream, settings) for stream in UPSTREAM_STREAMS}
        self.open = not settings.rules and not self._redactors
        """No rule and no redaction: whoever asks may skip `judge`."""
        self.redacted_events = 0
        self.redactions: Counter[str] = Counter()
        """Secrets blacked out so far, by kind."""

    def judge(self, stream: Stream, message: Message) -> Verdict:
        """The first rule that holds decides; what is kept is redacted in place.

        Args:
            stream: where the message came from.
            message: its Alert, Log or Message.
        """
        rules, redacted_fields = self._streams[stream]
        verdict = KEEP
        for holds, decision in rules:
            if holds(message):
                verdict = decision
                break
        if not verdict.keep or not redacted_fields:
            return verdict
        found = redact(message, redacted_fields, self._redactors, self.redactions)
        if not found:
            return verdict
        self.redacted_events += 1
        return Verdict(keep=True, rule=verdict.rule, redactions=found)

    def _compile(self, stream: Stream, settings: GateSettings) -> StreamGate:
        fields = frozenset(_KINDS[stream].DESCRIPTOR.fields_by_name)
        rules = []
        for rule in settings.rules:
            if rule.stream and stream not in rule.stream:
                continue
            holds = conditions(rule, fields)
            if holds is not None:
                rules.append((holds, Verdict(keep=rule.action == "keep", rule=rule.name)))
        wanted = {field for redactor in self._redactors for field in redactor.fields}
        return StreamGate(tuple(rules), tuple(sorted(wanted & fields)))
