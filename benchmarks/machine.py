"""What the figures were measured on: without it no figure means anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

LIBRARIES = ("grpcio", "protobuf", "opentelemetry-sdk")
LOOP_TURNS = 2_000_000


def describe() -> dict[str, Any]:
    """Cores, processor, memory, kernel, and the versions that matter."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "memory_mib": int((field(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) // 1024,
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "sqlite": sqlite3.sqlite_version,
        "go": go_version(),
    }


def load() -> float:
    """Processes that wanted a core, on average over the last minute: ours and everybody else's."""
    return round(os.getloadavg()[0], 2)


def busy_seconds() -> tuple[float, float]:
    """Core-seconds that the whole machine was busy and idle since it was started."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    user, nice, system, idle, waiting, interrupts, soft, stolen = fields
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft + stolen) / tick, (idle + waiting) / tick


def loop_nanoseconds() -> float:
    """CPU time of one round of a fixed Python loop: a virtual core can be two or three times slower for a while."""
    began, number = time.process_time(), 0
    for turn in range(LOOP_TURNS):
        number += turn & 3
    return round(1e9 * (time.process_time() - began) / LOOP_TURNS, 1)


def go_version() -> str:
    """Empty where there is no Go."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    return (
        subprocess.run([go, "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout.strip()
        if go
        else ""
    )


def commit() -> str:
    """Of this checkout, with a `+` where files of it are changed."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return said.stdout.strip()


def field(file: Path, name: str) -> str:
    """What a file of /proc says in its line `name: value`; empty where it has none."""
    for line in file.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
