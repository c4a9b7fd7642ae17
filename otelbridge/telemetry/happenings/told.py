"""What every happening is, and the one way to tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field
from typing import Any, ClassVar, Protocol


class Happening(Protocol):
    """Any of the dataclasses of this package."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # how typeshed marks a dataclass


Tell = Callable[[Happening], None]
"""Passed into every room; never raises, never blocks, may be called from any thread."""
