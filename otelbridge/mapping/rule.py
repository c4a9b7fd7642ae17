"""Maps the rule fields: policy, action and result become attributes, outcome, event name and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from otelbridge.kubearmor import outcome_of, severity_of
from otelbridge.mapping.model import Values
from otelbridge.mapping.severity import (
    DEFAULT_POSTURE,
    NETWORK_POLICY_TYPE,
    Situation,
    alert_situation,
    log_situation,
)
from otelbridge.mapping.wire import Attribute

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
_TECHNIQUE = re.compile(r"(?<![A-Za-z0-9])T\d{4}(?:\.\d{3})?(?![A-Za-z0-9.])")


class Ruling(NamedTuple):
    """What the fields of the group `rule` come to."""

    attributes: list[Attribute]
    situation: Situation
    level: int
    """The policy's severity, 0 for none."""
    event_name: str
    operation: str
    """Of a small fixed vocabulary, for metrics and event names."""
    outcome: str
    before: str
    """The words of a text body before what was touched."""
    after: str
    """Those after it."""


def rule_on_alert(values: Values, *, mitre: bool) -> Ruling:
    """The ruling on an alert."""
    policy, action, operation = values.text("PolicyName"), values.text("Action"), values.text("Operation")
    outcome = outcome_of(values.text("Result"))
    situation = alert_situation(policy=policy, operation=operation, action=action, outcome=outcome)
    name = _operation_name(operation)
    enforcer = values.text("Enforcer")
    attributes: list[Attribute] = [
        *_security_rule(policy, CATEGORIES.get(values.text("Type"), "")),
        ("security_rule.description", values.text("Message")),
        *_severity(values.text("Severity")),
        *_tags(values, mitre=mitre),
        *_shared(values, outcome),
        ("kubearmor.action", action),
        ("kubearmor.enforcer", enforcer),
        ("kubearmor.preset", enforcer.removeprefix(PRESET_PREFIX) if enforcer.startswith(PRESET_PREFIX) else ""),
    ]
    message = values.text("Message")
    severity = values.text("Severity")
    reference = f"policy {policy}" if policy else ""
    if severity:
        reference += (", " if reference else "") + f"severity {severity}"
    return Ruling(
        attributes,
        situation,
        severity_of(severity),
        THROTTLED_EVENT if situation is Situation.THROTTLED else f"kubearmor.alert.{name}",
        name,
        outcome,
        (f"{message}: " if message else "") + " ".join(word for word in (action, operation) if word),
        _result(values) + (f" ({reference})" if reference else ""),
    )


def rule_on_log(values: Values) -> Ruling:
    """The ruling on a log: no policy, only what was done and what came of it."""
    kind, operation = values.text("Type"), values.text("Operation")
    outcome = outcome_of(values.text("Result"))
    name = _operation_name(operation)
    policy = DEFAULT_POSTURE if kind == NETWORK_POLICY_TYPE else ""
    return Ruling(
        [*_security_rule(policy, ""), *_shared(values, outcome)],
        log_situation(kind=kind, operation=operation, outcome=outcome),
        0,
        f"kubearmor.telemetry.{name}",
        name,
        outcome,
        operation,
        _result(values),
    )


def _security_rule(policy: str, category: str) -> Iterator[Attribute]:
    """A policy is a set of rules that KubeArmor does not name apart; its kind is their category."""
    yield "security_rule.name", policy
    yield "security_rule.ruleset.name", policy
    yield "security_rule.category", DEFAULT_POSTURE if policy == DEFAULT_POSTURE else category


def _operation_name(operation: str) -> str:
    return OPERATION_NAMES.get(operation.lower(), OTHER_OPERATION)


def _shared(values: Values, outcome: str) -> Iterator[Attribute]:
    yield "kubearmor.type", values.text("Type")
    yield "kubearmor.operation", values.text("Operation").lower()
    yield "kubearmor.result", values.text("Result")
    yield "kubearmor.outcome", outcome


def _severity(text: str) -> Iterator[Attribute]:
    level = severity_of(text)
    if level:
        yield "kubearmor.severity", level
    else:
        yield "kubearmor.severity_text", text


def _tags(values: Values, *, mitre: bool) -> Iterator[Attribute]:
    text, split = values.text("Tags"), list(values.texts("ATags"))
    tags = [tag for tag in split or text.split(",") if tag]
    yield "kubearmor.tags", tags
    yield "kubearmor.tags_text", text if split and text != ",".join(split) else ""
    if mitre:
        techniques = dict.fromkeys(found for tag in tags for found in _TECHNIQUE.findall(tag.replace("_", " ")))
        yield "kubearmor.mitre.technique.ids", list(techniques)


def _result(values: Values) -> str:
    result = values.text("Result")
    return f": {result}" if result else ""
