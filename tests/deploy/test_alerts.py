from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.exported import exported
from tests.deploy.rendering import ROOT
from tests.peers.prometheus import promtool_binary

SOURCE = ROOT / "k8s" / "chart" / "files" / "prometheusrule" / "prometheusrule.yaml"
CASES = ROOT / "tests" / "deploy" / "alerts.test.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"


def groups() -> list[dict[str, Any]]:
    content = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = content["spec"]["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


every_rule = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])


def promtool(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [promtool_binary(), *arguments], capture_output=True, text=True, check=False, timeout=100, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_every_rule(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}), encoding="utf-8")
    promtool("check", "rules", "--lint-fatal", "rules.yaml", cwd=tmp_path)


def test_every_alert_fires_when_it_must_and_is_silent_when_it_may(tmp_path: Path) -> None:
    # The words are checked by the test above; here they would have to stand twice.
    wordless = [{**group, "rules": [{**rule, "annotations": {}} for rule in group["rules"]]} for group in groups()]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": wordless}), encoding="utf-8")
    (tmp_path / CASES.name).write_bytes(CASES.read_bytes())
    promtool("test", "rules", CASES.name, cwd=tmp_path)


@every_rule
def test_an_alert_is_tested_firing_and_silent(rule: dict[str, Any]) -> None:
    cases = [
        case
        for test in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == rule["alert"]
    ]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}


@every_rule
def test_an_alert_says_what_is_wrong_and_where_the_cure_stands(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook"} == set(rule["annotations"])
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert f"\n## {rule['alert']}\n" in RUNBOOK.read_text(encoding="utf-8")


def test_the_runbook_has_no_section_without_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()], "in the order of the rules"


@every_rule
def test_an_alert_asks_for_series_and_labels_that_the_bridge_has(rule: dict[str, Any]) -> None:
    series = exported()
    series["target_info"] = resource_labels()
    words = set(re.findall(r"\b(?:otelbridge|kubearmor|server|k8s|target)_\w+", rule["expr"]))
    asked = words & set(series)
    assert asked, "it asks for nothing that the bridge exports"
    labels = set().union(*(series[name] for name in asked))
    assert words - asked <= labels, f"unknown: {words - asked - labels}"


def resource_labels() -> set[str]:
    """What each pod of the bridge says of itself, as labels."""
    pod = (ROOT / "k8s" / "base" / "pod.yaml").read_text(encoding="utf-8")
    (stated,) = re.findall(r"value: (k8s\.\S+=\S+)", pod)
    return {pair.partition("=")[0].replace(".", "_") for pair in stated.split(",")}


@every_rule
def test_the_words_of_an_alert_use_labels_that_its_expression_keeps(rule: dict[str, Any]) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = {name for names in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for name in re.split(r",\s*", names)}
    if not kept:
        kept = {"instance"}.union(*(exported().get(word, set()) for word in re.findall(r"\w+", rule["expr"])))
    assert used <= kept
