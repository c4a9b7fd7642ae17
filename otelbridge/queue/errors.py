"""What must stop a start: the queue belongs to another process, or its folder can't be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(eq=False)  # not frozen: whoever re-raises an exception sets its traceback
class QueueInUse(Exception):  # noqa: N818  # the name says what is the case, as the other values of the room do
    """Another process holds the queue in this folder; two writers would send everything twice."""

    directory: Path
    owner_pid: int | None
    """As the owner wrote it into the lock file; None when that could not be read."""

    def __str__(self) -> str:
        owner = f"process {self.owner_pid}" if self.owner_pid else "another process"
        return (
            f"The queue in {self.directory} is in use by {owner}. "
            "Stop that bridge, or give this one its own folder with queue.directory."
        )


@dataclass(eq=False)  # not frozen: whoever re-raises an exception sets its traceback
class QueueUnusable(Exception):  # noqa: N818  # the same
    """The queue's folder can't be made, or can't be written."""

    directory: Path
    why: str
    cure: str

    def __str__(self) -> str:
        return f"The queue folder {self.directory} can't be used: {self.why}. {self.cure}"
