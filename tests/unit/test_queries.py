"""The queries in the documentation ask for attributes that the mapping makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("queries.md", "wiring.md")
LANGUAGES = ("logsql", "logql", "sql", "")
"""KQL's blocks say no language."""
WORD = re.compile(r"(?<![\w.:/])(?:[a-z][a-z0-9_]*[._])+[a-z0-9_]+(?![\w./*(])")
NO_ATTRIBUTES = {"otel.kubearmor_logs", "otelbridge.connect", "otelbridge.connection"}
"""A table, and names of spans."""
PREFIXES = ("k8s", "kubearmor", "process", "security", "log.", "otel")


def attributes() -> list[re.Pattern[str]]:
    """Every attribute in docs/mapping.md, whose tables are made from the code; `<...>` stands for anything."""
    named = set(re.findall(r"`([a-z0-9_]+(?:\.[a-z0-9_<>.]+)+)`", (DOCS / "mapping.md").read_text(encoding="utf-8")))
    return [re.compile(re.sub(r"<[^>]+>", "[a-z0-9_.]+", name.replace(".", "[._]"))) for name in named]


def asked(page: str) -> set[str]:
    """The attributes that the queries of a page name."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text = "\n".join(block for language, block in blocks if language in LANGUAGES)
    return {name for name in WORD.findall(text) if name.startswith(PREFIXES)} - NO_ATTRIBUTES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_attributes_that_there_are(page: str) -> None:
    names, known = asked(page), attributes()
    assert names
    assert not {name for name in names if not any(one.fullmatch(name) for one in known)}
