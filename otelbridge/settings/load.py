"""File, environment and flags become one checked tree; each value knows where it came from.

Precedence: flag > `OTELBRIDGE_*` > standard variables (`OTEL_*`, `KUBEARMOR_SERVICE`) > file > default. A higher place
replaces a value whole: lists and maps are not merged. Every problem is found before anything is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from otelbridge.settings.checks import complaints
from otelbridge.settings.complaint import Complaint
from otelbridge.settings.derive import derived
from otelbridge.settings.file_checks import date_notes, file_complaints, pair_complaints
from otelbridge.settings.flags import from_flags
from otelbridge.settings.given import DEFAULT_ORIGIN, Given, Problem, SettingsError
from otelbridge.settings.hints import hints
from otelbridge.settings.otel_environment import otel_environment
from otelbridge.settings.own_environment import own_environment
from otelbridge.settings.own_file import from_file
from otelbridge.settings.problems import problems_of
from otelbridge.settings.tree import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Checked settings, and how they came about."""

    settings: Settings
    origins: Mapping[str, str]
    """Path to origin, for what is not a default."""
    notes: tuple[str, ...] = ()
    """Sentences for the operator: what was read differently than perhaps meant."""
    file: Path | None = None

    def origin(self, path: str) -> str:
        """Where a value came from: `flag --x`, `environment X`, `file X:LINE`, `derived from X`, `default`."""
        return self.origins.get(path, DEFAULT_ORIGIN)


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str],
    flags: Mapping[str, str | Sequence[str]] | None = None,
    check_files: bool = True,
) -> Loaded:
    """Loads, merges and checks the settings.

    Args:
        file: a YAML file, or none.
        environment: the process's variables.
        flags: as `flags.from_flags` takes them.
        check_files: also look at the files that the settings name (certificates, tokens); commands that connect to
            nothing leave that out.

    Raises:
        SettingsError: with every problem found.
    """
    layers = (
        from_file(file, environment),
        otel_environment(environment),
        own_environment(environment),
        from_flags(flags or {}),
    )
    problems = [problem for layer in layers for problem in layer.problems]
    notes = [note for layer in layers for note in layer.notes]
    given = {one.path: one for layer in layers for one in layer.given}

    settings, faults = _validated(given)
    problems += [problem for _, problem in faults]
    faulty = {path for path, _ in faults} | {problem.path for problem in problems}
    given = {path: one for path, one in given.items() if path not in faulty}

    further, further_notes = derived(settings, given)
    settings, _ = _validated({**given, **further})
    # A value that merely follows from another one is not blamed for its faults: the other one is.
    excused = faulty | (further.keys() - given.keys() - {"send.endpoint"})
    problems += _cross_checked(settings, given, excused, check_files=check_files)
    if problems:
        raise SettingsError(problems)
    dated = date_notes(settings) if check_files else ()
    origins = {path: one.origin for path, one in {**given, **further}.items() if one.origin != DEFAULT_ORIGIN}
    return Loaded(
        settings=settings,
        origins=origins,
        notes=tuple(dict.fromkeys([*notes, *further_notes, *hints(settings), *dated])),
        file=file,
    )


def _validated(given: Mapping[str, Given]) -> tuple[Settings, list[tuple[str, Problem]]]:
    """The tree, without the values that were faulty, and the faults by setting."""
    try:
        return Settings.model_validate(_nested(given.values())), []
    except ValidationError as error:
        faults = problems_of(error, _origin_of(given))
        faulty = {path for path, _ in faults}
        sections = tuple(f"{path}." for path in faulty)  # a fault between the settings of one section
        rest = {path: one for path, one in given.items() if path not in faulty and not path.startswith(sections)}
        if len(rest) == len(given):  # cannot be: every fault is somebody's; but never loop on it
            raise
        return _validated(rest)[0], faults


def _origin_of(given: Mapping[str, Given]) -> Callable[[str], str]:
    def origin_of(path: str) -> str:
        found = [one for one in given.values() if path == one.path or path.startswith((one.path + ".", one.path + "["))]
        within = [one for one in given.values() if one.path.startswith(path + ".")]
        return ", ".join(dict.fromkeys(one.origin for one in found or within)) or DEFAULT_ORIGIN

    return origin_of


def _nested(given: Iterable[Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for one in given:
        *sections, name = one.path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = one.value
    return tree


def _cross_checked(
    settings: Settings, given: dict[str, Given], excused: set[str], *, check_files: bool
) -> Iterator[Problem]:
    """What the checks across settings find, unless a setting concerned is excused."""
    checks: list[Iterator[Complaint]] = [complaints(settings), pair_complaints(settings)]
    if check_files:
        checks.append(file_complaints(settings))
    seen: set[tuple[str, str]] = set()
    for check in checks:
        for complaint in check:
            problem = complaint.as_problem(given)
            same = (problem.origin, problem.wrong)  # one variable feeds three sections: it is reported once
            if excused.isdisjoint(complaint.paths) and (problem.origin == DEFAULT_ORIGIN or same not in seen):
                seen.add(same)
                yield problem
