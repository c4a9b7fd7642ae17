"""Commands for the bridge that owns the queue, left as files in its folder: resend dead letters, or drop them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PREFIX = "command-"
SUFFIX = ".json"
MAX_BYTES = 1024 * 1024  # of a file; more dead letters than are ever kept
MAX_NUMBER = 2**63

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
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):
                command = _read(directory / name)
                (directory / name).unlink()
                if command is not None:
                    yield command


def _read(path: Path) -> Command | None:
    """The command in a file; None for one that was not written by `leave`, whatever it is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        tree = json.loads(text)
        verb, numbers = tree["verb"], [int(number) for number in tree["numbers"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    known = tuple(number for number in numbers if 0 < number < MAX_NUMBER)
    return Command(verb=verb, numbers=known) if verb in get_args(Verb) else None
