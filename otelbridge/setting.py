"""How a setting is declared, and how a value is checked against its declaration: all faults are found, not the first.

Of a list with many, the first ten are. A section is a frozen dataclass whose fields are made by `setting`. Values come
from YAML, JSON or Python; text from a variable, a flag or a quoted YAML value is read as a number or a switch where one
belongs.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeGuard,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

T = TypeVar("T")


class SettingLimits(NamedTuple):
    """What a value must keep to beside its type."""

    ge: float | None = None
    le: float | None = None
    min_length: int = 0
    """Of a text or a list."""
    max_length: int | None = None
    """Of a list; none of its items is looked at where there are more."""
    check: Callable[[Any], None] | None = None
    """Raises ValueError, `what is wrong; the cure`."""


class Setting(NamedTuple):
    """One field of a section."""

    name: str
    type: Any
    default: Any
    """MISSING where the field must be given."""
    description: str
    limits: SettingLimits = SettingLimits()


MISSING = dataclasses.MISSING


@overload
def setting(*, default: T, description: str, repr: bool = True, **limits: Any) -> T: ...
@overload
def setting(*, default_factory: Callable[[], T], description: str = "", repr: bool = True, **limits: Any) -> T: ...
@overload
def setting(*, description: str, **limits: Any) -> Any: ...
def setting(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    description: str = "",
    repr: bool = True,  # noqa: A002  # dataclasses' own word
    **limits: Any,
) -> Any:
    """A field of a section; `limits` are those of SettingLimits. Without a default it must be given."""
    facts = {"description": description, "limits": SettingLimits(**limits)}
    if default_factory is not MISSING:
        return dataclasses.field(default_factory=default_factory, repr=repr, metadata=facts)
    return dataclasses.field(default=default, repr=repr, metadata=facts)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
def section(model: type[T]) -> type[T]:
    """Makes a class a section of settings."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(model)
    kinds = get_type_hints(made)
    made.__settings__ = {  # type: ignore[attr-defined]  # what settings_of gives
        field.name: Setting(
            field.name,
            kinds[field.name],
            field.default if field.default_factory is MISSING else field.default_factory(),
            **field.metadata,
        )
        for field in dataclasses.fields(made)  # type: ignore[arg-type]  # it is one by now
    }
    return made


def is_section(kind: Any) -> TypeGuard[type[Any]]:
    """Whether a type holds further settings rather than a value."""
    return hasattr(kind, "__settings__")


def settings_of(model: type[Any]) -> Mapping[str, Setting]:
    """The settings of a section by name, in the order in which they are written."""
    found: Mapping[str, Setting] = model.__settings__
    return found


class SettingFault(NamedTuple):
    """One thing wrong with a value."""

    at: str
    """The place within the value, such as `[0].pattern`; empty for the value itself."""
    wrong: str
    """Without its subject: `must be at least 10`."""
    cure: str
    value: Any = None
    """What stands there; None where there is nothing to show."""


def checked(given: Setting, value: Any, faults: list[SettingFault], at: str = "") -> Any:
    """The value in the setting's type. What is wrong with it is added to `faults`; then the result means nothing."""
    before, most = len(faults), given.limits.max_length
    if most is not None and isinstance(value, list | tuple) and len(value) > most:
        faults.append(SettingFault(at, f"has {len(value)} items", f"Write {most} at most."))
        return None
    found = _typed(given.type, value, faults, at)
    if len(faults) == before and found is not None:
        said = _beyond(given.limits, found)
        if said:
            faults.append(SettingFault(at, *said, value))
    return found


def section_from(model: type[T], values: Mapping[str, Any]) -> T:
    """A section made of plain values.

    Raises:
        ValueError: names every fault.
    """
    faults: list[SettingFault] = []
    found: T = _section(model, values, faults, "")
    if faults:
        raise ValueError("\n".join(f"{one.at.removeprefix('.')}: {one.wrong}. {one.cure}" for one in faults))
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest known word as a sentence, or empty when none is close."""
    import difflib  # noqa: PLC0415 - for a mistake only

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=CLOSE_ENOUGH)
    return f"Did you mean {close[0]}?" if close else ""


MOST_FAULTS = 10
"""Of one list: behind them its items are not looked at."""
CLOSE_ENOUGH = 0.7
"""Of 1: a slip of the pen is above it, another word below."""


def unknown(name: str, known: Iterable[str]) -> tuple[str, str]:
    """What is wrong with a name that no setting of a section has, and the cure."""
    return "there is no such setting", did_you_mean(name, known) or f"Known here: {', '.join(known)}."


def without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was in it."""
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return kind, False


def _typed(kind: Any, value: Any, faults: list[SettingFault], at: str) -> Any:
    kind, optional = without_none(kind)
    if optional and value is None:
        return None
    if is_section(kind):
        return _section(kind, value, faults, at)
    shape = get_origin(kind)
    if shape is tuple and isinstance(value, list | tuple):
        found, most = [], len(faults) + MOST_FAULTS
        for i, one in enumerate(value):
            if len(faults) < most:
                found.append(_typed(get_args(kind)[0], one, faults, f"{at}[{i}]"))
        return tuple(found)
    if shape is dict and isinstance(value, Mapping):
        return {key: _typed(get_args(kind)[1], one, faults, f"{at}.{key}") for key, one in value.items()}
    return _scalar(kind, value, faults, at)


def _scalar(kind: Any, value: Any, faults: list[SettingFault], at: str) -> Any:
    if get_origin(kind) is Literal:
        for word in get_args(kind):
            if isinstance(value, str) and value == word:
                return word
        words = list(map(str, get_args(kind)))
        wrong, cure = f"must be one of {', '.join(words)}", did_you_mean(str(value), words) or "Write one of them."
    else:
        reader, wrong, cure = _KINDS[get_origin(kind) or kind]
        with suppress(ValueError, OverflowError):
            return reader(value)
    faults.append(SettingFault(at, wrong, cure, value))
    return None


def _section(model: type[Any], value: Any, faults: list[SettingFault], at: str) -> Any:
    if isinstance(value, model):
        return value
    if not isinstance(value, Mapping):
        faults.append(SettingFault(at, "is not a section", "Write its keys below it, each on its own line.", value))
        return None
    before, known, given = len(faults), settings_of(model), {}
    for name, one in known.items():
        if name in value:
            given[name] = checked(one, value[name], faults, f"{at}.{name}")
        elif one.default is MISSING:
            faults.append(SettingFault(f"{at}.{name}", "is missing", "Add it."))
    faults.extend(SettingFault(f"{at}.{name}", *unknown(str(name), known)) for name in value if name not in known)
    return model(**given) if len(faults) == before else None


def _beyond(limits: SettingLimits, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value of the right type, and the cure."""
    ge, le, least, _, check = limits
    if ge is not None and not value >= ge:  # NaN is not
        return f"must be at least {ge}", f"Write {ge} or more."
    if le is not None and not value <= le:
        return f"must be at most {le}", f"Write {le} or less."
    if least and len(value) < least:
        more = "Write at least one character." if isinstance(value, str) else "Give an item, or leave the setting out."
        return "is empty", more
    try:
        if check is not None:
            check(value)
    except ValueError as error:
        wrong, _, cure = str(error).partition("; ")
        return wrong, f"{cure[:1].upper()}{cure[1:]}." if cure else "Correct the value."
    return None


_WHOLE = re.compile(r"\s*([+-]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?\s*")
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


def _switch(value: Any) -> bool:
    word = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else value
    if not isinstance(word, str) or word.lower() not in _TRUE | _FALSE:
        raise ValueError
    return word.lower() in _TRUE


def _whole(value: Any) -> int:
    match = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    if match:
        return int(match.group(1))
    if isinstance(value, bool | str) or not isinstance(value, int | float) or value != int(value):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not str(value).isascii():
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  # the one way in which a reader says no
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError  # noqa: TRY004  # as above
    return Path(value)


def _neither(_: Any) -> Any:
    raise ValueError


_KINDS: Mapping[Any, tuple[Callable[[Any], Any], str, str]] = {
    bool: (_switch, "is neither true nor false", "Write true or false."),
    int: (_whole, "is not a whole number", "Write digits only."),
    float: (_number, "is not a number", "Write a plain number, such as 2.5."),
    str: (_text, "is not text", "Put it in quotes."),
    Path: (_path, "is not a path", "Write a path, in quotes if it looks like a number."),
    tuple: (_neither, "is not a list", "Write a list, such as [a, b]."),
    dict: (_neither, "is not a map", "Write key: value pairs."),
}
"""By type: how a value is read, and what is said of one that cannot be."""
