"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01


def eventually(condition: Callable[[], T], *, within_seconds: float = 10, why: str = "") -> T:
    """Returns the first truthy value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within_seconds} s: {why or condition}")
        time.sleep(POLL_SECONDS)
