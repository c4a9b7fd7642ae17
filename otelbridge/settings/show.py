"""Writes a settings file to start from, and shows settings with secrets hidden."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel

from otelbridge.settings.environment import SDK_VARIABLES, STANDARD_VARIABLES
from otelbridge.settings.load import Loaded
from otelbridge.settings.problems import DEFAULT_ORIGIN, hidden
from otelbridge.settings.tree import Settings, is_section, leaves, value_at

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


class Shown(TypedDict):
    """One setting."""

    value: Any
    """Made of JSON's types only."""
    origin: str


def shown(loaded: Loaded) -> dict[str, Shown]:
    """Every setting by its path, in the tree's order; what is secret reads `(secret)`."""
    return {
        leaf.path: Shown(
            value=hidden(leaf.path, plain(value_at(loaded.settings, leaf.path))),
            origin=loaded.origin(leaf.path),
        )
        for leaf in leaves()
    }


def changed(settings: dict[str, Shown]) -> dict[str, Shown]:
    """Those of them that are not a default."""
    return {path: one for path, one in settings.items() if one["origin"] != DEFAULT_ORIGIN}


def plain(value: Any) -> Any:
    """A setting's value in JSON's types; sections within a value (a rule) without what they leave at its default."""
    if isinstance(value, BaseModel):
        return {name: plain(item) for name, item in value if name in value.model_fields_set}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


_BINARY_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def settings_table_markdown() -> str:
    """Every setting: key, variable, default, meaning."""
    rows = ["| key | variable | default | meaning |", "|---|---|---|---|"]
    for leaf in leaves():
        default, meaning = _default(leaf.path, leaf.default), _cell(leaf.description)
        rows.append(f"| `{leaf.path}` | `{leaf.environment_name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def standard_variables_table_markdown() -> str:
    """Every standard variable that is honoured: name, what it sets, meaning."""
    rows = ["| variable | sets | meaning |", "|---|---|---|"]
    for row in (*STANDARD_VARIABLES, *SDK_VARIABLES):
        paths = ", ".join(f"`{path}`" for path in row.paths) or "(the SDK)"
        rows.append(f"| `{row.name}` | {paths} | {_cell(row.meaning)} |")
    return "\n".join(rows) + "\n"


def _default(path: str, value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "none" if value is None or value == "" else "empty"
    if path.endswith("_bytes"):
        for size, unit in _BINARY_UNITS:
            if value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    if isinstance(value, (str, Path)):
        return f"`{value}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in plain(value))
    return f"`{json.dumps(plain(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


COMMENT_WIDTH = 110

_HEAD = """\
# otelbridge settings. Everything is optional; what is commented out stands at its default.
# Each key can also be set by a variable (OTELBRIDGE_FEED__ENDPOINTS) or a flag (--set feed.endpoints=relay:32767).
# ${env:NAME:-default} in a value takes the value of a variable.
# `otelbridge config check` says what is wrong, `otelbridge config show` what is in force.
"""

_EXAMPLES = {"gate.rules": "[{name: no-kube-system-logs, action: drop, stream: [logs], namespace: [kube-system]}]"}
"""Where the default, an empty list, would not show the form."""


def starter() -> str:
    """The file's text: valid as it is, and the same as no file."""
    return _HEAD + "\n".join(_section(Settings, "", 0)) + "\n"


def _section(model: type[BaseModel], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            if depth == 0:
                yield ""
            section: type[BaseModel] = field.annotation  # type: ignore[assignment]  # is_section has just said so
            if section.__doc__:
                yield f"{indent}# {section.__doc__.strip().splitlines()[0]}"
            yield f"{indent}{name}:"
            yield from _section(section, f"{prefix}{name}.", depth + 1)
            continue
        yield from textwrap.wrap(
            field.description or "",
            COMMENT_WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        default = plain(field.get_default(call_default_factory=True, validated_data={}))
        # JSON is YAML: quoting and lists need no further thought.
        yield f"{indent}# {name}: {_EXAMPLES.get(prefix + name) or json.dumps(default)}"
