"""The chart's files, read without helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from k8s.values_schema import FILE, VALUES, text
from tests.deploy.rendering import ROOT, overlays

CHART = ROOT / "k8s" / "chart"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def merged(below: Any, above: Any) -> Any:
    """As helm puts values over the defaults."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: merged(below.get(key), above.get(key, below.get(key))) for key in below | above}
    return above


def test_the_schema_is_what_the_code_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "stale: make k8s"


def test_each_default_is_known_to_the_schema_and_each_section_of_the_schema_has_its_defaults() -> None:
    defaults = loaded(CHART / "values.yaml")
    jsonschema.validate(defaults, json.loads(FILE.read_text(encoding="utf-8")))
    assert set(VALUES) - set(defaults) == {"tolerations", "global"}, "unset by default, for the mode and helm decide"
    for name, schema in VALUES.items():
        if name != "resources" and "properties" in schema:
            assert set(defaults[name]) == set(schema["properties"]), name


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: str(path.stem))
def test_the_values_of_the_examples_are_accepted(values: Path) -> None:
    whole = merged(loaded(CHART / "values.yaml"), loaded(values))
    jsonschema.validate(whole, json.loads(FILE.read_text(encoding="utf-8")))


def test_each_overlay_has_its_values() -> None:
    assert {path.stem.removesuffix("-values") for path in CI_VALUES} == set(overlays())


@pytest.mark.parametrize(
    "wrong",
    [
        {"imgae": {}},
        {"image": {"repo": "x"}},
        {"mode": "nodes"},
        {"persistence": {"size": "a lot"}},
        {"config": {"send": {"endpont": "http://x:4317"}}},
        {"config": {"queue": {"max_bytes": "512Mi"}}},
    ],
    ids=str,
)
def test_a_misspelt_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(loaded(CHART / "values.yaml"), wrong), json.loads(FILE.read_text(encoding="utf-8")))


def test_the_chart_names_the_version_of_the_bridge() -> None:
    images = loaded(ROOT / "k8s" / "base" / "kustomization.yaml")["images"]
    assert loaded(CHART / "Chart.yaml")["appVersion"] == images[0]["newTag"]


def test_the_chart_asks_for_no_rights_and_makes_nothing_outside_of_its_namespace() -> None:
    for template in (CHART / "templates").glob("*.yaml"):
        source = template.read_text(encoding="utf-8")
        assert "Role" not in source
        assert "namespace: {{ $.Release.Namespace }}" in source or "namespace: {{ .Release.Namespace }}" in source
