"""The documentation names nothing that is not there: no link, command, setting, variable, path, metric or attribute."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from k8s.dashboards.queries import prometheus_label, prometheus_name
from otelbridge.cli.application import application
from otelbridge.event import Gap, GapCause, Stream
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.severity import MESSAGE_EVENT, OPERATION_NAMES, OTHER_OPERATION, THROTTLED_EVENT, Situation
from otelbridge.settings.load import load
from otelbridge.settings.show import schema
from otelbridge.status.components import INSTRUMENTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")])
    if page.name != "CHANGELOG.md"
]
FILES = (".py", ".md", ".proto", ".yaml", ".db", ".reserve", ".probe", ".checkpoint", ".lock")
"""What looks like a setting and is a file."""
SECTIONS = ("bridge", "feed", "gate", "mapping", "queue", "send", "telemetry", "status")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Without what stands in fences."""
    return re.sub(r"^( *)```.*?^\1```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def fences(page: Path, language: str) -> list[str]:
    """The contents of fenced blocks, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text(page), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", content, flags=re.MULTILINE) for indent, content in found]


def code(page: Path) -> list[str]:
    """What stands between backticks in the prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@cache
def anchors(page: Path) -> frozenset[str]:
    """A page's headings, as renderers name them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{target}: there is no such heading"


# --- commands ---


def commands_in(page: Path) -> Iterator[str]:
    """Every `otelbridge ...` that the page tells somebody to type, without the program's name."""
    shell = [line for block in fences(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    indented = re.findall(r"^ {4}(\S.*)$", prose(page), re.MULTILINE)
    for line in [*shell, *indented, *code(page)]:
        for typed in re.split(r"\s[;|&]+\s|\s>\s", re.sub(r"\s#.*", "", line)):
            if found := re.search(r"^otelbridge (?=[a-z-])(.*)$|(?:^|\s)/\S*/otelbridge (?=[a-z-])(.*)$", typed):
                yield (found[1] or found[2]).strip()


@cache
def command_line() -> Any:
    return typer.main.get_command(application())


def check_command(typed: str) -> None:
    words = shlex.split(typed.replace("...", ""))
    command = command_line()
    while words and not words[0].startswith("-") and (inner := getattr(command, "commands", {})):
        if words[0] not in inner:
            if command.invoke_without_command:
                break
            pytest.fail(f"otelbridge {typed}: there is no command {words[0]!r}")
        command, words = inner[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in {*known, "--help", "-h"}, f"otelbridge {typed}: there is no option {word}"


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for typed in commands_in(page):
        for one in typed.split("|"):  # `config show|check`
            check_command(one if one == typed.split("|")[0] else f"{typed.split()[0]} {one}")


# --- settings ---


@cache
def settings() -> frozenset[str]:
    """Every setting, and every part of the tree that holds some."""
    document = schema()
    found: set[str] = set()

    def walk(node: dict[str, Any], path: str) -> None:
        node = {**node, **_referred(document, node)}
        if path:
            found.add(path)
        for name, inner in node.get("properties", {}).items():
            walk(inner, f"{path}.{name}" if path else name)

    walk(document, "")
    return frozenset(found)


def _referred(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    if not reference:
        return {}
    found: dict[str, Any] = document["$defs"][reference.rpartition("/")[2]]
    return found


@every_page
def test_settings_exist(page: Path) -> None:
    for words in code(page):
        for path in re.findall(rf"(?<![\w./-])((?:{'|'.join(SECTIONS)})\.[a-z_]+(?:\.[a-z_]+)*)(?![\w/.*-])", words):
            if path.endswith(FILES):
                continue
            assert path in settings(), f"there is no setting {path}"


@every_page
def test_variables_exist(page: Path) -> None:
    for variable in re.findall(r"OTELBRIDGE_[A-Z_]+", text(page)):
        path = variable.removeprefix("OTELBRIDGE_").lower().replace("__", ".")
        assert path in {"config", ""} or path in settings(), f"there is no variable {variable}"


@every_page
def test_examples_of_settings_are_accepted(page: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    for example in fences(page, "yaml"):
        document = yaml.safe_load(example)
        if not set(document) <= set(SECTIONS):
            continue
        file = tmp_path / "bridge.yaml"
        file.write_text(example, encoding="utf-8")
        load(file=file, environment={"CREDENTIALS_DIRECTORY": str(tmp_path), "HOST_IP": "10.0.0.7"}, check_files=False)


# --- names ---


@every_page
def test_files_of_this_tree_exist(page: Path) -> None:
    tree = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"build"}
    for words in code(page):
        for path in re.findall(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, tree))})/[\w./-]+)", words):
            assert (ROOT / path).exists() or (page.parent / path).exists(), f"there is no {path}"


@every_page
def test_metrics_exist(page: Path) -> None:
    known = {prometheus_name(one) for one in INSTRUMENTS.values()}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    known |= {prometheus_label(label) for one in INSTRUMENTS.values() for label in one.attributes}
    for words in code(page):
        for name in re.findall(r"\b((?:otelbridge|process)_[a-z_]+)\b", words):
            if name.startswith(
                (
                    "process_command",
                    "process_examples",
                    "process_quiet",
                    "process_traces",
                    "process_tree",
                    "otelbridge_gap_",
                )
            ):
                continue  # attributes of events, as Loki writes them; settings and a file
            assert name in known, f"there is no metric {name}"


def test_gap_records_are_described_as_they_are() -> None:
    gap = Gap(
        stream=Stream.ALERTS, upstream="relay:1", cause=GapCause.OVERFLOW, started_unix_nano=1, ended_unix_nano=2,
        attempts=1, lost_records=1, estimated_records=1, detail="x", suspected=True, covered_by="relay:2",
    )  # fmt: skip
    record = Mapper(MappingSettings(), version="0").gap(gap)
    written = {name.decode() for name in re.findall(rb"otelbridge\.gap\.[a-z_]+", record.encoded)}
    described = set(re.findall(r"`(otelbridge\.gap\.[a-z_]+)`", text(ROOT / "docs" / "mapping.md")))
    assert described == written
    for cause in GapCause:
        assert f"`{cause}`" in text(ROOT / "docs" / "mapping.md")


def test_event_names_are_described_as_they_are() -> None:
    page = text(ROOT / "docs" / "mapping.md")
    for name in (THROTTLED_EVENT, MESSAGE_EVENT, *OPERATION_NAMES.values(), OTHER_OPERATION):
        assert f"`{name}`" in page


def test_every_situation_of_the_severity_table_is_explained() -> None:
    by_hand = text(ROOT / "docs" / "mapping.md").partition("<!-- generated: severity -->")[0]
    assert [one for one in Situation if f"`{one}`" not in by_hand] == []


def test_the_generated_tables_are_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.main(check=True) == 0, f"make docs: {capsys.readouterr().out}"
