"""`docs/registry/` is what Weaver's format and the policies of OpenTelemetry's own registry allow.

Weaver itself is a program in Rust that no package registry has. What its `registry check` refuses is written down here
anew, from the syntax that it documents and from the rules that the semantic conventions are checked by.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opentelemetry.semconv as conventions
import pytest
import yaml
from opentelemetry.semconv.schemas import Schemas

from docs.registry_files import BY_SPECIFICATION
from otelbridge.mapping.wire import SCHEMA_URL

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "registry"
Json = dict[str, Any]

NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
SCHEMA = re.compile(r"https?://[^/]+/.+/(\d+\.\d+\.\d+)")
UNIT = re.compile(r"s|By|\{[a-z_]+\}")
STABILITY = {"stable", "development", "alpha", "beta", "release_candidate"}
LEVELS = {"required", "recommended", "opt_in"}
EXAMPLES = {"string": str, "int": int, "double": float, "string[]": list, "template[string]": str, "boolean": bool}
COMMON = {"id", "type", "brief", "note", "stability", "attributes", "extends"}
KEYS = {
    "attribute_group": COMMON - {"stability"} | {"display_name"},
    "event": COMMON | {"name"},
    "metric": COMMON | {"metric_name", "instrument", "unit"},
    "span": COMMON | {"span_kind"},
}
REQUIRED = {
    "attribute_group": {"id", "type", "brief", "attributes"},
    "event": {"id", "type", "brief", "name", "stability"},
    "metric": {"id", "type", "brief", "metric_name", "instrument", "unit", "stability"},
    "span": {"id", "type", "brief", "span_kind", "stability", "attributes"},
}


def upstream(kind: str) -> set[str]:
    """The `attributes` or `metrics` of OpenTelemetry's conventions."""
    (root,) = map(Path, conventions.__path__)
    found: set[str] = set()
    for file in root.rglob(f"{kind}/*.py"):
        module = ".".join((conventions.__name__, *file.relative_to(root).with_suffix("").parts))
        members = vars(importlib.import_module(module.removesuffix(".__init__")))
        found |= {text for text in members.values() if isinstance(text, str) and NAME.fullmatch(text)}
    return found


def groups() -> list[Json]:
    documents = [
        yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader) for file in sorted(FOLDER.glob("*.yaml"))
    ]
    return [group for document in documents for group in document.get("groups", ())]


def attributes(key: str) -> Iterator[tuple[Json, Json]]:
    """The attributes with `id` or with `ref`, each with its group."""
    return ((group, one) for group in groups() for one in group.get("attributes", ()) if key in one)


def collisions(names: set[str]) -> list[tuple[str, str]]:
    """Names that are the namespace of another one."""
    return [(one, other) for one in names for other in names if other.startswith(f"{one}.")]


every_group = pytest.mark.parametrize("group", groups(), ids=lambda group: group["id"])


def test_the_manifest_names_the_registry_and_the_conventions_that_it_builds_upon() -> None:
    manifest = yaml.safe_load((FOLDER / "manifest.yaml").read_text(encoding="utf-8"))
    assert set(manifest) == {"schema_url", "description", "stability", "dependencies"}
    assert SCHEMA.fullmatch(manifest["schema_url"])
    assert manifest["stability"] in STABILITY
    (conventions,) = manifest["dependencies"]
    assert set(conventions) == {"schema_url", "registry_path"}
    assert conventions["schema_url"] == SCHEMA_URL
    assert SCHEMA_URL in {one.value for one in Schemas}, (
        "what is referred to is checked against that version, or a later one"
    )
    version = SCHEMA.fullmatch(SCHEMA_URL)
    assert version
    assert f"v{version[1]}." in conventions["registry_path"]


def test_every_other_file_holds_groups_and_nothing_else() -> None:
    for file in FOLDER.iterdir():
        if file.name != "manifest.yaml":
            assert file.suffix == ".yaml"
            assert set(yaml.safe_load(file.read_text(encoding="utf-8"))) == {"groups"}


@every_group
def test_a_group_has_what_its_type_requires_and_nothing_that_it_does_not_know(group: Json) -> None:
    assert group["type"] in KEYS
    assert REQUIRED[group["type"]] <= set(group) <= KEYS[group["type"]]
    assert group["brief"].endswith(".")
    assert group.get("stability", "stable") in STABILITY


@every_group
def test_a_group_has_the_id_that_its_name_gives(group: Json) -> None:
    match group["type"]:
        case "metric":
            assert NAME.fullmatch(group["metric_name"])
            assert group["id"] == f"metric.{group['metric_name']}"
        case "event":
            assert NAME.fullmatch(group["name"])
            assert group["id"] == f"event.{group['name']}"
        case "span":
            assert group["span_kind"] in {"client", "server", "producer", "consumer", "internal"}
            assert re.fullmatch(rf"span\.[a-z0-9_.]+\.{group['span_kind']}", group["id"])


def test_ids_are_unique() -> None:
    assert [name for name, times in Counter(group["id"] for group in groups()).items() if times > 1] == []


def test_a_metric_has_an_instrument_and_a_unit_that_every_translation_keeps() -> None:
    for group in groups():
        if group["type"] == "metric":
            assert group["instrument"] in {"counter", "gauge", "histogram", "updowncounter"}
            assert UNIT.fullmatch(group["unit"]), "a plain 1 becomes _ratio, or not, and % becomes _percent"


def test_a_metric_is_ours_by_its_name_or_one_of_the_conventions() -> None:
    names = {group["metric_name"] for group in groups() if group["type"] == "metric"}
    assert {name for name in names if not name.startswith("otelbridge.")} <= upstream("metrics")


def test_attributes_are_defined_in_registry_groups_and_referred_to_elsewhere() -> None:
    for group, _ in attributes("id"):
        assert group["id"].startswith("registry.")
        assert group["type"] == "attribute_group"
    for group, one in attributes("ref"):
        assert not group["id"].startswith("registry.")
        assert set(one) <= {"ref", "requirement_level", "brief", "note", "examples"}
        assert one["requirement_level"] in LEVELS


def test_an_attribute_is_defined_once_and_whole() -> None:
    defined = [one for _, one in attributes("id")]
    assert max(Counter(one["id"] for one in defined).values()) == 1
    for one in defined:
        assert set(one) - {"examples"} == {"id", "type", "stability", "brief"}
        assert NAME.fullmatch(one["id"])
        assert "." in one["id"], "it has a namespace"
        assert one["type"] in EXAMPLES
        assert one["stability"] in STABILITY
        assert one["brief"].endswith(".")
        assert one.get("examples") or one["type"] == "boolean"
        assert all(type(example) is EXAMPLES[one["type"]] for example in one.get("examples", ()))


def test_what_is_referred_to_is_defined_here_or_in_the_conventions_and_never_in_both() -> None:
    ours, theirs = {one["id"] for _, one in attributes("id")}, upstream("attributes")
    assert "service.instance.id" in theirs
    assert not ours & theirs
    assert {one["ref"] for _, one in attributes("ref")} <= ours | theirs
    assert {name for name in ours if not name.startswith(("kubearmor.", "otelbridge."))} == BY_SPECIFICATION


def test_a_group_refers_to_an_attribute_once_and_an_event_never_to_its_own_name() -> None:
    by_id = {group["id"]: group for group in groups()}
    for group in groups():
        refs = [one["ref"] for one in group.get("attributes", ()) if "ref" in one]
        assert len(refs) == len(set(refs)), group["id"]
        assert group["type"] != "event" or "event.name" not in refs
        if "extends" in group:
            assert by_id[group["extends"]]["type"] == "attribute_group"


@pytest.mark.parametrize("kind", ["attribute", "metric", "event"])
def test_no_name_is_the_namespace_of_another_nor_the_same_constant_in_code(kind: str) -> None:
    names = {
        "attribute": {one["id"] for _, one in attributes("id")} | {one["ref"] for _, one in attributes("ref")},
        "metric": {group["metric_name"] for group in groups() if group["type"] == "metric"},
        "event": {group["name"] for group in groups() if group["type"] == "event"},
    }[kind]
    assert collisions(names) == []
    constants = Counter(name.replace(".", "_") for name in names)
    assert [name for name, times in constants.items() if times > 1] == []
