"""`make mutants`: breaks the walk in small ways, one at a time, and counts which of them its tests notice.

    python tests/mutants/run.py [--each N] [--seed N] [--results FILE] [COMPONENT ...]

Of each component N places are drawn by the seed, cosmic-ray changes one of them, and that component's tests run until
the first that fails. What survives is listed in mutants.json; `survivors.json` beside this file explains
those that change nothing that can be observed. Works on a copy of the tree: that is what a broken one may harm.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = Path(__file__).with_name("survivors.json")
RESULTS = ROOT / "mutants.json"
COMPONENTS = ("gate", "mapping", "queue", "send", "feed")
EACH = 20
SEED = 20_261_129
TIMEOUT_SECONDS = 1800
LEAVE_OUT = ("ReplaceBinaryOperator_BitOr", "Decorator", "NumberReplacer")
"""`|` stands in annotations, which nothing evaluates; a lost decorator fails at import; numbers are measured findings
and bounds, which a test would only repeat."""
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]* = [0-9_.]+( ?[-+*/]+ ?[0-9_.]+)+( *#.*)?")
"""A number that is written as a product or a sum: `32 * 1024 * 1024`."""
BAR = 0.9


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test noticed."""

    component: str
    place: str
    operator: str
    change: str
    explained: str = ""


def candidates(folder: Path, component: str) -> list[MutationSpec]:
    """Every change that cosmic-ray knows for a component's modules, but those of no use."""
    modules = sorted(path for path in (folder / "otelbridge" / component).glob("*.py") if path.name != "settings.py")
    with use_db(str(folder / f"{component}.sqlite"), mode=WorkDB.Mode.create) as db:
        init(modules, db, {})
        found = [item.mutations[0] for item in db.work_items]
    useful = [one for one in found if not any(name in one.operator_name for name in LEAVE_OUT)]
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in modules}
    useful = [
        one
        for one in useful
        if not CONSTANT.fullmatch(line := lines[Path(one.module_path)][one.start_pos[0] - 1])
        and not line[one.start_pos[1] :].startswith("*,")  # of a signature: no operator
        and not line.startswith("@dataclass(")  # what frozen, slots and kw_only forbid, the type checker sees
    ]
    return sorted(useful, key=lambda one: (str(one.module_path), one.start_pos, one.operator_name, one.occurrence))


def command_of(component: str, module: str) -> str:
    """What runs a component's tests, in the copy: those of the changed module first, as they notice most.

    They fail twice, what failed first, so that a deadline missed on a busy machine does not count as noticing.
    """
    folders = [folder for kind in ("unit", "integration") if (ROOT / (folder := f"tests/{kind}/{component}")).is_dir()]
    first = [name for folder in folders if (ROOT / (name := f"{folder}/test_{module}.py")).is_file()]
    tests = f"{sys.executable} -m pytest -x -q -n 0 -p no:randomly --timeout 120 {' '.join(first + folders)}"
    return f"sh -c '{tests} || {tests} --failed-first'"


def copy_of_the_tree(folder: Path) -> None:
    """What git tracks, and the compiled fast path."""
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    compiled = [str(path.relative_to(ROOT)) for path in (ROOT / "otelbridge" / "mapping").glob("*.so")]
    for name in filter(None, [*tracked, *compiled]):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def judged(folder: Path, component: str, drawn: Iterable[MutationSpec], explained: dict[str, str]) -> list[Survivor]:
    """Tries each change; returns those that survived."""
    survivors = []
    for mutation in drawn:
        began = time.monotonic()
        result = mutate_and_test([mutation], command_of(component, Path(mutation.module_path).stem), TIMEOUT_SECONDS)
        place = f"{Path(mutation.module_path).relative_to(folder)}:{mutation.start_pos[0]}"
        operator = mutation.operator_name.removeprefix("core/")
        print(f"{component}: {'killed' if result.is_killed else 'SURVIVED'} {place} {operator}"
              f" ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
        if not result.is_killed:
            lines = (result.diff or "").splitlines()
            change = "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))
            survivors.append(Survivor(component, place, operator, change, explained.get(change, "")))
    return survivors


def main() -> int:
    """Runs, writes the results, and returns 1 where the score is below the bar."""
    options = argparse.ArgumentParser(description="Mutation tests of the walk.")
    options.add_argument("components", nargs="*", default=COMPONENTS)
    options.add_argument("--each", type=int, default=EACH, help="changes a component")
    options.add_argument("--seed", type=int, default=SEED)
    options.add_argument("--results", type=Path, default=RESULTS, help="where they are written")
    given = options.parse_args()
    explained = json.loads(EXPLAINED.read_text(encoding="utf-8")) if EXPLAINED.exists() else {}
    survivors: list[Survivor] = []
    tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_tree(folder)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = name
        for component in given.components:
            found = candidates(folder, component)
            drawn = random.Random(f"{given.seed} {component}").sample(found, min(given.each, len(found)))
            survivors += judged(folder, component, drawn, explained)
            tried += len(drawn)
    counted = [one for one in survivors if not one.explained]
    score = 1 - len(counted) / tried
    figures = {
        "seed": given.seed,
        "tried": tried,
        "killed": tried - len(survivors),
        "explained": len(survivors) - len(counted),
        "score": round(score, 3),
        "survivors": [asdict(one) for one in survivors],
    }
    given.results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for one in survivors:
        print(f"{one.place}\n{one.change}\n  {one.explained or 'NOT EXPLAINED'}")
    print(f"{tried} changes, {figures['killed']} noticed, {figures['explained']} explained: score {score:.0%}")
    return int(score < BAR)


if __name__ == "__main__":
    sys.exit(main())
