"""The JSON Schema of a settings file, for editors: what `load` takes, including `${env:...}` in place of a value."""

from __future__ import annotations

from typing import Any

from otelbridge.settings.tree import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{env:[^}]+\}", "description": "A variable's value."}
_TEXT_TOO = ("array", "boolean", "integer", "number")
"""What a text may stand for, too: a reference, or a comma-separated list."""


def schema() -> dict[str, Any]:
    """The schema as a JSON document."""
    found = _lenient(Settings.model_json_schema())
    return {"$schema": DIALECT, **found, "title": "otelbridge settings"}


def _lenient(node: Any) -> Any:
    if isinstance(node, list):
        return [_lenient(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _lenient(value) for key, value in node.items()}
    for name, item in node.get("properties", {}).items():
        if isinstance(item, dict) and (item.get("type") in _TEXT_TOO or "enum" in item or "const" in item):
            outside = {key: item.pop(key) for key in ("title", "description", "default") if key in item}
            node["properties"][name] = {**outside, "anyOf": [item, _REFERENCE]}
    return node
