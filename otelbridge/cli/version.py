"""`otelbridge version`: the version, and with --full those of everything that it stands on."""

from __future__ import annotations

import platform
import re
import sqlite3
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from otelbridge import __version__
from otelbridge.cli.application import OutputOption
from otelbridge.cli.output import Output, print_json, print_table

NO_NAME = re.compile(r"[^\w.-]")
EXAMPLES = ("otelbridge version", "otelbridge version --full --output json")


def version(
    *,
    full: Annotated[bool, typer.Option("--full", help="Also Python's, the system's, and every library's.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the version."""
    versions = {"otelbridge": __version__}
    if full:
        versions |= {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
        }
        versions |= _libraries()
    if output is Output.JSON:
        print_json(versions)
    elif full:
        print_table(("component", "version"), versions.items())
    else:
        print(__version__)


def _libraries() -> dict[str, str]:
    found = {}
    for requirement in requires("otelbridge") or []:
        name = NO_NAME.split(requirement, maxsplit=1)[0]
        try:
            found[name] = installed_version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return dict(sorted(found.items()))
