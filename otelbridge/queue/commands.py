"""Commands for the bridge that owns the queue, left as files in its folder: resend dead letters, or drop them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PREFIX = "command-"
SUFFIX = ".json"

Verb = Literal["resend", "discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to do with which dead dead_letters."""

    verb: Verb
    numbers: tuple[int, ...]


def leave(directory: Path, verb: Verb, numbers: Sequence[int]) -> Path:
    """Leaves an command; the bridge does it within a second and deletes the file.

    Raises:
        OSError: the folder can't be written.
    """
    path = directory / f"{PREFIX}{time.time_ns()}-{os.getpid()}{SUFFIX}"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"verb": verb, "numbers": list(numbers)}))
    draft.replace(path)
    return path


def collect(directory: Path) -> Iterator[Command]:
    """The commands that were left, in order; each file is deleted before its command is done: none is done twice."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  # every half second: names do, no Path each
    except OSError:
        return  # the folder can't be read just now; what lies in it stays there
    for name in names:
        if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
            continue
        path = directory / name
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not written by `leave`: nothing to do
            tree = json.loads(path.read_text())
            path.unlink()
            if tree["verb"] in ("resend", "discard"):
                yield Command(verb=tree["verb"], numbers=tuple(int(number) for number in tree["numbers"]))
