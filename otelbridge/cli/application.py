"""The command line as typer has it: commands, each a file of its own beside this one, and options they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from otelbridge import __version__
from otelbridge.cli.output import Output
from otelbridge.cli.process import no_collection
from otelbridge.settings.environment import CONFIG_VARIABLE
from otelbridge.settings.load import SET_FLAG

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
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Text for people, or JSON for programs.")]

Commands = tuple[tuple[str, Callable[..., Any], tuple[str, str]], ...]
"""Name, function, and the two examples that its help ends with."""

COMMANDS = (
    "run",
    "demo",
    "explain",
    "doctor",
    "tail",
    "ledger",
    "coverage",
    "version",
    "config",
    "queue",
    "simulate",
)
"""Each is a module of this folder, imported only when its command, or help on all of them, is asked for.

A module has `EXAMPLES` and a function of the command's name; or `HELP` and `COMMANDS`, for a group; or both.
"""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line, of some commands or of all."""
    app = _typer("Brings KubeArmor's security events to OpenTelemetry, with nothing lost on the way.")
    app.callback()(_top)
    for name in names:
        with no_collection():
            module = import_module(f"otelbridge.cli.{name}")
        if not hasattr(module, "COMMANDS"):
            _add(app, ((name, getattr(module, name), module.EXAMPLES),))
            continue
        of_its_own = hasattr(module, name)
        group = _typer(module.HELP, command_of_its_own=of_its_own)
        if of_its_own:
            group.callback(epilog=_epilog(module.EXAMPLES))(getattr(module, name))
        _add(group, module.COMMANDS)
        app.add_typer(group, name=name)
    return app


def _typer(help_text: str, *, command_of_its_own: bool = False) -> typer.Typer:
    # Rich would cost a third of a second at every start, and only some commands draw.
    return typer.Typer(
        help=help_text,
        no_args_is_help=not command_of_its_own,
        invoke_without_command=command_of_its_own,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def _add(app: typer.Typer, commands: Commands) -> None:
    for name, function, examples in commands:
        app.command(name, epilog=_epilog(examples), context_settings=CONTEXT)(function)


def _epilog(examples: tuple[str, str]) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


def _top(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def asked_for(arguments: Sequence[str]) -> Sequence[str]:
    """The command that the command line begins with; all of them where it begins with none, for help and hints."""
    return arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
