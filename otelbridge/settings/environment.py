"""The one place where the process's environment is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CONFIG_VARIABLE = "OTELBRIDGE_CONFIG"
"""Names the settings file, where no flag does."""
GRPC_VERBOSITY_VARIABLE = "GRPC_VERBOSITY"


def environment() -> Mapping[str, str]:
    """A copy of the environment."""
    return dict(os.environ)


def quiet_grpc() -> None:
    """Keeps grpc's own C++ log lines off stderr, unless the operator set its variable: our log says it in words.

    Must be called before grpc is imported; it reads the variable then, and there is no other way to tell it.
    """
    os.environ.setdefault(GRPC_VERBOSITY_VARIABLE, "NONE")


def colours_wanted(variables: Mapping[str, str]) -> bool:
    """Whether terminal output may be coloured (https://no-color.org: any non-empty NO_COLOR says no)."""
    return not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"


def config_file(flag: Path | None, variables: Mapping[str, str]) -> Path | None:
    """The settings file to read: the flag's, or the variable's, or none."""
    named = variables.get(CONFIG_VARIABLE)
    return flag or (Path(named) if named else None)
