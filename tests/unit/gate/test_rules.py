from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from otelbridge.event import Stream, labels_of
from otelbridge.gate.rules import KEEP, Gate, Verdict, workload_conditions
from otelbridge.gate.settings import GateSettings, RuleSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.setting import section_from

ALERT: dict[str, Any] = {
    "NamespaceName": "shop", "PodName": "web-0", "ContainerName": "web", "PolicyName": "ksp-block-apt",
    "Operation": "Process", "Action": "Block", "Result": "Permission denied", "Severity": "5",
    "Labels": "app=web,tier=front",
}  # fmt: skip


def alert(**fields: str) -> pb.Alert:
    return pb.Alert(**{**ALERT, **fields})


def gate_settings(rules: Sequence[dict[str, Any]]) -> GateSettings:
    named = [{"name": f"rule {number}", "action": "drop", **rule} for number, rule in enumerate(rules)]
    return GateSettings(rules=tuple(section_from(RuleSettings, rule) for rule in named))


def gate(*rules: dict[str, Any]) -> Gate:
    return Gate(gate_settings(rules))


def drops(rule: dict[str, Any], message: pb.Alert | pb.Log | pb.Message, stream: Stream = Stream.ALERTS) -> bool:
    return not gate(rule).judge(stream, message).keep


def test_without_rules_the_gate_is_open_and_keeps_everything() -> None:
    open_gate = Gate(GateSettings())
    assert open_gate.open
    assert open_gate.judge(Stream.ALERTS, alert()) is KEEP
    assert not gate({"namespace": ("x",)}).open
    assert not Gate(GateSettings(redact_common_secrets=True)).open


@pytest.mark.parametrize(
    ("rule", "message", "holds"),
    [
        ({"namespace": ("shop",)}, alert(), True),
        ({"namespace": ("sh*",)}, alert(), True),
        ({"namespace": ("sho",)}, alert(), False),
        ({"namespace": ("SHOP",)}, alert(), False),
        ({"namespace": ("kube-*", "shop")}, alert(), True),
        ({"namespace": ("?hop",)}, alert(), True),
        ({"namespace": ("[st]hop",)}, alert(), True),
        ({"namespace": ("[!s]hop",)}, alert(), False),
        ({"namespace": ("",)}, alert(NamespaceName=""), True),
        ({"pod": ("web-*",)}, alert(), True),
        ({"pod": ("web-*",)}, alert(PodName="web-\n1"), True),
        ({"pod": ("WEB-*",)}, alert(), False),
        ({"container": ("WEB",)}, alert(), False),
        ({"policy": ("KSP-*",)}, alert(), False),
        ({"container": ("db",)}, alert(), False),
        ({"policy": ("ksp-*",)}, alert(), True),
        ({"operation": ("process",)}, alert(), True),
        ({"operation": ("File", "Network")}, alert(), False),
        ({"action_taken": ("block",)}, alert(), True),
        ({"action_taken": ("audit*",)}, alert(Action="Audit (Block)"), True),
        ({"action_taken": ("audit",)}, alert(Action="Audit (Block)"), False),
        ({"outcome": ("denied",)}, alert(), True),
        ({"outcome": ("allowed", "failed")}, alert(), False),
        ({"outcome": ("allowed",)}, alert(Result="Passed"), True),
        ({"outcome": ("failed",)}, alert(Result="No such file or directory"), True),
        ({"outcome": ("allowed", "denied", "failed")}, alert(Result=""), False),
        ({"min_severity": 5}, alert(), True),
        ({"min_severity": 6}, alert(), False),
        ({"min_severity": 1}, alert(Severity=""), False),
        ({"max_severity": 5}, alert(), True),
        ({"max_severity": 4}, alert(), False),
        ({"max_severity": 4}, alert(Severity=""), True),
        ({"max_severity": 4}, alert(Severity="high"), True),
        ({"min_severity": 10}, alert(Severity="10"), True),
        ({"min_severity": 3, "max_severity": 7}, alert(), True),
        ({"label": {"app": "web"}}, alert(), True),
        ({"label": {"app": "w*", "tier": "front"}}, alert(), True),
        ({"label": {"app": "web", "tier": "back"}}, alert(), False),
        ({"label": {"owner": "*"}}, alert(), False),
        ({"label": {"app": "*"}}, alert(Labels=""), False),
        ({"namespace": ("shop",), "operation": ("File",)}, alert(), False),
        ({"namespace": ("shop",), "pod": ("db-*",)}, alert(), False),
        ({"namespace": ("bank",), "pod": ("web-*",)}, alert(), False),
        ({"pod": ("web-*",), "label": {"app": "db"}}, alert(), False),
        ({"operation": ("Process",), "min_severity": 9}, alert(), False),
        ({"operation": ("File",), "min_severity": 3}, alert(), False),
        ({"policy": ("ksp-*",), "outcome": ("allowed",)}, alert(), False),
        ({"namespace": ("shop",), "operation": ("Process",), "min_severity": 5}, alert(), True),
        ({}, alert(), True),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(rule: dict[str, Any], message: pb.Alert, holds: bool) -> None:
    assert drops(rule, message) is holds


def test_the_first_rule_that_holds_decides() -> None:
    rules = gate(
        {"action": "keep", "policy": ("important-*",)},
        {"namespace": ("shop",)},
        {"action": "keep"},
    )
    assert rules.judge(Stream.ALERTS, alert(PolicyName="important-1")) == Verdict(keep=True, rule="rule 0")
    assert rules.judge(Stream.ALERTS, alert()) == Verdict(keep=False, rule="rule 1")
    assert rules.judge(Stream.ALERTS, alert(NamespaceName="x")) == Verdict(keep=True, rule="rule 2")


def test_an_event_that_no_rule_holds_for_is_kept() -> None:
    assert gate({"namespace": ("x",)}).judge(Stream.ALERTS, alert()) == KEEP


def test_a_rule_for_one_stream_leaves_the_others_alone() -> None:
    rule = {"stream": (Stream.LOGS,)}
    assert not drops(rule, alert())
    assert drops(rule, pb.Log(), Stream.LOGS)
    assert not drops(rule, pb.Message(), Stream.MESSAGES)


def test_a_field_that_a_stream_lacks_reads_as_empty() -> None:
    assert not drops({"policy": ("ksp-*",)}, pb.Log(), Stream.LOGS)
    assert drops({"policy": ("*",)}, pb.Log(), Stream.LOGS)
    assert not drops({"min_severity": 1}, pb.Log(), Stream.LOGS)
    assert not drops({"namespace": ("shop",)}, pb.Message(), Stream.MESSAGES)
    assert drops({"namespace": ("",), "operation": ("File",)}, pb.Log(Operation="File"), Stream.LOGS)


def test_a_condition_on_a_field_that_a_message_lacks_holds_for_the_empty_text_only() -> None:
    asked = [section_from(RuleSettings, {"name": "r", "action": "drop", "namespace": (one,)}) for one in ("", "shop")]
    assert [workload_conditions(rule, frozenset())(pb.Message()) for rule in asked] == [True, False]


def test_a_rule_that_no_message_of_a_stream_can_meet_is_none_of_its_rules() -> None:
    one = gate({"policy": ("ksp-*",)})
    assert one.screens.keys() == {Stream.ALERTS}
    assert not one.redacts
    assert Gate(GateSettings(redact_common_secrets=True)).redacts


def test_answers_are_remembered_rightly() -> None:
    rules = gate({"namespace": ("kube-*",), "operation": ("file",)})
    for _ in range(3):
        for namespace in ("kube-system", "shop", "kube-public"):
            for operation in ("File", "Process"):
                kept = rules.judge(Stream.LOGS, pb.Log(NamespaceName=namespace, Operation=operation)).keep
                assert kept is not (namespace.startswith("kube-") and operation == "File")


def test_long_texts_are_judged_too() -> None:
    assert drops({"pod": ("x*y",)}, alert(PodName="x" * 5000 + "y"))
    assert not drops({"pod": ("x*z",)}, alert(PodName="x" * 5000 + "y"))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        ("a=1,2,b=3", {"a": "1,2", "b": "3"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
        ("", {}),
        ("junk", {}),
        ("=x,a=1", {"a": "1"}),
    ],
)
def test_labels_are_read(text: str, labels: dict[str, str]) -> None:
    assert labels_of(text) == labels


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"rules": [{"name": "x", "action": "drop", "stream": ["gaps"]}]}, "rules[0].stream[0]", "messages"),
        ({"rules": [{"name": "x", "action": "dorp"}]}, "rules[0].action", "keep"),
        (
            {"rules": [{"name": "x", "action": "drop", "namespaces": ["y"]}]},
            "rules[0].namespaces",
            "Did you mean namespace?",
        ),
        ({"rules": [{"name": "x", "action": "drop", "min_severity": 11}]}, "rules[0].min_severity", "at most 10"),
        ({"redact": [{"name": "x", "pattern": "(unclosed"}]}, "redact[0].pattern", "not a regular expression"),
        ({"redact": [{"name": "x", "pattern": "a*"}]}, "redact[0].pattern", "matches the empty text"),
        ({"redact": [{"name": "x", "pattern": "a", "fields": ["Sauce"]}]}, "redact[0].fields", "Use Source"),
        ({"redact": [{"name": "x", "pattern": "a", "fields": []}]}, "redact[0].fields", "is empty"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place_and_cure(settings: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{place}: ")) as raised:
        section_from(GateSettings, settings)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


RULES_OF_MANY_KINDS: tuple[dict[str, Any], ...] = (
    {"namespace": ("shop",), "action": "keep"},
    {"pod": ("web-*",), "operation": ("File",)},
    {"policy": ("ksp-*",)},
    {"operation": ("Process",), "namespace": ("bank",)},
    {"min_severity": 7, "action": "keep"},
    {"action_taken": ("block",)},
    {"container": ("db",)},
)


@pytest.mark.parametrize("seed", range(30))
def test_the_bits_that_the_fast_path_keeps_decide_as_the_rules_do_one_by_one(seed: int) -> None:
    dice = random.Random(seed)
    rules = Gate(gate_settings(dice.sample(RULES_OF_MANY_KINDS, k=dice.randint(1, 7)))).screens[Stream.ALERTS]
    for _ in range(40):
        message = alert(
            NamespaceName=dice.choice(["shop", "bank", "x"]),
            PodName=dice.choice(["web-1", "y"]),
            ContainerName=dice.choice(["web", "db"]),
            PolicyName=dice.choice(["ksp-1", "other"]),
            Operation=dice.choice(["Process", "File"]),
            Action=dice.choice(["Block", "Audit"]),
            Severity=dice.choice(["5", "8"]),
        )
        verdict = rules.verdict(message)
        by_bits = rules.dropped_by(rules.workload(message) & rules.rule(message))
        assert by_bits == (None if verdict.keep else verdict.rule)


def test_answers_for_long_texts_are_not_remembered() -> None:
    rules = gate({"pod": ("web-*",)})
    tracemalloc.start()
    try:
        for number in range(40):
            assert rules.judge(Stream.ALERTS, alert(PodName=f"x{number}" * 100_000)).keep
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
