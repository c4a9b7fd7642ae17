"""Writes the documentation's tables from the code that they describe; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from docs import registry_files, tables
from docs.licences import bundled_table, licences_table
from k8s.dashboards.generate import runbook_panels_markdown
from otelbridge.simulator.endpoint_answers import zoo_table
from otelbridge.simulator.faults import faults_table

ROOT = Path(__file__).resolve().parent.parent

# File, the name between its markers, and the function that makes what stands between them.
TABLES: list[tuple[str, str, Callable[[], str]]] = [
    ("docs/delivery.md", "answers", tables.answers),
    ("docs/feed.md", "states", tables.states),
    ("docs/feed.md", "status codes", tables.status_codes),
    ("docs/licences.md", "licences", licences_table),
    ("docs/licences.md", "bundled", bundled_table),
    ("docs/mapping.md", "mapping", tables.mapping),
    ("docs/mapping.md", "severity", tables.severities),
    ("docs/runbook.md", "panels", runbook_panels_markdown),
    ("docs/security.md", "secrets", tables.secrets),
    ("docs/settings.md", "settings", tables.settings),
    ("docs/settings.md", "standard variables", tables.standard_variables),
    ("docs/try.md", "endpoint answers", zoo_table),
    ("docs/try.md", "faults", faults_table),
    ("docs/telemetry.md", "metrics", tables.metrics),
    ("docs/telemetry.md", "spans", tables.spans),
    ("docs/telemetry.md", "log lines", tables.log_lines),
]


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between the two markers of that name replaced."""
    start, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    head, found, rest = text.partition(start)
    if not found or end not in rest:
        raise ValueError(f"no markers for {name!r}: it needs the lines {start.strip()!r} and {end!r}")
    return head + start + content.rstrip("\n") + "\n" + rest[rest.index(end) :]


def main(*, check: bool) -> int:
    """Generates every table; with `check`, returns 1 if a file would change."""
    stale = []
    for file, name, make in TABLES:
        path = ROOT / file
        before = path.read_text(encoding="utf-8")
        after = between(before, name, make())
        if after != before:
            stale.append(f"{file} ({name})")
            if not check:
                path.write_text(after, encoding="utf-8")
    for name, content in registry_files.files().items():
        path = ROOT / "docs" / "registry" / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(f"docs/registry/{name}")
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(content, encoding="utf-8")
    for place in stale:
        print(("stale: " if check else "written: ") + place)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
