"""Writes a settings file to start from, and shows settings with secrets hidden."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args, get_origin

from otelbridge.net.secrets import hidden
from otelbridge.setting import MISSING, Setting, is_section, settings_of, without_none
from otelbridge.settings.load import Loaded
from otelbridge.settings.tree import DEFAULT_ORIGIN, Settings, leaves, value_at

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{env:[^}]+\}", "description": "A variable's value."}
_JSON_TYPES: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string", "format": "path"},
}


def schema() -> dict[str, Any]:
    """The schema as a JSON document."""
    definitions: dict[str, Any] = {}
    _refer(Settings, definitions)
    found = definitions.pop(Settings.__name__)
    return {"$schema": DIALECT, "$defs": definitions, **found, "title": "otelbridge settings"}


def _refer(model: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference to a section's schema, which is added where it is not there yet."""
    if model.__name__ not in definitions:
        settings = settings_of(model)
        definitions[model.__name__] = {
            "type": "object",
            "description": model.__doc__,
            "properties": {name: _property(one, definitions) for name, one in settings.items()},
            "additionalProperties": False,
        }
        if required := [name for name, one in settings.items() if one.default is MISSING]:
            definitions[model.__name__]["required"] = required
    return {"$ref": f"#/$defs/{model.__name__}"}


def _property(one: Setting, definitions: dict[str, Any]) -> dict[str, Any]:
    kind, optional = without_none(one.type)
    shape = _shape(kind, definitions)
    if is_section(kind):
        return shape
    about = {"description": one.description} | ({} if one.default is MISSING else {"default": plain(one.default)})
    least = "minLength" if kind is str else "minItems"
    limits = {"minimum": one.limits.ge, "maximum": one.limits.le, least: one.limits.min_length or None}
    limits["maxItems"] = one.limits.max_length
    choices = [shape | {name: limit for name, limit in limits.items() if limit is not None}]
    choices += [{"type": "null"}] * optional
    choices += [_REFERENCE] * (shape["type"] != "string" or "enum" in shape)
    return about | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def _shape(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if is_section(kind):
        return _refer(kind, definitions)
    shape, within = get_origin(kind), get_args(kind)
    if shape is Literal:
        return {"type": "string", "enum": list(map(str, within))}
    if shape is tuple:
        return {"type": "array", "items": _shape(within[0], definitions)}
    if shape is dict:
        return {"type": "object", "additionalProperties": _shape(within[1], definitions)}
    return _JSON_TYPES[kind]


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
    if is_section(type(value)):
        known = settings_of(type(value))
        return {name: plain(item) for name, item in vars(value).items() if item != known[name].default}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


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


def _section(model: type[Any], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, one in settings_of(model).items():
        if is_section(one.type):
            if depth == 0:
                yield ""
            yield f"{indent}# {str(one.type.__doc__).strip().splitlines()[0]}"
            yield f"{indent}{name}:"
            yield from _section(one.type, f"{prefix}{name}.", depth + 1)
            continue
        yield from textwrap.wrap(
            one.description,
            COMMENT_WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        # JSON is YAML: quoting and lists need no further thought.
        yield f"{indent}# {name}: {_EXAMPLES.get(prefix + name) or json.dumps(plain(one.default))}"
