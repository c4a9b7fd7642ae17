"""Reads the settings file into given values, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from otelbridge.net.files import read_bounded
from otelbridge.net.secrets import hidden
from otelbridge.settings.tree import Given, Layer, Problem, from_text, leaves, section_at

MOST_BYTES = 256 * 1024
"""Parsed, it takes up to 400 times its size; thousands of rules fit in."""
_REFERENCE = re.compile(r"(\$?)\$\{env:([^}:]*)(?::-([^}]*))?\}")


def substituted(value: Any, environment: Mapping[str, str], missing: Callable[[str, str], None], path: str = "") -> Any:
    """The value with every reference in its texts replaced; `missing(path, name)` is called for each unset variable."""

    def replacement(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match.group(0)[1:]
        found = environment.get(name, "")
        if found:
            return found
        if default is None:
            missing(path, name)
        return default or ""

    if isinstance(value, str):
        end = value.rfind("}") + 1  # behind it is none, and looking for its end from each beginning takes too long
        return _REFERENCE.sub(replacement, value[:end]) + value[end:]
    if isinstance(value, dict):
        return {
            key: substituted(item, environment, missing, f"{path}.{key}" if path else key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [substituted(item, environment, missing, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
)


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's words."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # typeshed: no ClassVar

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases: a few lines of them can stand for billions of values, or for themselves."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not taken: write the value out", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Says where a value stands that is not what its tag says: the library's constructors take it on trust."""
        try:
            return super().construct_object(node, deep=deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            wrong = f"this is no value of the type {tag}: correct it, or put it in quotes and leave out the tag"
            raise yaml.constructor.ConstructorError(None, None, wrong, node.start_mark) from None


for _tag, _pattern, _starts in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_starts))


MOST_DIGITS = 400
"""Of a whole number: any that a floating-point number can hold has fewer, and Python refuses to write 4,300."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    if len(text) > MOST_DIGITS:
        raise yaml.constructor.ConstructorError(None, None, "this number has too many digits", node.start_mark)
    return int(text[2:] if base != 10 else text, base)  # noqa: PLR2004  # ten is ten


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
        key = key_node.value  # as written: the `1` of a severity table is the text "1"
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """What a file says, and where."""

    values: dict[str, Any]
    lines: dict[str, int]
    """Dotted path to line number, from 1."""


class YamlFileError(Exception):
    """The file cannot be read as a mapping; says what is wrong, and in which line."""

    def __init__(self, wrong: str, line: int | None = None) -> None:
        self.wrong = wrong
        self.line = line
        super().__init__(wrong)


def read(path: Path) -> YamlFile:
    """Reads a settings file.

    Raises:
        YamlFileError: it is not there, not readable, too large, not UTF-8, not YAML, or not a mapping.
    """
    try:
        return _parse(read_bounded(path, most=MOST_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise YamlFileError(f"it cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise YamlFileError(f"it is not UTF-8 text (byte {error.start})") from None


def _parse(text: str) -> YamlFile:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlFileError(f"it is not valid YAML: {said}", mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlFileError(f"it is not valid YAML: {error}") from None
    except RecursionError:
        raise YamlFileError("it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None or values is None:
        return YamlFile(values={}, lines={})
    if not isinstance(values, dict):
        raise YamlFileError("it does not hold `section:` keys at its top", node.start_mark.line + 1)
    lines: dict[str, int] = {}
    _collect_lines(node, "", lines)
    return YamlFile(values=values, lines=lines)


def _collect_lines(node: yaml.Node, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}.{key.value}" if prefix else str(key.value)
            lines[path] = key.start_mark.line + 1
            _collect_lines(value, path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            path = f"{prefix}[{i}]"
            lines[path] = value.start_mark.line + 1
            _collect_lines(value, path, lines)


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
    kinds = {leaf.path: leaf.setting.type for leaf in leaves()}
    for path, value in _flattened(substituted(content.values, environment, unset.__setitem__), ""):
        if any(place == path or place.startswith((f"{path}.", f"{path}[")) for place in unset):
            continue  # reported below
        origin = _place(file, content.lines.get(path))
        try:
            shaped = _shaped(path, value, kinds)
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


def _shaped(path: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    if section_at(path) is not None:
        raise ValueError("is a section, not a value. Write its keys below it, each on its own line.")
    return from_text(kinds[path], value) if isinstance(value, str) and path in kinds else value


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
