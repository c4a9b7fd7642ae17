"""Converts text from a variable, a flag or a `${env:...}` to the type of its setting.

Lists are JSON (`["a", "b"]`) or comma-separated; maps are JSON or `key=value` pairs separated by commas; everything
else stays text, and pydantic reads numbers and booleans out of it.
"""

from __future__ import annotations

import json
import types
from typing import Any, Union, get_args, get_origin


def from_text(annotation: Any, text: str) -> Any:
    """The text in the shape of the annotation.

    Raises:
        ValueError: with a sentence about what is wrong.
    """
    annotation, optional = _without_none(annotation)
    stripped = text.strip()
    if optional and not stripped:
        return None
    shape = get_origin(annotation)
    if shape is tuple:
        return _json(text) if stripped.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
    if shape is dict:
        return _json(text) if stripped.startswith("{") else pairs(text)
    return text


def pairs(text: str) -> dict[str, str]:
    """`a=1,b=2` as a map; keys and values without surrounding blanks."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            # The part itself is not shown: it may be a secret.
            raise ValueError("one of its parts is not of the form key=value")
        found[key.strip()] = value.strip()
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is not valid JSON for a setting: it is nested too deeply") from None


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) < len(get_args(annotation)) and len(members) == 1:
            return members[0], True
    return annotation, False
