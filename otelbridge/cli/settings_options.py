"""The options that name settings, shared by every command that loads them; wrong settings end a command with exit 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.output import Exit, say
from otelbridge.settings.environment import CONFIG_VARIABLE, config_file, environment
from otelbridge.settings.load import SET_FLAG, Loaded, load
from otelbridge.settings.problems import SettingsError

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help=f"Settings file (YAML); or the variable {CONFIG_VARIABLE}."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        SET_FLAG, metavar="KEY=VALUE", help="Set any setting, such as feed.retry.max_seconds=20. May be repeated."
    ),
]
KubeArmorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kubearmor",
        "-k",
        metavar="HOST:PORT",
        help="Relay or node to subscribe to (default localhost:32767). May be repeated.",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", metavar="URL", help="OTLP endpoint (default http://localhost:4317)."),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="grpc, http/protobuf or console."),
]
QueueDirectoryOption = Annotated[
    str | None,
    typer.Option("--queue-directory", metavar="DIR", help="Folder of the queue (default /var/lib/otelbridge)."),
]
StatusPortOption = Annotated[
    str | None,
    typer.Option("--status-port", metavar="PORT", help="Port of probes, metrics and page (default 32799)."),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
]


def load_or_exit(
    config: Path | None,
    sets: Sequence[str] | None,
    *,
    check_files: bool = True,
    quiet: bool = False,
    **flags: str | Sequence[str] | None,
) -> Loaded:
    """Loads the settings, telling notes on stderr; tells every problem and exits with 2 when there are any.

    Args:
        config: the settings file, if any.
        sets: values of `--set`.
        check_files: also look at the files that the settings name.
        quiet: keep the notes to oneself.
        flags: further flags by their names with underscores (`queue_directory`), None where not given.
    """
    try:
        loaded = load_given(config, sets, check_files=check_files, **flags)
    except SettingsError as error:
        tell_problems(error)
        raise typer.Exit(Exit.WRONG_USAGE) from None
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
