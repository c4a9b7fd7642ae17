"""A settings file becomes plain values, and the line that each key stands on.

Read as YAML 1.2 understands words: only `true` and `false` are booleans (`no` and `on` are text), `010` is ten, there
are no dates. A key that stands twice is an error, not a silent choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 1024 * 1024
"""A settings file is a few KiB; more is the wrong file."""

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


for _tag, _pattern, _starts in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_starts))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
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
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise YamlFileError(f"it is larger than {MAX_FILE_BYTES} bytes")
        return _parse(content.decode("utf-8-sig"))
    except OSError as error:
        raise YamlFileError(f"it cannot be read: {error.strerror}") from None
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
