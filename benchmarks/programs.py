"""Generator, counting endpoint and Go bridge, built from Go; without Go, Python stands in for the first two."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
COLLECTOR = ROOT / "build" / "otelcol"
"""What `make collector` builds."""
GO_FOLDERS = ":/usr/local/go/bin"
"""Where Go's own installer puts it, often not on PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Command lines, without their options."""

    generator: tuple[str, ...]
    sink: tuple[str, ...]
    native: bool
    """Whether they are the Go ones; the Go bridge is there then too."""


GO_BRIDGE = BUILD / "gobridge"
NATIVE = Programs(generator=(str(BUILD / "generator"),), sink=(str(BUILD / "sink"),), native=True)
FALLBACK = Programs(
    generator=(sys.executable, "-m", "benchmarks.fallback.generator"),
    sink=(sys.executable, "-m", "benchmarks.fallback.sink"),
    native=False,
)


def build_programs() -> Programs:
    """Builds what has to be built.

    Raises:
        subprocess.CalledProcessError: Go is here and fails, which it shows on stderr.
    """
    compileall.compile_dir(ROOT / "otelbridge", quiet=1)  # as where it is installed, whatever the environment says
    BUILD.mkdir(parents=True, exist_ok=True)
    go = shutil.which("go", path=os.environ.get("PATH", os.defpath) + GO_FOLDERS)
    if go is None:
        print(
            "No Go here: the Python simulator stands in for generator and endpoint. It costs more than the bridge, so"
        )
        print("rates are a tenth, and latencies are its own as well. Install Go >= 1.25 for the figures that count.")
        return FALLBACK
    subprocess.run(
        [go, "build", "-p", "2", "-o", f"{BUILD}/", "./generator", "./sink", "./gobridge"],
        check=True,
        cwd=ROOT / "benchmarks",
    )
    return NATIVE


if __name__ == "__main__":
    build_programs()
