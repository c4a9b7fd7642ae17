"""A file system of its own and of a few MiB, that a test can fill to the last byte."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, size_bytes: int, *, inodes: int = 0) -> Iterator[Path]:
    """A new folder with a tmpfs on it, of so many inodes if not 0; where none can be mounted, the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={inodes}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # lazily: a failed test may have left files open
