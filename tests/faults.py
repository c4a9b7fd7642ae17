"""Injects a fault at any call of the product's functions: what nobody expects, wherever it comes from."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_GENERATOR
from pathlib import Path
from types import FrameType

import otelbridge

PACKAGE = str(Path(otelbridge.__file__).parent)


class InjectedError(BaseException):
    """What nobody expects, and what is no Exception, as a library's `sys.exit` is none."""


@dataclass
class FaultAtCall:
    """Raises at the n-th call of a function of the product, counted from 0 in the threads that it looks at.

    Args:
        folder: of the product, whose functions are counted.
        spared: beginnings of the names of functions that do not count.
    """

    folder: str = ""
    spared: Collection[str] = ()
    left: int = -1
    """Calls until it raises; below 0 it is not armed."""
    raised: list[str] = field(default_factory=list)
    """The functions' names."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, frame: FrameType, event: str, _: object) -> None:
        """The profile function."""
        code = frame.f_code
        # A generator is also called to be closed, where nothing that is raised reaches anybody.
        if self.left < 0 or event != "call" or code.co_flags & CO_GENERATOR:
            return
        name = code.co_qualname
        if not code.co_filename.startswith(f"{PACKAGE}/{self.folder}") or name.startswith(tuple(self.spared)):
            return
        with self._lock:
            self.left -= 1
            due = self.left == -1
        if due:
            self.raised.append(name)
            raise InjectedError(name)

    @contextmanager
    def in_this_thread(self, call: int) -> Iterator[None]:
        """Raises in this thread, at a call within the context."""
        self.raised.clear()
        self.left = call
        sys.setprofile(self.look)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.left = -1
