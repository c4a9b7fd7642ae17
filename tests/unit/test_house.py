from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "otelbridge"
WALK = ("feed", "gate", "mapping", "queue", "send")

MAX_FAN_OUT = 22
"""Modules of ours that one module imports; what joins the rest may import more."""
JOINERS = {"bridge.py", "settings/tree.py"}

JUNK_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "core", "types", "misc"}
"""Each hides a missing noun or verb."""

SDK = ("opentelemetry.sdk", "opentelemetry.exporter")


def modules() -> list[Path]:
    """Our own modules; those that protoc writes have rules of their own."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "pb" not in path.relative_to(PACKAGE).parts]


def room(path: Path) -> str:
    """The room that a module stands in; its own name for those in the hall."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of each import, wherever it stands in the file."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names, the empty string for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if prefix := dotted(value):
            return f"{prefix}.{attribute}"
        case _:
            return ""


def places(found: Iterator[tuple[Path, int]] | list[tuple[Path, int]]) -> str:
    return ", ".join(f"{path.relative_to(ROOT)}:{line}" for path, line in found)


def importers(*, of: tuple[str, ...], but: tuple[str, ...]) -> str:
    """Where modules outside some rooms import a package or what is in it."""
    return places(
        (path, line)
        for path in modules()
        if room(path) not in but
        for line, name in imported(path)
        if any(name == package or name.startswith(f"{package}.") for package in of)
    )


def users(*, of: tuple[str, ...], within: tuple[str, ...] = (), but: tuple[str, ...] = ()) -> str:
    """Where modules use one of some dotted names (or import it), inside some rooms or outside some."""
    rooms = [path for path in modules() if (not within or room(path) in within) and room(path) not in but]
    used = [
        (path, node.lineno)
        for path in rooms
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute | ast.Name) and dotted(node) in of
    ]
    taken = [(path, line) for path in rooms for line, name in imported(path) if name in of]
    return places(used + taken)


def test_the_opentelemetry_sdk_is_imported_in_telemetry_only() -> None:
    assert not importers(of=SDK, but=("telemetry",))


def test_the_environment_is_read_in_settings_only() -> None:
    assert not users(of=("os.environ", "os.getenv", "os.environb", "os.putenv"), but=("settings",))


def test_logging_is_imported_in_telemetry_only() -> None:
    assert not importers(of=("logging",), but=("telemetry",))


def test_printing_is_for_the_command_line() -> None:
    assert not users(of=("print",), but=("cli",)), "rooms tell happenings"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(tree(path)) or ""
    assert re.match(r"[^\n]+[.?!](\n|$)", docstring), f"its first line is no whole sentence: {docstring[:120]!r}"


@cache
def ours() -> frozenset[Path]:
    return frozenset(modules())


def imported_modules(path: Path) -> set[Path]:
    """The modules of ours that a module imports, for more than its annotations."""
    checking = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    names = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in checking
        for alias in node.names
    }
    files = {name: ROOT / f"{name.replace('.', '/')}.py" for name in names | {n.rpartition(".")[0] for n in names}}
    return {file for name, file in files.items() if name.startswith("otelbridge.") and file in ours()} - {path}


def test_no_module_imports_itself_in_a_circle() -> None:
    waiting = {path: imported_modules(path) for path in modules()}
    while ready := [path for path, needs in waiting.items() if not needs & waiting.keys()]:
        for path in ready:
            del waiting[path]
    assert not [str(path.relative_to(PACKAGE)) for path in waiting]


def test_no_module_needs_the_whole_house() -> None:
    wide = {str(path.relative_to(PACKAGE)): len(imported_modules(path)) for path in modules()}
    assert {name: count for name, count in wide.items() if count > MAX_FAN_OUT and name not in JOINERS} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = [(path, 1) for path in modules() if JUNK_NAMES & set(path.relative_to(PACKAGE).with_suffix("").parts)]
    assert not places(names)


def test_no_broad_exception_is_passed_over() -> None:
    silent = [
        (path, node.lineno)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or dotted(node.type) in {"Exception", "BaseException"})
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
    ]
    assert not places(silent)


def test_the_walk_never_sleeps() -> None:
    assert not users(of=("time.sleep",), within=WALK), "wait on an event that ends the wait too"


def test_every_thread_has_a_name() -> None:
    nameless = [
        (path, node.lineno)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and dotted(node.func).rpartition(".")[2] in {"Thread", "Timer"}
        and not any(keyword.arg in {"name", None} for keyword in node.keywords)
    ]
    pools = [
        (path, node.lineno)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and dotted(node.func).rpartition(".")[2] == "ThreadPoolExecutor"
        and not any(keyword.arg == "thread_name_prefix" for keyword in node.keywords)
    ]
    assert not places(nameless + pools)


UNSUPERVISED = {
    "telemetry/supervisor.py": "the supervisor's own",
    "net/deadline.py": "one call, whose caller gets what it raises",
    "feed/channel.py": "does nothing: whether there is one more to be had",
    "telemetry/exporters.py": "one export at the end, quietly",
    "cli/examination.py": "a command's: listens for some seconds",
    "cli/tail.py": "a command's: it ends with its readers",
    "cli/demo.py": "a command's",
    "simulator/endpoint.py": "the simulator's",
    "simulator/faults.py": "the simulator's",
    "simulator/nodes.py": "the simulator's",
    "simulator/tcp_proxy.py": "the simulator's",
}
"""Where threads are started that no supervisor runs, and why that is right; docs/architecture.md says the same."""


def test_every_thread_of_the_bridge_has_a_supervisor() -> None:
    starting = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"Thread", "Timer"}
    }
    assert starting == set(UNSUPERVISED)


def test_our_classes_inherit_only_from_others() -> None:
    ours = {node.name for path in modules() for node in tree(path).body if isinstance(node, ast.ClassDef)}
    heirs = [
        (path, node.lineno)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        for base in map(dotted, node.bases)
        if base.rpartition(".")[2] in ours and base.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not places(heirs), "no inheritance between our own classes"


def test_no_two_classes_have_one_name() -> None:
    classes = [(path, node) for path in modules() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    times = Counter(node.name for _, node in classes)
    assert not places([(path, node.lineno) for path, node in classes if times[node.name] > 1])


def test_nothing_is_left_to_do_without_a_decision() -> None:
    left = []
    for path in modules():
        with tokenize.open(path) as source:
            left += [
                (path, token.start[0])
                for token in tokenize.generate_tokens(source.readline)
                if token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string)
            ]
    assert not places(left)


def test_the_product_names_no_folder_of_its_workshop() -> None:
    text = [path for path in modules() if re.search(r"\.\./shared", path.read_text(encoding="utf-8"))]
    assert not text


def test_test_folders_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_room_is_where_the_design_puts_it() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms == {*WALK, "net", "telemetry", "status", "settings", "cli", "simulator", "pb"}
