"""`make mutants`: breaks the walk in small ways, one at a time, and counts which of them its tests notice.

    python -m tests.mutants.run [--each N] [--seed N] [--workers N] [--results FILE] [COMPONENT ...]

Each component's tests run once, to note which of them reach which lines. Then N places are drawn by the seed,
cosmic-ray changes one of them, and those tests that reach it run until the first that fails: the module's own first,
then unit tests, then short ones. What survives is listed in mutants.json; `survivors.json` beside this file explains
those that change nothing that can be observed. Works on copies of the tree: that is what a broken one may harm. A run
over some components keeps the results of the others, by the same seed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkerOutcome

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = Path(__file__).with_name("survivors.json")
RESULTS = ROOT / "mutants.json"
COMPONENTS = ("gate", "mapping", "queue", "send", "feed")
EACH = 20
SEED = 20_261_129
WORKERS = 2
TIMEOUT_SECONDS = 1800
MOST_BYTES = 8 << 30
"""Of a process: a loop that a change has made endless may fill a list."""
LEAVE_OUT = re.compile("ReplaceBinaryOperator_BitOr|Decorator|NumberReplacer|_(Eq_Is|NotEq_IsNot|Is_Eq|IsNot_NotEq)$")
"""`|` stands in annotations, which nothing evaluates; a lost decorator fails at import; numbers are measured findings
and bounds, which a test would only repeat; `is` and `==` say the same of members, small numbers and None."""
NO_DIFFERENCE = {
    "ReplaceTrueWithFalse": re.compile(r"\bstrict=True"),
    "ExceptionReplacer": re.compile(r"except .*\w\.\w"),
}
"""Lines on which a change does nothing: two of one length are zipped; cosmic-ray cannot replace a name with a dot."""
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]* = [0-9_.]+( ?[-+*/]+ ?[0-9_.]+)+( *#.*)?")
"""A number that is written as a product or a sum: `32 * 1024 * 1024`."""
BAR = 0.9
ALSO = ("tests/unit/test_docs.py",)
"""Tables of the walk are made into pages."""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:randomly", "-p", "tests.mutants.reached")
EVERYDAY = "not torture and not counted"


@dataclass(frozen=True, slots=True)
class Reached:
    """Which tests reach what: their seconds, and by file and line their names."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    def tests(self, file: str, line: int) -> list[str]:
        """Those that reach a line, in the order in which they shall run."""
        by_line = self.lines.get(file, {})
        tests = {test for near in statement_at(Path(file), line) for test in by_line.get(str(near), [])}
        if "" in tests:  # of the module itself: whoever uses anything of it, or only its tables
            tests = {test for some in by_line.values() for test in some} - {""} or set(self.seconds)
        own = f"test_{Path(file).stem}.py"
        return sorted(tests, key=lambda test: (own not in test, "/unit/" not in test, self.seconds[test]))


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and the tests that shall notice it."""

    component: str
    mutation: MutationSpec
    tests: list[str]


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test noticed."""

    component: str
    place: str
    operator: str
    change: str
    explained: str = ""


def statement_at(path: Path, line: int) -> range:
    """The lines of the innermost statement around a line, without those of its body."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            body = getattr(node, "body", None)
            end = body[0].lineno if body and body[0].lineno > node.lineno else node.end_lineno + 1
            if node.lineno <= line < end:
                found = range(node.lineno, end)  # walk goes from the outside inwards
    return found


def candidates(component: str) -> list[MutationSpec]:
    """Every change that cosmic-ray knows for a component's modules, but those of no use; paths are relative."""
    folder = Path("otelbridge", component)
    modules = sorted(path for path in folder.glob("*.py") if path.name != "settings.py")
    with tempfile.TemporaryDirectory() as scratch, use_db(f"{scratch}/db.sqlite", mode=WorkDB.Mode.create) as db:
        init(modules, db, {})
        found = [item.mutations[0] for item in db.work_items]
    useful = [one for one in found if not LEAVE_OUT.search(one.operator_name)]
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in modules}
    useful = [
        one
        for one in useful
        if not CONSTANT.fullmatch(line := lines[Path(one.module_path)][one.start_pos[0] - 1])
        and not line[one.start_pos[1] :].startswith("*,")  # of a signature: no operator
        and not ((same := NO_DIFFERENCE.get(one.operator_name.removeprefix("core/"))) and same.search(line))
        and not line.startswith("@dataclass(")  # what frozen, slots and kw_only forbid, the type checker sees
    ]
    return sorted(useful, key=lambda one: (str(one.module_path), one.start_pos, one.operator_name, one.occurrence))


def enter_copy(parent: str) -> None:
    """Moves this process into a copy of its own: what git tracks, and the compiled fast path. Bounds its memory.

    The compiled process tree stays behind: where it stands, nobody runs its Python, and a change of it does nothing.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    folder = Path(tempfile.mkdtemp(dir=parent))
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    found = [*(ROOT / "otelbridge").glob("*.so"), *(ROOT / "otelbridge" / "mapping").glob("fastpath*.so")]
    compiled = [str(path.relative_to(ROOT)) for path in found]
    for name in filter(None, [*tracked, *compiled]):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)


def reached(component: str) -> Reached:
    """Runs a component's tests, whole."""
    folders = [name for kind in ("unit", "integration") if (ROOT / (name := f"tests/{kind}/{component}")).is_dir()]
    file, began = Path(f"reached-{component}.json").resolve(), time.monotonic()
    subprocess.run(
        [*PYTEST, "-m", EVERYDAY, *folders, *ALSO],
        env={**os.environ, "MUTANTS_COMPONENT": component, "MUTANTS_REACHED": str(file)},
        stdout=subprocess.DEVNULL,
        check=False,  # what fails is left out
    )
    found = Reached(**json.loads(file.read_text(encoding="utf-8")))
    print(f"{component}: {len(found.seconds)} tests ({time.monotonic() - began:.0f} s)", flush=True)
    return found


def judged(change: Change, explained: dict[str, str]) -> Survivor | None:
    """Tries a change; returns it if it survives."""
    began, mutation = time.monotonic(), change.mutation
    chosen = Path("chosen.json").resolve()
    chosen.write_text(json.dumps(change.tests), encoding="utf-8")
    os.environ["MUTANTS_CHOSEN"] = str(chosen)
    files = sorted({test.partition("::")[0] for test in change.tests})
    command = " ".join([*PYTEST, "-x", "--timeout", "60", *files]) if files else "true"
    result = mutate_and_test([mutation], command, TIMEOUT_SECONDS)
    assert result.worker_outcome is WorkerOutcome.NORMAL, result.output
    place = f"{mutation.module_path}:{mutation.start_pos[0]}"
    operator = mutation.operator_name.removeprefix("core/")
    print(f"{change.component}: {'killed' if result.is_killed else 'SURVIVED'} {place} {operator}"
          f" ({len(change.tests)} tests, {time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
    if result.is_killed:
        return None
    lines = (result.diff or "").splitlines()
    difference = "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))
    return Survivor(change.component, place, operator, difference, explained.get(difference, ""))


def drawn(component: str, each: int, seed: int) -> list[MutationSpec]:
    """So many of a component's changes, by chance."""
    found = candidates(component)
    return random.Random(f"{seed} {component}").sample(found, min(each, len(found)))


def figures_of(tried: Counter[str], left: Sequence[Survivor], seed: int) -> dict[str, object]:
    """What is written."""
    unexplained = Counter(one.component for one in left if not one.explained)
    return {
        "seed": seed,
        "tried": tried.total(),
        "killed": tried.total() - len(left),
        "explained": len(left) - unexplained.total(),
        "score": round(1 - unexplained.total() / tried.total(), 3),
        "components": {name: {"tried": tried[name], "not_noticed": unexplained[name]} for name in tried},
        "survivors": [asdict(one) for one in left],
    }


def others(
    results: Path, seed: int, components: Sequence[str], explained: dict[str, str]
) -> tuple[Counter[str], list[Survivor]]:
    """What earlier runs by the same seed have written of other components: how many they tried, and what survived."""
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    rows = found.get("components", {}) if found.get("seed") == seed else {}
    tried = Counter({name: row["tried"] for name, row in rows.items() if name not in components})
    left = [Survivor(**one) for one in found.get("survivors", []) if one["component"] in tried]
    return tried, [replace(one, explained=explained.get(one.change, "")) for one in left]


def main() -> int:
    """Runs, writes the results, and returns 1 where the score is below the bar."""
    options = argparse.ArgumentParser(description="Mutation tests of the walk.")
    options.add_argument("components", nargs="*", default=COMPONENTS)
    options.add_argument("--each", type=int, default=EACH, help="changes a component")
    options.add_argument("--seed", type=int, default=SEED)
    options.add_argument("--workers", type=int, default=WORKERS, help="changes that are tried at a time")
    options.add_argument("--results", type=Path, default=RESULTS, help="where they are written")
    given = options.parse_args()
    os.chdir(ROOT)
    explained = json.loads(EXPLAINED.read_text(encoding="utf-8")) if EXPLAINED.exists() else {}
    with (
        tempfile.TemporaryDirectory() as copies,
        ProcessPoolExecutor(given.workers, initializer=enter_copy, initargs=(copies,)) as pool,
    ):
        mutations = {component: drawn(component, given.each, given.seed) for component in given.components}
        changes = [
            Change(component, one, known.tests(str(one.module_path), one.start_pos[0]))
            for component, known in zip(mutations, pool.map(reached, mutations), strict=True)
            for one in mutations[component]
        ]
        survivors = list(pool.map(partial(judged, explained=explained), changes))
    tried, left = others(given.results, given.seed, given.components, explained)
    left += [one for one in survivors if one]
    tried += Counter(change.component for change in changes)
    figures = figures_of(tried, left, given.seed)
    given.results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for one in left:
        print(f"{one.place}\n{one.change}\n  {one.explained or 'NOT EXPLAINED'}")
    print(f"{figures['tried']} changes, {figures['killed']} noticed, {figures['explained']} explained: "
          f"score {figures['score']:.0%}")  # fmt: skip
    return int(float(str(figures["score"])) < BAR)


if __name__ == "__main__":
    sys.exit(main())
