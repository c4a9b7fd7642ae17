"""The settings file's keys become given values, each with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otelbridge.settings.given import Given, Layer, Problem
from otelbridge.settings.hiding import hidden
from otelbridge.settings.substitution import substituted
from otelbridge.settings.text import from_text
from otelbridge.settings.tree import leaves, section_at
from otelbridge.settings.yaml_file import YamlFileError, read


def from_file(file: Path | None, environment: Mapping[str, str]) -> Layer:
    """What the file says; a key without a value counts as not given."""
    layer = Layer()
    if file is None:
        return layer
    try:
        content = read(file)
    except YamlFileError as error:
        cure = "Correct the file, or name another with --config."
        origin = _place(file, error.line)
        layer.problems.append(Problem(path=str(file), wrong=error.wrong, cure=cure, origin=origin))
        return layer

    unset: dict[str, str] = {}
    annotations = {leaf.path: leaf.annotation for leaf in leaves()}
    for path, value in _flattened(substituted(content.values, environment, unset.__setitem__), ""):
        if any(place == path or place.startswith((f"{path}.", f"{path}[")) for place in unset):
            continue  # reported below
        origin = _place(file, content.lines.get(path))
        try:
            shaped = _shaped(path, value, annotations)
        except ValueError as error:
            wrong, _, cure = str(error).partition(". ")
            value_shown = str(hidden(path, value))
            layer.problems.append(
                Problem(
                    path=path, value=value_shown, wrong=wrong, cure=cure or "Write a YAML list or map.", origin=origin
                )
            )
        else:
            layer.given.append(Given(path=path, value=shaped, origin=origin))
    for path, name in unset.items():
        layer.problems.append(
            Problem(
                path=path,
                wrong=f"refers to the variable {name}, which is not set",
                cure=f"Set it, or give a default: ${{env:{name}:-default}}.",
                origin=_place(file, content.lines.get(path)),
            )
        )
    return layer


def _shaped(path: str, value: Any, annotations: Mapping[str, Any]) -> Any:
    if section_at(path) is not None:
        raise ValueError("is a section, not a value. Write its keys below it, each on its own line.")
    return from_text(annotations[path], value) if isinstance(value, str) and path in annotations else value


def _place(file: Path, line: int | None) -> str:
    return f"file {file}:{line}" if line else f"file {file}"


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything that is not a section with keys in it."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and section_at(path) is not None:
            yield from _flattened(value, path + ".")
        elif value is not None:
            yield path, value
