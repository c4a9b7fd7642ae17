"""A memory limit as a container has it: a control group of its own for one process, where this machine lets us."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MIB = 1024 * 1024
LIMITS = ("memory.max", "memory.limit_in_bytes")
"""In the second and in the first version of the kernel's interface."""
JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execvp(sys.argv[2], sys.argv[2:])"


class MemoryLimit:
    """A group with a limit: the kernel takes cached pages of files back, and where that is not enough it kills."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, *command: str) -> tuple[str, ...]:
        """The command, run within the limit."""
        return (sys.executable, "-c", JOIN, str(self._folder / "cgroup.procs"), *command)

    @property
    def times_reached(self) -> int:
        """How often something had to be taken back."""
        with suppress(OSError):
            return int((self._folder / "memory.failcnt").read_text(encoding="ascii"))
        words = (self._folder / "memory.events").read_text(encoding="ascii").split()
        return int(words[words.index("max") + 1])


@contextmanager
def memory_limit(name: str, limit_mib: int) -> Iterator[MemoryLimit | None]:
    """A group below our own; None where none can be made, without root for one.

    Args:
        name: of the group.
        limit_mib: for all that its processes use, with pages of files and the buffers of sockets.
    """
    folder = _own_group() / name
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        limits = [folder / limit for limit in LIMITS if (folder / limit).exists()]
        for limit in limits:
            limit.write_text(str(limit_mib * MIB), encoding="ascii")
        yield MemoryLimit(folder) if limits else None
    finally:
        folder.rmdir()


def _own_group() -> Path:
    """The group of this process that limits memory; of the second version's where the first has none."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    paths = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    return GROUPS / "memory" / paths["memory"] if "memory" in paths else GROUPS / paths.get("", "")
