"""The command line's entry: `otelbridge COMMAND`. Each command is a file of its own beside this one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from otelbridge import __version__
from otelbridge.cli import config, demo, explain, ledger, queue, run, simulate, tail, version
from otelbridge.cli.doctor import command as doctor
from otelbridge.cli.output import Exit, quiet_broken_pipe
from otelbridge.settings.environment import quiet_grpc

Commands = tuple[tuple[str, Callable[..., Any], tuple[str, str]], ...]

COMMANDS: Commands = (
    ("run", run.run, run.EXAMPLES),
    ("demo", demo.demo, demo.EXAMPLES),
    ("explain", explain.explain, explain.EXAMPLES),
    ("doctor", doctor.doctor, doctor.EXAMPLES),
    ("tail", tail.tail, tail.EXAMPLES),
    ("ledger", ledger.ledger, ledger.EXAMPLES),
    ("version", version.version, version.EXAMPLES),
)
"""Name, function, and the two examples that its help ends with."""

GROUPS: tuple[tuple[str, str, Commands], ...] = (
    ("config", "The settings: what is in force, what is wrong, what there is.", config.COMMANDS),
    ("queue", "What is held on disk, and what the endpoint refused.", queue.COMMANDS),
)
"""Name, help, and commands."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def application() -> typer.Typer:
    """The whole command line."""
    app = _typer("Brings KubeArmor's security events to OpenTelemetry, with nothing lost on the way.")
    app.callback()(_top)
    _add(app, COMMANDS)
    for name, help_text, commands in GROUPS:
        group = _typer(help_text)
        _add(group, commands)
        app.add_typer(group, name=name)
    simulator = _typer(simulate.HELP, command_of_its_own=True)
    simulator.callback(epilog=_epilog(simulate.EXAMPLES))(simulate.simulate)
    _add(simulator, simulate.COMMANDS)
    app.add_typer(simulator, name="simulate")
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
        raise typer.Exit(Exit.DONE)


def _top(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line and exits."""
    quiet_grpc()
    try:
        application()()
    except BrokenPipeError:
        quiet_broken_pipe()
        sys.exit(Exit.DONE)
