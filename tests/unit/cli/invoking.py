"""Runs the command line within the test's own process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from typer.testing import CliRunner

from otelbridge.cli.application import application


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    data: str
    """What it wrote to stdout."""
    talk: str
    """What it wrote to stderr."""

    def json(self) -> Any:
        """The data as a JSON document."""
        return json.loads(self.data)


def invoke(*arguments: str, stdin: str | None = None, **variables: str) -> Ended:
    """Runs `otelbridge ARGUMENTS`."""
    result = CliRunner().invoke(application(), arguments, input=stdin, env=variables, catch_exceptions=False)
    return Ended(result.exit_code, result.stdout, result.stderr)
