"""Loaded settings as what may be shown: every value with its origin, secrets hidden."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel

from otelbridge.settings.given import DEFAULT_ORIGIN
from otelbridge.settings.hiding import hidden
from otelbridge.settings.load import Loaded
from otelbridge.settings.tree import leaves, value_at


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
