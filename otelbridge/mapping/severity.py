"""Maps what KubeArmor says about an event: policy, action and result become attributes, words and an OTLP severity.

A policy's severity sets the base: 1-3 low is INFO, 4-6 medium WARN, 7-10 high ERROR, in rising numbers. What came of it
sets the floor: an attack that was stopped is worth a warning; a policy that should have stopped one and did not is
worse. FATAL is never used: nothing crashed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from otelbridge.event import MAX_PARSED_CHARS, MAX_SEVERITY, outcome_of, severity_of
from otelbridge.mapping.model import Values
from otelbridge.mapping.wire import Attribute

Row: TypeAlias = tuple[int, ...]
"""OTLP severity numbers: at 0 the one for an event whose policy names no severity, then those for 1 to 10."""

MIN_NUMBER, MAX_NUMBER = 1, 24
LEVELS = ("none", *(str(level) for level in range(1, MAX_SEVERITY + 1)))


class Situation(StrEnum):
    """What an event is about, as far as its severity goes; the first column of the severity table."""

    AUDITED = "audited"
    """A policy matched and let it pass."""
    BLOCKED = "blocked"
    """It was denied, by whichever enforcer, or failed although a policy would have blocked it."""
    NOT_BLOCKED = "not_blocked"
    """A policy says Block, and it passed: `Audit (Block)`, or Block with the result Passed."""
    POSTURE_AUDITED = "posture_audited"
    """No policy, only the default posture; it passed."""
    POSTURE_BLOCKED = "posture_blocked"
    """The default posture denied it."""
    THROTTLED = "throttled"
    """KubeArmor stops reporting: events are being lost. The severity that the alert carries is another event's."""
    TELEMETRY = "telemetry"
    """A log of something that was allowed or failed by itself."""
    TELEMETRY_BULK = "telemetry_bulk"
    """The same for files and network, the bulk of all logs. Set it to 5 to see it as DEBUG."""
    TELEMETRY_DENIED = "telemetry_denied"
    """A log of something that was denied."""
    MESSAGE_DEBUG = "message_debug"
    MESSAGE_INFO = "message_info"
    MESSAGE_WARN = "message_warn"
    MESSAGE_ERROR = "message_error"
    UNDECODABLE = "undecodable"
    """An event that could not be parsed at all."""
    GAP = "gap"
    """A stretch of time that could not be seen, recorded by the bridge."""


def _flat(number: int) -> Row:
    return (number,) * len(LEVELS)


SEVERITY: Mapping[Situation, Row] = {
    Situation.AUDITED: (9, 9, 10, 11, 13, 14, 15, 17, 18, 19, 20),
    Situation.BLOCKED: (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    Situation.NOT_BLOCKED: (14, 14, 14, 14, 14, 15, 16, 18, 19, 20, 20),
    Situation.POSTURE_AUDITED: _flat(9),
    Situation.POSTURE_BLOCKED: _flat(13),
    Situation.THROTTLED: _flat(13),
    Situation.TELEMETRY: _flat(9),
    Situation.TELEMETRY_BULK: _flat(9),
    Situation.TELEMETRY_DENIED: _flat(10),
    Situation.MESSAGE_DEBUG: _flat(5),
    Situation.MESSAGE_INFO: _flat(9),
    Situation.MESSAGE_WARN: _flat(13),
    Situation.MESSAGE_ERROR: _flat(17),
    Situation.UNDECODABLE: _flat(13),
    Situation.GAP: _flat(13),
}

MESSAGE_SITUATIONS = {
    "DEBUG": Situation.MESSAGE_DEBUG,
    "INFO": Situation.MESSAGE_INFO,
    "WARN": Situation.MESSAGE_WARN,
    "ERROR": Situation.MESSAGE_ERROR,
}
_BLOCKING_ACTIONS = frozenset({"Block", "Audit (Block)", "Remove"})
_BULK_OPERATIONS = frozenset({"File", "Network"})
DEFAULT_POSTURE = "DefaultPosture"
THROTTLING_OPERATION = "AlertThreshold"
NETWORK_POLICY_TYPE = "MatchedNetworkPolicy"


def severity_table(overrides: Mapping[str, Mapping[str, int]]) -> dict[Situation, Row]:
    """The table with an operator's overrides: situation, then `none` or `1` to `10`, to the number."""
    table = dict(SEVERITY)
    for situation, numbers in overrides.items():
        row = table[Situation(situation)]
        table[Situation(situation)] = tuple(
            numbers.get(level, number) for level, number in zip(LEVELS, row, strict=True)
        )
    return table


def alert_situation(*, policy: str, operation: str, action: str, outcome: str) -> Situation:
    """What an alert is about. The outcome is `allowed`, `denied`, `failed`, or empty where nothing tells."""
    if operation == THROTTLING_OPERATION:
        return Situation.THROTTLED
    blocking = action in _BLOCKING_ACTIONS
    if blocking and outcome == "allowed":
        return Situation.NOT_BLOCKED
    blocked = outcome == "denied" or blocking
    if policy == DEFAULT_POSTURE:
        return Situation.POSTURE_BLOCKED if blocked else Situation.POSTURE_AUDITED
    return Situation.BLOCKED if blocked else Situation.AUDITED


def log_situation(*, kind: str, operation: str, outcome: str) -> Situation:
    """What a log is about, by KubeArmor's Type and Operation and what came of it.

    Up to KubeArmor 1.7.3 the firewall's default posture speaks on this stream too.
    """
    if kind == NETWORK_POLICY_TYPE:
        return Situation.POSTURE_AUDITED if outcome == "allowed" else Situation.POSTURE_BLOCKED
    if outcome == "denied":
        return Situation.TELEMETRY_DENIED
    return Situation.TELEMETRY_BULK if operation in _BULK_OPERATIONS else Situation.TELEMETRY


OPERATION_NAMES = {
    "process": "process",
    "file": "file",
    "network": "network",
    "capabilities": "capability",
    "syscall": "syscall",
    "device": "device",
    "networkfirewall": "firewall",
}
OTHER_OPERATION = "other"
THROTTLED_EVENT = "kubearmor.alert.throttled"
MESSAGE_EVENT = "kubearmor.agent.message"
# Cluster policies cannot be told apart from namespaced ones. PolicyMatched is what the oldest builds wrote.
CATEGORIES = {
    "MatchedPolicy": "KubeArmorPolicy",
    "PolicyMatched": "KubeArmorPolicy",
    "MatchedHostPolicy": "KubeArmorHostPolicy",
    "MatchedNetworkPolicy": "KubeArmorNetworkPolicy",
}
PRESET_PREFIX = "PRESET-"
MAX_SEARCHED_TAGS = 1000
_TECHNIQUE = re.compile(r"(?<![A-Za-z0-9])T\d{4}(?:\.\d{3})?(?![A-Za-z0-9.])")


class Ruling(NamedTuple):
    """Severity, event name and attributes that follow from the fields of the group `rule`."""

    attributes: list[Attribute]
    situation: Situation
    level: int
    """The policy's severity, 0 for none."""
    event_name: str
    outcome: str
    before: str
    """The words of a text body before what was touched."""
    after: str
    """Those after it."""


def rule_on_alert(values: Values, *, mitre: bool) -> Ruling:
    """The ruling on an alert."""
    policy, action, operation = values["PolicyName"], values["Action"], values["Operation"]
    message, severity, enforcer = values["Message"], values["Severity"], values["Enforcer"]
    outcome, level = outcome_of(values["Result"]), severity_of(severity)
    situation = alert_situation(policy=policy, operation=operation, action=action, outcome=outcome)
    name = _operation_name(operation)
    attributes: list[Attribute] = [
        *_security_rule(policy, CATEGORIES.get(values["Type"], "")),
        ("security_rule.description", message),
        ("kubearmor.severity", level) if level else ("kubearmor.severity_text", severity),
        *_tags(values, mitre=mitre),
        *_shared(values, outcome),
        ("kubearmor.action", action),
        ("kubearmor.enforcer", enforcer),
        ("kubearmor.preset", enforcer.removeprefix(PRESET_PREFIX) if enforcer.startswith(PRESET_PREFIX) else ""),
    ]
    reference = f"policy {policy}" if policy else ""
    if severity:
        reference += (", " if reference else "") + f"severity {severity}"
    return Ruling(
        attributes,
        situation,
        level,
        THROTTLED_EVENT if situation is Situation.THROTTLED else f"kubearmor.alert.{name}",
        outcome,
        (f"{message}: " if message else "") + " ".join(word for word in (action, operation) if word),
        _result(values) + (f" ({reference})" if reference else ""),
    )


def rule_on_log(values: Values) -> Ruling:
    """The ruling on a log: no policy, only what was done and what came of it."""
    kind, operation = values["Type"], values["Operation"]
    outcome = outcome_of(values["Result"])
    name = _operation_name(operation)
    policy = DEFAULT_POSTURE if kind == NETWORK_POLICY_TYPE else ""
    return Ruling(
        [*_security_rule(policy, ""), *_shared(values, outcome)],
        log_situation(kind=kind, operation=operation, outcome=outcome),
        0,
        f"kubearmor.telemetry.{name}",
        outcome,
        operation,
        _result(values),
    )


def _security_rule(policy: str, category: str) -> list[Attribute]:
    """A policy is a set of rules that KubeArmor does not name apart; its kind is their category."""
    return [
        ("security_rule.name", policy),
        ("security_rule.ruleset.name", policy),
        ("security_rule.category", DEFAULT_POSTURE if policy == DEFAULT_POSTURE else category),
    ]


def _operation_name(operation: str) -> str:
    return OPERATION_NAMES.get(operation.lower(), OTHER_OPERATION)


def _shared(values: Values, outcome: str) -> list[Attribute]:
    return [
        ("kubearmor.type", values["Type"]),
        ("kubearmor.operation", values["Operation"].lower()),
        ("kubearmor.result", values["Result"]),
        ("kubearmor.outcome", outcome),
    ]


def _tags(values: Values, *, mitre: bool) -> list[Attribute]:
    text, split = values["Tags"][:MAX_PARSED_CHARS], list(values["ATags"])
    tags = [tag for tag in split or text.split(",") if tag]
    attributes: list[Attribute] = [
        ("kubearmor.tags", tags),
        ("kubearmor.tags_text", text if split and text != ",".join(split) else ""),
    ]
    if mitre:
        searched = [tag[:MAX_PARSED_CHARS].replace("_", " ") for tag in tags[:MAX_SEARCHED_TAGS]]
        techniques = dict.fromkeys(found for tag in searched for found in _TECHNIQUE.findall(tag))
        attributes.append(("kubearmor.mitre.technique.ids", list(techniques)))
    return attributes


def _result(values: Values) -> str:
    result = values["Result"]
    return f": {result}" if result else ""
