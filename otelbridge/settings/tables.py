"""The settings, and the standard variables, as tables for the documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from otelbridge.settings.otel_environment import STANDARD_VARIABLES
from otelbridge.settings.show import plain
from otelbridge.settings.tree import leaves

_BINARY_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def settings_table_markdown() -> str:
    """Every setting: key, variable, default, meaning."""
    rows = ["| key | variable | default | meaning |", "|---|---|---|---|"]
    for leaf in leaves():
        default, meaning = _default(leaf.path, leaf.default), _cell(leaf.description)
        rows.append(f"| `{leaf.path}` | `{leaf.environment_name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def standard_variables_table_markdown() -> str:
    """Every standard variable that is honoured: name, what it sets, meaning."""
    rows = ["| variable | sets | meaning |", "|---|---|---|"]
    for row in STANDARD_VARIABLES:
        paths = ", ".join(f"`{path}`" for path in row.paths)
        rows.append(f"| `{row.name}` | {paths} | {_cell(row.meaning)} |")
    return "\n".join(rows) + "\n"


def _default(path: str, value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "none" if value is None or value == "" else "empty"
    if path.endswith("_bytes"):
        for size, unit in _BINARY_UNITS:
            if value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    if isinstance(value, (str, Path)):
        return f"`{value}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in plain(value))
    return f"`{json.dumps(plain(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
