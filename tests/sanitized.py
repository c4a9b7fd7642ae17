"""Runs the tests of the compiled encoder under the address and undefined-behaviour sanitizers: `make sanitized`.

The modules are compiled anew, with the sanitizers, in a copy of the package; Python's own allocator is switched off, so
that each object is a piece of memory with bounds of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hatch_build import compile_fastpath

ROOT = Path(__file__).parent.parent
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
TESTS = ("tests/unit/mapping/test_fastpath.py", "tests/unit/test_fuzz_corpus.py")


def main(arguments: list[str]) -> int:
    """Compiles and runs; returns pytest's exit code, or the sanitizer's."""
    compiler = os.environ.get("CC") or "gcc"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("otelbridge", "tests", "docs", "benchmarks", "k8s", "proto"):
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "node_modules")
            )
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.environ["CC"] = f"{compiler} {FLAGS}"
        if not compile_fastpath(copy):
            return 1
        environment = {
            **os.environ,
            "LD_PRELOAD": _library(compiler, "libasan.so"),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it needs until its end
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(copy),
            "REQUIRE_PEERS": "1",  # without the compiled modules there is nothing to see
        }
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider"]
        command.append("--capture=sys")  # a finding is written past Python
        return subprocess.run([*command, *(arguments or TESTS)], cwd=copy, env=environment, check=False).returncode


def _library(compiler: str, name: str) -> str:
    found = subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
