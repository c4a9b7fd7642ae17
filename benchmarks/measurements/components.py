"""CPU per event by thread and component: each thread's CPU from the kernel, shared out by samples of its stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.bridges import GRPC_GZIP
from benchmarks.measurements.bench import STEADY_RATE, Bench, Facts

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROFILE = Path(__file__).resolve().parent.parent / "profile.folded"
SAMPLES_PER_SECOND = 200
CORE = "gRPC core (no Python thread)"

Stack = tuple[str, ...]


def measure(bench: Bench) -> Facts:
    """Microseconds per event of each thread, and within it of each component; the samples themselves go into a file."""
    sampler = Path(sys.executable).with_name("py-spy")
    if not sampler.exists():
        return {"skipped": "py-spy is not installed; `make bench` installs it"}
    seconds = bench.pick(quick=5.0, full=12.0)
    with bench.road(GRPC_GZIP) as road, tempfile.TemporaryDirectory() as folder:
        road.stretch(bench.rate(STEADY_RATE), 2)
        pid = road.bridge.pid
        names = thread_names(sampler, pid)
        before = thread_seconds(pid)
        raw = Path(folder) / "raw"
        argv = [str(sampler), "record", "--pid", str(pid), "--rate", str(SAMPLES_PER_SECOND), "--format", "raw"]
        argv += ["--threads", "--full-filenames", "--nolineno", "--nonblocking", "--output", str(raw)]
        with subprocess.Popen(
            [*argv, "--duration", str(int(seconds))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            stretch = road.stretch(bench.rate(STEADY_RATE), seconds)
        after = thread_seconds(pid)
        samples = read_samples(raw.read_text(encoding="utf-8").splitlines())
    by_thread: dict[str, float] = defaultdict(float)
    for thread, spent in after.items():
        by_thread[names.get(thread, CORE)] += 1e6 * (spent - before.get(thread, 0.0)) / max(1, stretch.arrived)
    PROFILE.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in sorted(samples.items())), "utf-8")
    return {
        "per_second": round(stretch.per_second),
        "samples": samples.total(),
        "cpu_us_per_event": round(sum(by_thread.values()), 1),
        "threads": {
            name: round(cost, 1) for name, cost in sorted(by_thread.items(), key=lambda row: -row[1]) if cost > 1e-2
        },
        "components": share_out(by_thread, samples),
    }


def thread_names(sampler: Path, pid: int) -> dict[int, str]:
    """Kernel's thread id to the Python thread's name."""
    dumped = subprocess.run(
        [str(sampler), "dump", "--pid", str(pid), "--json"], check=True, capture_output=True, text=True
    )
    return {thread["os_thread_id"]: thread["thread_name"] or "unnamed" for thread in json.loads(dumped.stdout)}


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU of each thread that lives, in seconds."""
    spent = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        spent[int(task.name)] = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return spent


def read_samples(lines: Iterable[str]) -> Counter[Stack]:
    """Folded stacks: the thread's name, then frames from the outermost, each as `module.py:function`."""
    samples: Counter[Stack] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        samples[thread.partition(": ")[2] or "unnamed", *map(short, frames)] += int(count)
    return samples


def short(frame: str) -> str:
    """`function (/somewhere/package/module.py)` without the somewhere."""
    function, _, path = frame.rpartition(" (")
    path = path.rstrip(")")
    if "/otelbridge/" in path and "/site-packages/" not in path:
        path = "otelbridge/" + path.rpartition("/otelbridge/")[2]
    elif "/site-packages/" in path:
        path = path.rpartition("/site-packages/")[2]
    else:
        path = path.rpartition("/")[2]
    return f"{path}:{function}"


def component_of(stack: Stack) -> str:
    """The component of ours that is innermost, and whether it was inside gRPC."""
    inside = " (gRPC)" if any(frame.startswith(("grpc/", "grpc_")) for frame in stack[-6:]) else ""
    for frame in reversed(stack):
        if frame.startswith("otelbridge/"):
            return frame.split(":")[0].removeprefix("otelbridge/").split("/")[0].removesuffix(".py") + inside
    return "Python itself" + inside


def share_out(by_thread: dict[str, float], samples: Counter[Stack]) -> list[dict[str, str | float]]:
    """Each thread's CPU by component, in the proportion of its samples."""
    of_thread: dict[str, Counter[str]] = defaultdict(Counter)
    for stack, count in samples.items():
        of_thread[stack[0]][component_of(stack[1:])] += count
    rows: list[dict[str, str | float]] = []
    for thread, cost in by_thread.items():
        found = of_thread.get(thread)
        if not found:
            rows.append({"thread": thread, "component": "not sampled", "cpu_us_per_event": round(cost, 2)})
            continue
        rows += [
            {"thread": thread, "component": component, "cpu_us_per_event": round(cost * count / found.total(), 2)}
            for component, count in found.items()
        ]
    return sorted(
        (row for row in rows if float(row["cpu_us_per_event"]) >= 1e-2), key=lambda row: -float(row["cpu_us_per_event"])
    )
