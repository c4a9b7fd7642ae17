"""Judges an event: the first rule that matches keeps or drops it, and what is kept is redacted."""

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

from otelbridge.event import MAX_SEVERITY, STREAMS, UPSTREAM_STREAMS, Stream, labels_of, outcome_of, severity_of
from otelbridge.gate.redact import Redaction, Redactor, blacken, find_secrets, redactors
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

# Which KubeArmor field a setting's shell patterns look at, and whether upper and lower case are the same there. Those
# of the workload, and those of what KubeArmor says about the event, repeat from event to event.
_WORKLOAD_TEXTS: Mapping[str, tuple[str, bool]] = {
    "namespace": ("NamespaceName", False),
    "pod": ("PodName", False),
    "container": ("ContainerName", False),
}
_RULE_TEXTS: Mapping[str, tuple[str, bool]] = {
    "policy": ("PolicyName", False),
    "operation": ("Operation", True),
    "action_taken": ("Action", True),
}


def workload_conditions(rule: RuleSettings, fields: frozenset[str]) -> Holds:
    """Whether the rule holds as far as namespace, pod, container and labels go; missing fields read as empty."""
    checks = _text_checks(rule, _WORKLOAD_TEXTS, fields)
    if rule.label:
        checks.append(_text_check("Labels", _label_check(rule.label), fields))
    return _all_of(checks)


def rule_conditions(rule: RuleSettings, fields: frozenset[str]) -> Holds:
    """Whether the rule holds as far as policy, operation, action, outcome and severity go; arguments as above."""
    checks = _text_checks(rule, _RULE_TEXTS, fields)
    if rule.outcome:
        wanted = frozenset(rule.outcome)
        checks.append(_text_check("Result", lambda result: outcome_of(result) in wanted, fields))
    if rule.min_severity is not None or rule.max_severity is not None:
        least, most = rule.min_severity or 0, rule.max_severity if rule.max_severity is not None else MAX_SEVERITY
        checks.append(_text_check("Severity", lambda text: least <= severity_of(text) <= most, fields))
    return _all_of(checks)


def _text_checks(rule: RuleSettings, texts: Mapping[str, tuple[str, bool]], fields: frozenset[str]) -> list[Holds]:
    return [
        _text_check(field, shell_patterns(patterns, any_case=any_case), fields)
        for setting, (field, any_case) in texts.items()
        if (patterns := getattr(rule, setting))
    ]


def _all_of(checks: list[Holds]) -> Holds:
    checks = [check for check in checks if check is not always]
    if never in checks:
        return never
    if not checks:
        return always
    return checks[0] if len(checks) == 1 else lambda message: all(check(message) for check in checks)


def shell_patterns(patterns: tuple[str, ...], *, any_case: bool) -> Callable[[str], bool]:
    """Whether a text fits any of the shell patterns, all of it, case-sensitively unless told otherwise."""
    matcher = re.compile(
        "|".join(f"(?:{translate(pattern)})" for pattern in patterns), re.IGNORECASE if any_case else 0
    )
    return lambda text: matcher.match(text) is not None


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


_KINDS: dict[Stream, type[Message]] = {stream: getattr(pb, STREAMS[stream].message) for stream in UPSTREAM_STREAMS}


class Rule(NamedTuple):
    """One rule, compiled for one type of message."""

    of_workload: Holds
    of_rule: Holds
    verdict: Verdict


class StreamRules:
    """The rules and redactions of one stream. Rules are bits, too, lowest first: see `mapping/fastpath_cache.py`."""

    def __init__(self, rules: tuple[Rule, ...], redacted_fields: tuple[str, ...]) -> None:
        self.rules = rules
        self.redacted_fields = redacted_fields

    def workload(self, message: Message) -> int:
        """The rules that hold for the workload of the event."""
        return sum(1 << place for place, rule in enumerate(self.rules) if rule.of_workload(message))

    def rule(self, message: Message) -> int:
        """The rules that hold for what KubeArmor says about it."""
        return sum(1 << place for place, rule in enumerate(self.rules) if rule.of_rule(message))

    def dropped_by(self, held: int) -> str | None:
        """The name of the rule that drops an event for which these hold, or None."""
        first = (held & -held).bit_length() - 1
        verdict = self.rules[first].verdict if held else KEEP
        return None if verdict.keep else verdict.rule

    def verdict(self, message: Message) -> Verdict:
        """What the first rule that matches says."""
        for of_workload, of_rule, verdict in self.rules:
            if of_rule(message) and of_workload(message):
                return verdict
        return KEEP


class Gate:
    """The rules and redactions, compiled. Used by one thread; its counts are read by any."""

    def __init__(self, settings: GateSettings) -> None:
        self._redactors: tuple[Redactor, ...] = redactors(settings)
        self._streams = {stream: self._compile(stream, settings) for stream in UPSTREAM_STREAMS}
        self.flood = settings.flood
        self.open = not settings.rules and not self._redactors
        """No rule and no redaction: callers may skip the gate."""
        self.redacts = bool(self._redactors)
        """Whether the texts of events have to be looked at."""
        self.screens = {stream: rules for stream, rules in self._streams.items() if rules.rules}
        """The rules of each stream that has some."""
        self.redactions: Counter[str] = Counter()
        """Secrets blacked out so far, by kind."""

    def judge(self, stream: Stream, message: Message) -> Verdict:
        """The first rule that matches decides; what is kept is redacted in place."""
        verdict = self.decide(stream, message)
        found = self.secrets(stream, message) if verdict.keep else None
        if found is None:
            return verdict
        found.apply(message)
        return Verdict(keep=True, rule=verdict.rule, redactions=found.secrets)

    def decide(self, stream: Stream, message: Message) -> Verdict:
        """What the first rule that matches says."""
        return self._streams[stream].verdict(message)

    def secrets(self, stream: Stream, message: Message) -> Redaction | None:
        """What has to be blacked out of the message, and is counted as such; None where there is nothing."""
        fields = self._streams[stream].redacted_fields
        return find_secrets(message, fields, self._redactors, self.redactions) if fields else None

    def without_secrets(self, body: bytes) -> bytes:
        """The bytes of an event that no field can be told apart in, with what looks like a secret blacked out."""
        if not self._redactors:
            return body
        text, _ = blacken(body.decode("latin-1"), self._redactors, self.redactions)
        return text.encode("latin-1")

    def _compile(self, stream: Stream, settings: GateSettings) -> StreamRules:
        fields = frozenset(_KINDS[stream].DESCRIPTOR.fields_by_name)
        rules = tuple(
            Rule(
                workload_conditions(rule, fields),
                rule_conditions(rule, fields),
                Verdict(keep=rule.action == "keep", rule=rule.name),
            )
            for rule in settings.rules
            if not rule.stream or stream in rule.stream
        )
        rules = tuple(rule for rule in rules if never not in (rule.of_workload, rule.of_rule))
        wanted = {field for redactor in self._redactors for field in redactor.fields}
        return StreamRules(rules, tuple(sorted(wanted & fields)))
