"""PASS? An event's message in, a verdict out; secrets are blacked out in the message on the way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.message import Message

from otelbridge.event import OTHER_OUTCOME, OUTCOME_BY_RESULT, UPSTREAM_STREAMS, Stream
from otelbridge.gate.redact import Redactor, redact, redactors
from otelbridge.gate.settings import GateSettings, RuleSettings
from otelbridge.pb import kubearmor_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Keep (perhaps redacted), or drop by a rule."""

    keep: bool
    rule: str = ""
    """The name of the rule that decided, empty when none did."""
    redactions: int = 0
    """Secrets blacked out in the event's fields."""


KEEP = Verdict(keep=True)


Holds = Callable[[Any], bool]
"""An Alert, a Log or a Message in."""

REMEMBERED_ANSWERS = 4096  # per condition; names of namespaces, pods and policies repeat all the time
LONGEST_REMEMBERED = 1024  # characters; texts that an attacker can make long are not kept

# Which KubeArmor field a setting's shell patterns look at, and whether upper and lower case are the same there.
_TEXT_CONDITIONS: Mapping[str, tuple[str, bool]] = {
    "namespace": ("NamespaceName", False),
    "pod": ("PodName", False),
    "container": ("ContainerName", False),
    "policy": ("PolicyName", False),
    "operation": ("Operation", True),
    "action_taken": ("Action", True),
}


def conditions(rule: RuleSettings, fields: frozenset[str]) -> Holds | None:
    """A function that says whether the rule holds; None where it can never hold for this type of message.

    Args:
        rule: its settings; the stream is not looked at.
        fields: the fields that the message type has. One that it lacks reads as empty.
    """
    checks: list[Holds] = []
    for setting, (field, any_case) in _TEXT_CONDITIONS.items():
        patterns = getattr(rule, setting)
        if patterns:
            checks.append(_text_check(field, shell_patterns(patterns, any_case=any_case), fields))
    if rule.outcome:
        wanted = frozenset(rule.outcome)
        checks.append(_text_check("Result", lambda result: outcome_of(result) in wanted, fields))
    if rule.min_severity is not None or rule.max_severity is not None:
        least, most = rule.min_severity or 0, rule.max_severity if rule.max_severity is not None else 10
        checks.append(_text_check("Severity", lambda text: least <= severity_of(text) <= most, fields))
    if rule.label:
        checks.append(_text_check("Labels", _label_check(rule.label), fields))
    checks = [check for check in checks if check is not always]
    if never in checks:
        return None
    if len(checks) == 1:
        return checks[0]
    return lambda message: all(check(message) for check in checks)


def shell_patterns(patterns: tuple[str, ...], *, any_case: bool) -> Callable[[str], bool]:
    """Whether a text fits any of the shell patterns, all of it, case-sensitively unless told otherwise."""
    matcher = re.compile(
        "|".join(f"(?:{translate(pattern)})" for pattern in patterns), re.IGNORECASE if any_case else 0
    )
    return lambda text: matcher.match(text) is not None


def outcome_of(result: str) -> str:
    """`allowed`, `denied`, `failed`; empty where KubeArmor gives no result."""
    return OUTCOME_BY_RESULT.get(result, OTHER_OUTCOME) if result else ""


def severity_of(text: str) -> int:
    """A policy's severity, 1 to 10; 0 where it names none."""
    return int(text) if len(text) <= len("10") and text.isascii() and text.isdigit() else 0


def labels_of(text: str) -> dict[str, str]:
    """`k=v,k2=v2`. A part without `=` belongs to the value before it."""
    labels: dict[str, list[str]] = {}
    last = ""
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key:
            labels[key] = [value]
            last = key
        elif last:
            labels[last].append(part)
    return {key: ",".join(values) for key, values in labels.items()}


def always(_: Any) -> bool:
    """A condition that every message fulfils."""
    return True


def never(_: Any) -> bool:
    """A condition that no message of this type can fulfil."""
    return False


def _text_check(field: str, fits: Callable[[str], bool], fields: frozenset[str]) -> Holds:
    if field not in fields:
        return always if fits("") else never
    fetch = attrgetter(field)
    remembered = lru_cache(maxsize=REMEMBERED_ANSWERS)(fits)

    def check(message: Any) -> bool:
        text = fetch(message)
        return remembered(text) if len(text) <= LONGEST_REMEMBERED else fits(text)

    return check


def _label_check(wanted: Mapping[str, str]) -> Callable[[str], bool]:
    checks = {key: shell_patterns((pattern,), any_case=False) for key, pattern in wanted.items()}

    def fits(text: str) -> bool:
        labels = labels_of(text)
        return all(key in labels and check(labels[key]) for key, check in checks.items())

    return fits


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
        self.redacts = bool(self._redactors)
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
