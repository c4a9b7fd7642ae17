"""Turns pydantic's validation errors into problems in the operator's words: path, value, what is wrong, the cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from otelbridge.net.address import HIDDEN, without_credentials
from otelbridge.settings.tree import Settings, is_section, section_at

_SECRET_NAME = re.compile(
    r"(^|[^a-z])(authorization|headers|cookie|credentials?)([^a-z]|$)"
    r"|passw(or)?d|passphrase|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|license[-_.]?key",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(_file|_seconds|_bytes)$|^(allow|lend)_")


def is_secret(name: str) -> bool:
    """Whether what goes by that name (a key, a header) is a secret; the path of a secret's file is none."""
    last = name.rsplit(".", 1)[-1]
    return not _PLACE.search(last) and _SECRET_NAME.search(last) is not None


def hidden(name: str, value: Any) -> Any:
    """The value as it may be shown: secrets replaced, at any depth, and passwords cut out of URLs."""
    if isinstance(value, Mapping):
        if is_secret(name):
            return dict.fromkeys(value, HIDDEN)
        return {key: hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(name, item) for item in value]
    if not isinstance(value, str) or not value:
        return value  # a switch or a number is no secret, whatever its name
    return HIDDEN if is_secret(name) else without_credentials(value)


DEFAULT_ORIGIN = "default"
CLOSE_ENOUGH = 0.7
"""Of 1: a slip of the pen is above it, another word below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value, as somebody gave it: not checked yet."""

    path: str
    """Dotted, such as `feed.retry.max_seconds`; it need not exist."""
    value: Any
    origin: str
    """`flag --x`, `environment NAME`, `file PATH:LINE`."""
    base_of: str = ""
    """For an endpoint that is only a base: the path that OTLP/HTTP appends, such as `/v1/logs`."""


MAX_SHOWN_CHARS = 400
"""Of a value that is wrong, or of what is said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the settings."""

    path: str
    """The setting, or the variable's or file's name where there is no such setting."""
    wrong: str
    """What is wrong, without its subject: `must be at least 10`."""
    cure: str
    origin: str = ""
    value: str = ""
    """As it may be shown: secrets are hidden."""

    def __str__(self) -> str:
        """One line that can be printed: path, value, what is wrong, cure, origin."""
        subject = f"{self.path} = {shortened(self.value)}" if self.value else self.path
        place = f" ({self.origin})" if self.origin else ""
        line = f"{subject}: {shortened(self.wrong)}. {self.cure}{place}"
        if line.isprintable():
            return line
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


def shortened(text: str) -> str:
    """At most MAX_SHOWN_CHARS of it."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


class SettingsError(Exception):
    """The settings cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True, kw_only=True)
class Layer:
    """What one place (file, environment, flags) has to say."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the operator about values that were taken, but perhaps not as meant."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest known word as a sentence, or empty when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=CLOSE_ENOUGH)
    return f"Did you mean {close[0]}?" if close else ""


MAX_SHOWN_CHARACTERS = 120
"""Of a faulty value: enough to recognise it."""

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "ki": 1024,
    "kib": 1024,
    "m": 1000**2,
    "mb": 1000**2,
    "mi": 1024**2,
    "mib": 1024**2,
    "g": 1000**3,
    "gb": 1000**3,
    "gi": 1024**3,
    "gib": 1024**3,
}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*")


def problems_of(error: ValidationError, origin_of: Callable[[str], str]) -> list[tuple[str, Problem]]:
    """Each fault with the path of the setting (without list positions) that it concerns."""
    found = error.errors()
    # A list that lost its faulty items may be too short for pydantic; what is wrong is the items.
    faulty = {details["loc"][:-1] for details in found}
    told = [one for one in found if one["type"] != "too_short" or one["loc"] not in faulty]
    return [_problem(details, origin_of) for details in told]


def _problem(details: ErrorDetails, origin_of: Callable[[str], str]) -> tuple[str, Problem]:
    setting, path = _paths(details["loc"])
    wrong, cure = _explained(details, path)
    valueless = details["type"] in ("missing", "extra_forbidden") or section_at(setting) is not None
    value = "" if valueless else _shown(path, details["input"])
    return setting, Problem(path=path, value=value, wrong=wrong, cure=cure, origin=origin_of(path))


def _paths(location: tuple[int | str, ...]) -> tuple[str, str]:
    """The setting (`gate.rules`), and the exact place in it (`gate.rules[0].name`)."""
    exact = ""
    setting = []
    model: Any = Settings
    for part in location:
        exact += f"[{part}]" if isinstance(part, int) else f".{part}" if exact else str(part)
        if isinstance(model, type) and issubclass(model, BaseModel):
            setting.append(str(part))
            field = model.model_fields.get(str(part))
            model = field.annotation if field is not None and is_section(field.annotation) else None
    return ".".join(setting), exact.removesuffix(".[key]")


def _explained(details: ErrorDetails, path: str) -> tuple[str, str]:
    kind, context = details["type"], details.get("ctx", {})
    name = path.rsplit(".", 1)[-1]
    if kind == "extra_forbidden":
        known = _known_keys(details["loc"])
        return "there is no such setting", did_you_mean(name, known) or f"Known here: {', '.join(known)}."
    if kind in ("literal_error", "enum"):
        words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        cure = did_you_mean(str(details["input"]), words) or "Write one of them."
        return f"must be one of {', '.join(words)}", cure
    if kind in _KINDS:
        wrong, cure = _KINDS[kind]
        return wrong.format(**context), _quantity_cure(name, details["input"]) or cure.format(**context)
    if kind == "value_error":  # a component's own check: `what is wrong; the cure`
        wrong, _, cure = details["msg"].removeprefix("Value error, ").partition("; ")
        return wrong, f"{cure[:1].upper()}{cure[1:]}." if cure else "Correct the value."
    message = details["msg"].removeprefix("Input should be ")
    return f"must be {message}" if details["msg"].startswith("Input should be ") else message, "Correct the value."


# What pydantic calls a fault: what we say is wrong, and the cure.
_KINDS: Mapping[str, tuple[str, str]] = {
    "missing": ("is missing", "Add it."),
    "greater_than_equal": ("must be at least {ge}", "Write {ge} or more."),
    "greater_than": ("must be above {gt}", "Write a number above {gt}."),
    "less_than_equal": ("must be at most {le}", "Write {le} or less."),
    "less_than": ("must be below {lt}", "Write a number below {lt}."),
    "int_parsing": ("is not a whole number", "Write digits only."),
    "int_type": ("is not a whole number", "Write digits only."),
    "int_from_float": ("is not a whole number", "Write it without a fraction."),
    "float_parsing": ("is not a number", "Write a plain number, such as 2.5."),
    "float_type": ("is not a number", "Write a plain number, such as 2.5."),
    "bool_parsing": ("is neither true nor false", "Write true or false."),
    "bool_type": ("is neither true nor false", "Write true or false."),
    "string_type": ("is not text", "Put it in quotes."),
    "string_too_short": ("is empty", "Write at least {min_length} character."),
    "too_short": ("is empty", "Give at least {min_length} item, or leave the setting out."),
    "tuple_type": ("is not a list", "Write a list, such as [a, b]."),
    "dict_type": ("is not a map", "Write key: value pairs."),
    "model_type": ("is not a section", "Write its keys below it, each on its own line."),
    "path_type": ("is not a path", "Write a path, in quotes if it looks like a number."),
}


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that an unknown key stands in."""
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        models = [annotation, *get_args(annotation)]
        model = next(item for item in models if is_section(item))
    return list(model.model_fields)


def _quantity_cure(name: str, value: Any) -> str:
    """`30s` or `512MiB` where a plain number belongs: the number that was meant."""
    units = _SECONDS if name.endswith("_seconds") else _BYTES if name.endswith("_bytes") else {}
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = units.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        return ""
    number = float(match.group(1)) * unit
    return f"The unit stands in the name: write {int(number) if number.is_integer() else number}."


def _shown(path: str, value: Any) -> str:
    segments = re.sub(r"\[[^]]*]", "", path).split(".")
    if any(is_secret(segment) for segment in segments):
        return str(hidden("headers", value) if isinstance(value, Mapping) else "(secret)")
    text = str(hidden(segments[-1], value))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
