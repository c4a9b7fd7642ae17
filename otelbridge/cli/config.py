"""`otelbridge config show|check|schema|init`: the settings in force and where each came from, secrets hidden."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.application import (
    Commands,
    ConfigOption,
    EndpointOption,
    KubeArmorOption,
    OutputOption,
    ProtocolOption,
    SetOption,
)
from otelbridge.cli.loading import load_given, load_or_exit, tell_problems
from otelbridge.cli.output import Exit, Output, fail, print_json, print_table, say
from otelbridge.settings.show import changed, schema, shown, starter
from otelbridge.settings.tree import SettingsError


def show(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    kubearmor: KubeArmorOption = None,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = None,
    only_changed: Annotated[bool, typer.Option("--changed", help="Leave out settings at their defaults.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print every setting, its value and where that came from. Secrets are not shown."""
    loaded = load_or_exit(config, sets, check_files=False, kubearmor=kubearmor, endpoint=endpoint, protocol=protocol)
    settings = changed(shown(loaded)) if only_changed else shown(loaded)
    if output is Output.JSON:
        print_json(settings)
        return
    rows = [(path, json.dumps(one["value"], ensure_ascii=False), one["origin"]) for path, one in settings.items()]
    print_table(("setting", "value", "origin"), rows)


def check(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    kubearmor: KubeArmorOption = None,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check the settings and the files that they name.

    Every problem is listed with its cure. Nothing is connected to.
    """
    try:
        loaded = load_given(config, sets, kubearmor=kubearmor, endpoint=endpoint, protocol=protocol)
    except SettingsError as error:
        if output is Output.JSON:
            print_json({"ok": False, "problems": [asdict(problem) for problem in error.problems], "notes": []})
        else:
            tell_problems(error)
        raise typer.Exit(Exit.WRONG_USAGE) from None
    if output is Output.JSON:
        print_json({"ok": True, "problems": [], "notes": list(loaded.notes)})
        return
    for note in loaded.notes:
        say(f"Note: {note}")
    print("The settings are good.")


def print_schema() -> None:
    """Print the JSON Schema of a settings file, for editors."""
    print_json(schema())


def init(
    file: Annotated[Path | None, typer.Argument(help="Where to write; stdout where not given.")] = None,
) -> None:
    """Write a settings file to start from.

    Every setting with its meaning, at its default.
    """
    if file is None:
        print(starter(), end="")
        return
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(starter())
    except FileExistsError:
        fail(f"{file} exists already, and is left as it is.")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.", Exit.UNREACHABLE)
    say(f"Written: {file}")


HELP = "The settings: what is in force, what is wrong, what there is."
COMMANDS: Commands = (
    ("show", show, ("otelbridge config show --changed", "otelbridge config show --config bridge.yaml --output json")),
    ("check", check, ("otelbridge config check --config bridge.yaml", "otelbridge config check --output json")),
    ("schema", print_schema, ("otelbridge config schema", "otelbridge config schema > otelbridge.schema.json")),
    ("init", init, ("otelbridge config init", "otelbridge config init bridge.yaml")),
)
