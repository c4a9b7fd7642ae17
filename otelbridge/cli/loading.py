"""Loads the settings for a command; wrong ones end it with exit 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from otelbridge.cli.output import Exit, say
from otelbridge.settings.environment import config_file, environment
from otelbridge.settings.load import SET_FLAG, Loaded, load
from otelbridge.settings.tree import SettingsError


def load_or_exit(
    config: Path | None,
    sets: Sequence[str] | None,
    *,
    check_files: bool = True,
    quiet: bool = False,
    **flags: str | Sequence[str] | None,
) -> Loaded:
    """Loads the settings and prints notes on stderr; prints every problem and exits with 2 when there are any.

    `flags` are those beside --config and --set, by names with underscores (`queue_directory`); None where not given.
    """
    try:
        loaded = load_given(config, sets, check_files=check_files, **flags)
    except SettingsError as error:
        tell_problems(error)
        raise SystemExit(Exit.WRONG_USAGE) from None
    if not quiet:
        for note in loaded.notes:
            say(f"Note: {note}")
    return loaded


def load_given(
    config: Path | None,
    sets: Sequence[str] | None,
    *,
    check_files: bool = True,
    **flags: str | Sequence[str] | None,
) -> Loaded:
    """The same, but leaves the errors to the caller.

    Raises:
        SettingsError: with every problem.
    """
    variables = environment()
    given = {f"--{name.replace('_', '-')}": value for name, value in flags.items() if value}
    if sets:
        given[SET_FLAG] = list(sets)
    return load(file=config_file(config, variables), environment=variables, flags=given, check_files=check_files)


def tell_problems(error: SettingsError) -> None:
    """Every problem, one per line, on stderr."""
    count = len(error.problems)
    say("The settings cannot be used:" if count == 1 else f"The settings cannot be used, for {count} reasons:")
    for problem in error.problems:
        say(f"  {problem}")
