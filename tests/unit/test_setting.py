from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest

from otelbridge.gate.settings import GateSettings
from otelbridge.setting import MOST_FAULTS, Setting, SettingFault, checked, section, section_from, setting
from otelbridge.settings.load import load

WORD = Literal["keep", "drop"]


@section
class Shelf:
    """A place."""

    name: str = setting(min_length=1, description="Its name.")
    books: int = setting(default=0, ge=0, le=10, description="How many.")


@section
class Room:
    """Shelves."""

    shelves: tuple[Shelf, ...] = setting(default=(), description="All of them.")
    first: Shelf = setting(default_factory=lambda: Shelf(name="first"))
    use: WORD = setting(default="keep", description="What for.")


def faults_of(kind: Any, value: Any) -> list[SettingFault]:
    faults: list[SettingFault] = []
    checked(Setting("x", kind, None, ""), value, faults)
    return faults


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (bool, "Yes", True),
        (bool, "0", False),
        (bool, 1, True),
        (int, " 1_000 ", 1000),
        (int, "5.0", 5),
        (int, 5.0, 5),
        (float, "1e3", 1000.0),
        (float, 3, 3.0),
        (str, "12", "12"),
        (Path, "/tmp", Path("/tmp")),
        (Path | None, None, None),
        (WORD, "drop", "drop"),
        (tuple[int, ...], ["1", 2], (1, 2)),
        (dict[str, dict[str, int]], {"a": {"b": "9"}}, {"a": {"b": 9}}),
    ],
)
def test_a_value_is_read_as_its_settings_type(kind: Any, value: Any, found: Any) -> None:
    faults: list[SettingFault] = []
    taken = checked(Setting("x", kind, None, ""), value, faults)
    assert (taken, type(taken), faults) == (found, type(found), [])


REFUSED: list[tuple[Any, str, list[Any]]] = [
    (bool, "is neither true nor false", [2, 0.5, "maybe", "", " true", None, []]),
    (int, "is not a whole number", [True, 1.5, math.nan, math.inf, "1e3", "0x1", "1__0", "\u0661", "9" * 5000, None]),
    (float, "is not a number", [False, "", "\u0661", "1s", [], None, 10**400]),
    (str, "is not text", [5, True, None, b"a"]),
    (Path, "is not a path", [5, None]),
    (WORD, "must be one of keep, drop", ["drip", 1, None, ["keep"]]),
    (tuple[str, ...], "is not a list", ["a", {"a": 1}, None]),
    (dict[str, str], "is not a map", [[], "a", None]),
    (Shelf, "is not a section", [[], "a", None]),
]


@pytest.mark.parametrize(
    ("kind", "wrong", "value"), [(kind, wrong, value) for kind, wrong, values in REFUSED for value in values]
)
def test_what_cannot_be_read_is_said_so_with_its_cure(kind: Any, wrong: str, value: Any) -> None:
    (fault,) = faults_of(kind, value)
    assert (fault.at, fault.wrong, fault.value) == ("", wrong, value)
    assert fault.cure.endswith((".", "?"))


@pytest.mark.parametrize(
    ("value", "wrong"), [(-1, "must be at least 0"), (11, "must be at most 10"), ("11", "must be at most 10")]
)
def test_a_number_outside_its_range_is_refused(value: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"books: {wrong}"):
        section_from(Shelf, {"name": "a", "books": value})


def test_no_number_at_all_is_in_no_range() -> None:
    with pytest.raises(Exception, match="must be at least 1"):
        load(environment={"OTELBRIDGE_QUEUE__MAX_AGE_SECONDS": "nan"})


def test_every_fault_within_a_value_is_found_each_at_its_place() -> None:
    faults = faults_of(tuple[Shelf, ...], [{"name": ""}, 5, {"name": "a", "bookz": 1, "books": "x"}, {}])
    assert [(fault.at, fault.wrong, fault.cure) for fault in faults] == [
        ("[0].name", "is empty", "Write at least one character."),
        ("[1]", "is not a section", "Write its keys below it, each on its own line."),
        ("[2].books", "is not a whole number", "Write digits only."),
        ("[2].bookz", "there is no such setting", "Did you mean books?"),
        ("[3].name", "is missing", "Add it."),
    ]


def test_a_section_is_made_of_plain_values_and_of_sections() -> None:
    found = section_from(Room, {"shelves": [{"name": "a"}, Shelf(name="b", books=2)]})
    assert found == Room(shelves=(Shelf(name="a", books=0), Shelf(name="b", books=2)), first=Shelf(name="first"))
    with pytest.raises(AttributeError):
        found.use = "drop"  # type: ignore[misc]  # which is what is tried


def test_of_a_long_list_the_first_faults_are_found() -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        section_from(GateSettings, {"rules": [{"name": "x", "action": "burn"}] * 10_000})
    assert len(str(refused.value).splitlines()) == MOST_FAULTS
