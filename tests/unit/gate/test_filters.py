"""Each recipe of docs/filters.md does to its events what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings
from otelbridge.setting import section_from
from otelbridge.settings.load import load
from otelbridge.simulator.events import event_from_document

PAGE = Path(__file__).parents[3] / "docs" / "filters.md"
RECIPE = re.compile(
    r"^## (?P<title>.*?)$.*?```yaml\n(?P<settings>.*?)```.*?```json\n(?P<events>.*?)```", re.MULTILINE | re.DOTALL
)
RECIPES = {found["title"]: found for found in RECIPE.finditer(PAGE.read_text(encoding="utf-8"))}


def test_there_are_ten() -> None:
    assert len(RECIPES) == 10


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_a_settings_file_that_loads(title: str, tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(RECIPES[title]["settings"], encoding="utf-8")
    load(file=file, environment={})


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_keeps_and_drops_what_it_says(title: str) -> None:
    settings = section_from(GateSettings, yaml.safe_load(RECIPES[title]["settings"])["gate"])
    gate = Gate(settings)
    for line in RECIPES[title]["events"].splitlines():
        expected: dict[str, Any] = json.loads(line)
        kept = "kept" in expected
        stream, message, _ = event_from_document(expected["kept" if kept else "dropped"])

        verdict = gate.judge(stream, message)

        assert verdict.keep is kept, line
        if hidden := expected.get("without"):
            assert verdict.redactions == 1
            assert hidden.encode() not in message.SerializeToString()
